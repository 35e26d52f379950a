"""The log of a run, by loguru, without touching what the application has set up there.

loguru has one global core: every handler sees every record. So the lines of tasks are records of the lowest level that
there is, which no handler of the application takes unless it asks for level 0, and a handler of our own writes them,
with those of its run alone, to the run's file. The start, the end and warnings are ordinary records, which the
application's handlers get as well. One call to loguru costs 15 us, so the lines of a batch go through it as one record.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from itertools import count as counter
from typing import Any, Final

from celestialflow_core._observe.interface import Observer, RunInfo, Settled, Summary
from celestialflow_core._observe.lines import LEVELS, Lines, count
from celestialflow_core._observe.logfile import LogFile, line_format
from celestialflow_core._text import cut, error_text

__all__ = ["LINES_LEVEL", "RunLog", "check_level"]

LINES_LEVEL: Final = "CELESTIALFLOW"
"""The loguru level of the lines of tasks. Its number is 0: below TRACE, and below what any handler takes unasked."""

_HELD_LINES: Final = 256
_HELD_SECONDS: Final = 0.5

_tokens = counter(1)


def check_level(log_level: str) -> int:
    """The number of the loguru level *log_level*: one of the seven standard ones, or one that was added to loguru.

    Raises:
        ValueError: There is no such level.
    """
    if isinstance(log_level, str):
        if log_level in LEVELS:
            return LEVELS[log_level]
        from loguru import logger

        try:
            return logger.level(log_level).no
        except ValueError:
            pass
    advice = ""
    if isinstance(log_level, str) and log_level.upper() in LEVELS:
        advice = f" Did you mean {log_level.upper()!r}?"
    raise ValueError(
        f"log_level must be one of {', '.join(LEVELS)}, or a level that was added to loguru, got {log_level!r}.{advice}"
    )


class RunLog:
    """Writes the log of a run.

    Args:
        log_level: The lowest level that is logged: SUCCESS for each success, WARNING for each retry, ERROR for each
            failure, INFO for each duplicate and cancelled task and for the start and the end of the run.
        log_dir: The folder of the log file, made when it is missing; None: no file, and no line for a task.
        clock: Gives the time, in seconds since the epoch.

    Raises:
        ValueError: There is no such level.
        TypeError: *log_dir* is not a path.
    """

    def __init__(
        self,
        log_level: str = "INFO",
        log_dir: str | os.PathLike[str] | None = "logs",
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._level = check_level(log_level)
        self._log_dir = None if log_dir is None else os.fsdecode(os.fspath(log_dir))
        self._clock = clock
        self._log: Any = None
        self._name = ""
        self._lines_level: str | int = LINES_LEVEL
        self._lines: Lines | None = None
        self._file: LogFile | None = None
        self._handler: int | None = None
        self._token = 0
        self._held: list[str] = []
        self._written = 0.0

    def start(self, run: RunInfo) -> None:
        """Open the log: the folder is resolved now, so that a task may change the working directory."""
        from loguru import logger

        now = self._clock()
        self._token = next(_tokens)
        self._log = logger.bind(celestialflow_run=self._token)
        self._name = cut(run.name, 100)
        self._held = []
        self._written = now
        self._lines = None
        self._file = None
        if self._log_dir is not None:
            try:
                folder = os.path.abspath(self._log_dir)
            except OSError as error:  # the working directory is gone
                self._lost(self._log_dir, error)
            else:
                self._lines = Lines(run, self._level)
                self._file = LogFile(folder, now)
                self._register(logger)
                self._attach(self._file)
        if self._level <= LEVELS["INFO"]:
            tasks = "tasks" if run.total is None else count(run.total, "task")
            workers = "" if run.workers is None else f" with {count(run.workers, 'worker')}"
            self._record("INFO", f"{self._name} starts {tasks} in {run.mode} mode{workers}.")

    def settled(self, batch: Settled) -> None:
        """Write the lines of a batch."""
        if self._lines is not None:
            self._settled(self._lines, batch)

    def _settled(self, lines: Lines, batch: Settled) -> None:
        self._held += lines.settled(batch, self._clock())
        self._flush()

    def retried(self, task: Any, error: BaseException, attempt: int, delay: float) -> None:
        """Write the line of a retry, at once or, where they come fast, together with those that follow."""
        if self._lines is not None:
            self._retried(self._lines, task, error, attempt, delay)

    def _retried(self, lines: Lines, task: Any, error: BaseException, attempt: int, delay: float) -> None:
        now = self._clock()
        line = lines.retried(task, error, attempt, delay, now)
        if line is not None:
            self._held.append(line)
            if len(self._held) >= _HELD_LINES or not 0 <= now - self._written < _HELD_SECONDS:
                self._flush()

    def warning(self, text: str) -> None:
        """Log a warning about the run itself: an ordinary record, which the application's handlers get too."""
        if self._log is not None and self._level <= LEVELS["WARNING"]:
            self._record("WARNING", text)

    def finish(self, summary: Summary | None) -> None:
        """Log the end, and take the run's handler out of loguru."""
        if self._log is None:
            return
        try:
            self._flush()
            if self._level <= LEVELS["INFO"]:
                self._record("INFO", f"{self._name} ended." if summary is None else str(summary).split("\n", 1)[0])
        finally:
            self._detach()
            self._log = self._lines = None

    def part(self) -> Observer:
        """An observer of one stage of this run, which has several: its lines go where the run's go."""
        return _Part(self)

    def _flush(self) -> None:
        if not self._held:
            return
        lines, self._held = self._held, []
        self._written = self._clock()
        self._record(self._lines_level, "\n".join(lines), celestialflow_lines=True)

    def _record(self, level: str | int, text: str, **extra: bool) -> None:
        """One record. *text* is never formatted by loguru, since it is given no arguments: braces stay braces."""
        if self._file is not None and self._file.stopped:
            # The application has called logger.remove() meanwhile, as scripts do when they set up their own logging.
            self._attach(self._file)
        (self._log.bind(**extra) if extra else self._log).log(level, text)
        # Reported here, since a sink must not log: loguru holds the handler's lock while it writes.
        if self._file is not None and self._file.error is not None:
            path, error = self._file.path, self._file.error
            self._file = self._lines = None
            self._detach()
            self._lost(path, error)

    def _lost(self, path: str, error: OSError) -> None:
        # Whatever the level: who asked for errors alone would otherwise miss them without a word.
        self._log.warning(
            f"{self._name}: the log in {cut(path, 0)} cannot be written, and the run goes on without it: "
            f"{error_text(error, 200)}"
        )

    def _register(self, logger: Any) -> None:
        self._lines_level = LINES_LEVEL
        try:
            number = logger.level(LINES_LEVEL).no
        except ValueError:
            try:
                number = logger.level(LINES_LEVEL, no=0, icon=" ").no
            except ValueError:  # another thread has just added it
                number = logger.level(LINES_LEVEL).no
        if number != 0:  # the application has a level of this name; then ours has none
            self._lines_level = 0

    def _attach(self, file: LogFile) -> None:
        from loguru import logger

        token = self._token
        file.stopped = False
        self._handler = logger.add(
            file,
            level=0,
            format=line_format,
            filter=lambda record: record["extra"].get("celestialflow_run") == token,
            colorize=False,
            backtrace=False,
            diagnose=False,
            enqueue=False,
        )

    def _detach(self) -> None:
        handler, self._handler = self._handler, None
        if handler is None:
            return
        from loguru import logger

        try:
            logger.remove(handler)
        except ValueError:  # the application has removed it with its own
            pass


class _Part:
    """Writes the lines of one stage into the log of its run."""

    def __init__(self, log: RunLog) -> None:
        self._log = log
        self._lines: Lines | None = None

    def start(self, run: RunInfo) -> None:
        self._lines = Lines(run, self._log._level)

    def settled(self, batch: Settled) -> None:
        if self._lines is not None and self._log._lines is not None:  # there is a file, and it can be written
            self._log._settled(self._lines, batch)

    def retried(self, task: Any, error: BaseException, attempt: int, delay: float) -> None:
        if self._lines is not None and self._log._lines is not None:
            self._log._retried(self._lines, task, error, attempt, delay)

    def finish(self, summary: Summary | None) -> None:
        self._lines = None
