"""A part: one Parquet file, written under another name, and read a row group at a time.

A Parquet file has its table of contents at the end, so what is cut off is lost. A part is therefore written to its end
before it gets its name; under it, it is complete, also for a reader that knows nothing of us.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from celestialflow_arrow._columns import SCHEMA, VERSION
from celestialflow_arrow._folder import Folder, PartName

__all__ = ["Changed", "Damaged", "LoadedRows", "PartFile", "Source", "write_part"]

_WRITING: Final[dict[str, Any]] = {
    "compression": "zstd",
    "use_dictionary": ["stage", "status", "error_type", "error_message", "error_place", "error_traceback"],
    "write_page_checksum": True,
}


class Damaged(ValueError):
    """A file is no part. Its text says which one and why."""


class Changed(Exception):
    """A part is no longer what it was when it was looked at."""


class Source(Protocol):
    """Rows that are read a group at a time."""

    @property
    def sizes(self) -> Sequence[int]:
        """How many rows each group has."""
        ...

    def read(self, group: int, columns: Sequence[str]) -> Any:
        """These columns of a group, as an Arrow table."""
        ...


class LoadedRows:
    """Rows that are in memory."""

    def __init__(self, tables: Sequence[Any]) -> None:
        self._tables = tables
        self.sizes: Sequence[int] = [table.num_rows for table in tables]

    def read(self, group: int, columns: Sequence[str]) -> Any:
        """These columns of a group."""
        return self._tables[group].select(list(columns))


class PartFile:
    """The part at *path*.

    Args:
        path: Where it is.
        held: Whether the file is kept open, up to `close`, so that it can be read whatever becomes of its name. Else it
            is open only while it is read: a store may have more parts than a process has descriptors.

    Attributes:
        sizes: How many rows each group has.
        bytes: How large the file is.

    Raises:
        Damaged: The file is no part of a store, or none that this version knows.
        FileNotFoundError: It is gone.
    """

    def __init__(self, path: Path, held: bool = False) -> None:
        self.path = path
        self._file: BinaryIO | None = None
        with ExitStack() as stack:
            file = stack.enter_context(open(path, "rb"))
            self._identity = _identity(file.fileno())
            self._metadata = _metadata_of(file, path)
            if held:
                self._file = file
                stack.pop_all()
        self.sizes: Sequence[int] = [
            self._metadata.row_group(group).num_rows for group in range(self._metadata.num_row_groups)
        ]
        self.bytes = self._identity[1]

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return sum(self.sizes)

    def read(self, group: int, columns: Sequence[str]) -> Any:
        """These columns of a group.

        Raises:
            Changed: The file was replaced or removed since it was looked at.
            Damaged: It does not hold what it should.
        """
        if self._file is not None:
            return self._read(self._file, group, columns)
        try:
            with open(self.path, "rb") as file:
                if _identity(file.fileno()) != self._identity:
                    raise Changed(f"{self.path} was replaced")
                return self._read(file, group, columns)
        except FileNotFoundError as error:
            raise Changed(f"{self.path} was removed") from error

    def close(self) -> None:
        """Let go of the file, if it is held."""
        if self._file is not None:
            self._file.close()

    def _read(self, file: BinaryIO, group: int, columns: Sequence[str]) -> Any:
        try:
            with pq.ParquetFile(file, metadata=self._metadata, page_checksum_verification=True) as opened:
                return opened.read_row_group(group, columns=list(columns), use_threads=False)
        except (OSError, pa.ArrowInvalid) as error:
            raise Damaged(f"{self.path} is damaged ({_said(error)})") from error


def write_part(folder: Folder, name: PartName, tables: Iterable[Any]) -> None:
    """Make the part *name* of *tables*; each of them becomes a row group.

    When this returns, the part outlives a power failure.
    """
    unfinished = folder.unfinished(name)
    try:
        with open(unfinished, "wb") as file:
            writer = pq.ParquetWriter(file, SCHEMA, **_WRITING)
            try:
                for table in tables:
                    writer.write_table(table)
                writer.close()
            finally:
                writer.is_open = False  # else it tries to end a file that it could not write when it is collected
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, folder.part(name))
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    folder.sync()


def _metadata_of(file: BinaryIO, path: Path) -> Any:
    try:
        metadata = pq.read_metadata(file)
        schema = metadata.schema.to_arrow_schema()
    except (OSError, pa.ArrowInvalid) as error:
        raise Damaged(f"{path} is damaged ({_said(error)})") from error
    version = (schema.metadata or {}).get(b"celestialflow_store")
    if version is None:
        raise Damaged(f"{path} is no part of a result store")
    if version != VERSION or not schema.equals(SCHEMA):
        raise Damaged(f"{path} was written by another version of celestialflow-arrow")
    return metadata


def _identity(fd: int) -> tuple[int, int, int]:
    status = os.fstat(fd)
    return status.st_ino, status.st_size, status.st_mtime_ns


def _said(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
