"""Reads a `JsonlStore` without changing it, also while a run writes to it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from celestialflow_core.errors import SinkError
from celestialflow_core.sinks import _manifest
from celestialflow_core.sinks._line_index import Damaged, LineIndex, Window, complete_size, last_line, lines_up_to
from celestialflow_core.sinks._lines import FIRST_START, VERSION, manifest_of, row_of
from celestialflow_core.sinks._reading import matching
from celestialflow_core.sinks._rows import Row
from celestialflow_core.sinks.interface import Manifest

__all__ = ["JsonlReader", "damaged", "stored_manifest"]


class JsonlReader:
    """The rows of a store, as they were when it was entered. A last line that is not complete is left aside.

    Args:
        path: The file.
        label: What to call it in messages.
    """

    def __init__(self, path: Path, label: str) -> None:
        self._path = path
        self._label = label
        self._fd = -1
        self._size = 0
        self._index: LineIndex | None = None

    def __enter__(self) -> Self:
        try:
            self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise SinkError(self._label, f"There is no store at {self._path}.") from None
        except OSError as error:
            raise SinkError(self._label, f"{self._path} cannot be read ({error.strerror}).") from error
        try:
            self._size = complete_size(self._fd, os.fstat(self._fd).st_size)
            self._manifest = stored_manifest(self._fd, self._size, self._label, self._path)
            self._index = LineIndex(self._path, self._fd, self._size)
        except BaseException as error:
            self.__exit__(None, None, None)
            if isinstance(error, Damaged):
                raise damaged(self._label, self._path, error) from error
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        fd, self._fd = self._fd, -1
        self._index = None
        if fd >= 0:
            os.close(fd)

    @property
    def manifest(self) -> Manifest:
        """What the store is of."""
        self._opened()
        return self._manifest

    def count(self) -> int:
        """How many tasks the store knows."""
        return self._opened().count

    def rows(
        self, *, status: str | None = None, stage: str | None = None, error_type: str | None = None
    ) -> Iterator[Row]:
        """The rows, one a task, in the order in which they were stored; only those with what is given."""
        return matching(self._rows(self._opened()), status, stage, error_type)

    def _rows(self, index: LineIndex) -> Iterator[Row]:
        for offset, line in lines_up_to(self._path, self._size):
            if line.startswith(FIRST_START) or line == b"\n" or not index.is_last(line, offset):
                continue
            try:
                yield row_of(line)
            except ValueError as error:
                raise damaged(self._label, self._path, Damaged(f"the line at byte {offset}: {error}")) from error

    def _opened(self) -> LineIndex:
        if self._index is None:
            raise SinkError(self._label, "It is not open. Use it in a with statement.")
        return self._index


def stored_manifest(fd: int, size: int, label: str, path: Path) -> Manifest:
    """What the file says that it is of: in its first line, or in the last that says it again.

    Raises:
        SinkError: It says nothing of the kind, or it is of another version.
    """
    line = Window(fd).line_at(0)
    if not line.endswith(b"\n") or not line.startswith(FIRST_START):
        raise SinkError(label, f"{path} is no result store. Give a file of its own.")
    _read_manifest(line, label, path)
    return _read_manifest(last_line(fd, size, FIRST_START), label, path)


def damaged(label: str, path: Path, error: Exception) -> SinkError:
    """That a line of the store cannot be read."""
    return SinkError(
        label, f"{path} is damaged ({error}). Remove that line, and its task runs again; or give another file."
    )


def _read_manifest(line: bytes, label: str, path: Path) -> Manifest:
    try:
        version, manifest = manifest_of(line)
        if version == VERSION:
            return _manifest.from_json(manifest)
    except (ValueError, TypeError) as error:
        raise damaged(label, path, Damaged(f"its manifest: {error}")) from error
    raise SinkError(
        label,
        f"It was written by another version of celestialflow-core (its lines are of version {version}, and this one "
        f"knows {VERSION}). Use that version, or give a new file.",
    )
