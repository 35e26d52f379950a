"""Reads a `SqliteStore` without changing it, also while a run writes to it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from celestialflow_core.errors import SinkError
from celestialflow_core.sinks._rows import Row
from celestialflow_core.sinks._sqlite import COLUMNS, check_ours, key_from_stored, stored_manifest, what_happened
from celestialflow_core.sinks.interface import Manifest

__all__ = ["SqliteReader"]


class SqliteReader:
    """The rows of a store, as they are when they are asked for.

    Args:
        path: The database.
        label: What to call it in messages.
    """

    def __init__(self, path: Path, label: str) -> None:
        self._path = path
        self._label = label
        self._connection: sqlite3.Connection | None = None
        self._manifest: Manifest | None = None

    def __enter__(self) -> Self:
        try:
            self._path.stat()
        except FileNotFoundError:
            raise SinkError(self._label, f"There is no store at {self._path}.") from None
        except OSError as error:
            raise SinkError(self._label, f"{self._path} cannot be read ({error.strerror}).") from error
        self._connection = sqlite3.connect(self._source(), timeout=30.0, isolation_level=None, uri=True)
        try:
            if check_ours(self._connection, self._label):
                self._manifest = stored_manifest(self._connection)
            if self._manifest is None:
                raise SinkError(self._label, "Nothing has been stored in it yet.")
        except BaseException as error:
            self._connection.close()
            if isinstance(error, sqlite3.Error):
                raise self._failed(error) from error
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @property
    def manifest(self) -> Manifest:
        """What the store is of."""
        if self._manifest is None:
            raise SinkError(self._label, "It is not open. Use it in a with statement.")
        return self._manifest

    def count(self) -> int:
        """How many tasks the store knows."""
        return int(next(self._execute("SELECT count(*) FROM results"))[0])

    def rows(
        self, *, status: str | None = None, stage: str | None = None, error_type: str | None = None
    ) -> Iterator[Row]:
        """The rows, one a task, in the order in which they were stored; only those with what is given."""
        wanted = {"status": status, "stage": stage, "error_type": error_type}
        given = {column: value for column, value in wanted.items() if value is not None}
        where = f" WHERE {' AND '.join(f'{column} = ?' for column in given)}" if given else ""
        for key, *row in self._execute(f"SELECT {COLUMNS} FROM results{where} ORDER BY rowid", *given.values()):
            yield Row(key_from_stored(key), *row)

    def _execute(self, question: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        if self._connection is None:
            raise SinkError(self._label, "It is not open. Use it in a with statement.")
        try:
            # No "yield from": that closes the cursor of rows that nobody wants, when the database is closed already.
            for row in self._connection.execute(question, values):  # noqa: UP028
                yield row
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _source(self) -> str:
        # In a folder that cannot be written, a database in write-ahead mode opens only if it is said to be immutable:
        # which it is, unless there is a log beside it.
        log = self._path.with_name(self._path.name + "-wal")
        still = not log.exists() and not os.access(self._path.parent, os.W_OK, effective_ids=True)
        return f"file:{quote(str(self._path))}?{'immutable=1' if still else 'mode=ro'}"

    def _failed(self, error: sqlite3.Error) -> SinkError:
        return SinkError(self._label, what_happened(error, self._path))
