"""``jsonl:out.jsonl``: a store in one file of JSON lines, to which each batch is appended.

    jsonl:out.jsonl    jsonl:///home/me/out.jsonl    jsonl:out.jsonl?synchronous=full

The first line says what the store is of, each other line is a task; of two lines of one task the later counts. A batch
is one write: what `write` has returned from is the kernel's, and outlives the process. ``synchronous=full`` makes it
outlive a power failure too, at the price of an fsync a batch.

A process that is killed while it writes may leave a last line that is torn. The next `open` moves it to a file beside
the store, and says so; its task is not known, and runs again. A run that goes on keeps where each line is: 16 bytes for
each task that is stored.
"""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Iterable, Mapping, Sequence
from time import time
from typing import Any, Final

from celestialflow_core._outcome import Outcome
from celestialflow_core.errors import SinkError
from celestialflow_core.sinks import _manifest
from celestialflow_core.sinks._jsonl_reader import JsonlReader, damaged, stored_manifest
from celestialflow_core.sinks._line_index import Damaged, LineIndex, complete_size
from celestialflow_core.sinks._lines import FIRST_START, first_line, lines_of, record_in
from celestialflow_core.sinks._lock import StoreLock, cannot_write
from celestialflow_core.sinks._rows import Row, rows_of
from celestialflow_core.sinks._urls import FileUrl
from celestialflow_core.sinks.interface import Manifest, Record

__all__ = ["JsonlStore", "TornLine"]

_OPTIONS: Final = {"synchronous": ("normal", "full")}


class TornLine(UserWarning):
    """The last line of a store was incomplete, since its writer had been killed; it was moved to a file beside it."""


class JsonlStore:
    """Keeps outcomes in a file of JSON lines.

    Args:
        url: ``jsonl:path``, with ``?synchronous=full`` if it shall outlive a power failure.

    Raises:
        SinkError: The URL names no file, or an option that there is not.
    """

    def __init__(self, url: str) -> None:
        self._url = FileUrl.parse(url, _OPTIONS)
        self._path = self._url.path
        self._full = self._url.options.get("synchronous") == "full"
        self._lock: StoreLock | None = None
        self._fd = -1
        self._size = 0
        self._index: LineIndex | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._url.label}>"

    def open(self, run: Manifest) -> None:
        """Take the lock, and make the file or check that this run may go on with it."""
        if self._lock is not None:
            raise SinkError(self._url.label, "It is open already. Give each run a store of its own.")
        self._lock = StoreLock.acquire(self._path, self._url.label)
        try:
            torn = self._prepare(run)
            if run.resume:
                self._index = self._indexed()
            if torn:
                warnings.warn(TornLine(torn), stacklevel=2)
        except BaseException as error:
            self.close(error)
            if isinstance(error, OSError):
                raise SinkError(self._url.label, cannot_write(self._path, error)) from error
            raise

    def write(self, outcomes: Sequence[Outcome[Any, Any]]) -> None:
        """Store *outcomes*, all of them or none."""
        try:
            self._append(lines_of(rows_of(outcomes, time())))
        except (OSError, ValueError) as error:
            raise SinkError(self._url.label, self._why(error), tuple(outcomes)) from error

    def put(self, rows: Iterable[Row]) -> None:
        """Store *rows* of another store."""
        try:
            self._append(lines_of(rows))
        except OSError as error:
            raise SinkError(self._url.label, self._why(error)) from error

    def restore(self, keys: Sequence[str]) -> Mapping[str, Record]:
        """What is known of the tasks with these keys, as far as it was stored before the first question."""
        self._check_open()
        if self._index is None:
            self._index = self._indexed()
        found: dict[str, Record] = {}
        try:
            for key, line in self._index.lines_of(keys):
                record = record_in(key, line)
                if record is not None:
                    found[key] = record
        except ValueError as error:
            raise damaged(self._url.label, self._path, error) from error
        except OSError as error:
            raise SinkError(self._url.label, f"{self._path} cannot be read ({error.strerror}).") from error
        return found

    def close(self, error: BaseException | None) -> None:
        """Close the file and give up the lock. May be called twice."""
        fd, self._fd = self._fd, -1
        lock, self._lock = self._lock, None
        self._index = None
        try:
            if fd >= 0:
                os.close(fd)
        finally:
            if lock is not None:
                lock.release()

    def reader(self) -> JsonlReader:
        """What reads the store without changing it, also while a run writes to it."""
        return JsonlReader(self._path, self._url.label)

    def _prepare(self, run: Manifest) -> str:
        """Get the file ready for appending; returns what to warn of."""
        try:
            if not stat.S_ISREG(self._path.stat().st_mode):
                raise SinkError(self._url.label, f"{self._path} is no ordinary file. Give a path of its own.")
        except FileNotFoundError:
            pass
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        size = os.fstat(self._fd).st_size
        self._size = complete_size(self._fd, size)
        if size and not self._size and not _is_torn_first_line(os.pread(self._fd, len(FIRST_START), 0)):
            raise SinkError(self._url.label, f"{self._path} is no result store. Give a file of its own.")
        stored = stored_manifest(self._fd, self._size, self._url.label, self._path) if self._size else None
        if stored is not None:
            _manifest.check(self._url.label, stored, run)
        torn = self._set_aside(size) if size > self._size else ""
        joined = run if stored is None else _manifest.joined(stored, run)
        if stored is None or _manifest.to_json(joined) != _manifest.to_json(stored):
            self._append(first_line(_manifest.to_json(joined)))
        return torn

    def _set_aside(self, size: int) -> str:
        """Move what follows the last complete line to a file beside the store."""
        aside = self._path.with_name(self._path.name + ".torn")
        with open(aside, "ab") as file:
            for begin in range(self._size, size, 1 << 20):
                file.write(os.pread(self._fd, min(1 << 20, size - begin), begin))
            file.write(b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.ftruncate(self._fd, self._size)
        return (
            f"{self._url.label}: the last line was incomplete ({size - self._size} bytes): the process that wrote it "
            f"had been killed. It was moved to {aside}; its task counts as not done."
        )

    def _indexed(self) -> LineIndex:
        try:
            return LineIndex(self._path, self._fd, self._size)
        except Damaged as error:
            raise damaged(self._url.label, self._path, error) from error

    def _append(self, data: bytes) -> None:
        """Write *data* at the end, or nothing of it."""
        self._check_open()
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(self._fd, left) :]
            if self._full:
                os.fsync(self._fd)
        except BaseException:
            # A part may be there, and the next line must not follow it. If that cannot be undone nothing more is
            # written, and the next open finds a torn line.
            try:
                os.ftruncate(self._fd, self._size)
            except OSError:
                os.close(self._fd)
                self._fd = -1
            raise
        self._size += len(data)

    def _check_open(self) -> None:
        if self._fd < 0:
            raise SinkError(self._url.label, "It is not open.")

    def _why(self, error: Exception) -> str:
        if not isinstance(error, OSError):
            return str(error)
        return (
            f"{cannot_write(self._path, error)} What was accepted is stored; a run with resume=True goes on from there."
        )


def _is_torn_first_line(begin: bytes) -> bool:
    """Whether a file that begins so, and has no complete line, is one of ours that was killed when it was new."""
    return len(begin) > len(FIRST_START) // 2 and FIRST_START.startswith(begin)
