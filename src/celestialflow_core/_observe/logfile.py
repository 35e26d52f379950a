"""The run's own log file, as a loguru sink: it appends whole lines, and never raises.

A log must not cost a run its results. The first OSError (a full disk, a read-only folder, a file where the folder
should be) is kept in `error` for `RunLog` to report, and what comes later is dropped.
"""

from __future__ import annotations

import os
from time import localtime, strftime
from typing import Any

__all__ = ["LogFile", "line_format"]


def line_format(record: Any) -> str:
    """loguru's format for a record of ours: the lines of a batch are whole, an ordinary record gets its stamp."""
    if record["extra"].get("celestialflow_lines"):
        return "{message}\n"
    return "{time:YYYY-MM-DD HH:mm:ss} {level} {message}\n"


class LogFile:
    """``task_logger(YYYY-MM-DD).log`` in a folder that is made with the first line.

    Args:
        folder: Its absolute path.
        now: When the run starts, in seconds since the epoch; a run keeps the file of the day on which it started.
    """

    __slots__ = ("_file", "error", "path", "stopped")

    def __init__(self, folder: str, now: float) -> None:
        self.path = os.path.join(folder, strftime("task_logger(%Y-%m-%d).log", localtime(now)))
        self.error: OSError | None = None
        self.stopped = False
        """True once loguru has let go of this sink, at the end of the run or because the application removed it."""
        self._file: Any = None

    def write(self, message: str) -> None:
        """Append *message*, in one write, so that the lines of several processes do not mix."""
        if self.error is not None:
            return
        try:
            if self._file is None:
                os.makedirs(os.path.dirname(self.path), exist_ok=True)
                self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115  # closed by stop
            rest = memoryview(message.encode("utf-8", "backslashreplace"))
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self.error = error

    def stop(self) -> None:
        """Close the file. loguru calls this when it removes the sink."""
        self.stopped = True
        file, self._file = self._file, None
        if file is None:
            return
        try:
            file.close()
        except OSError as error:  # a network file system may report a failed write only now
            self.error = self.error or error
