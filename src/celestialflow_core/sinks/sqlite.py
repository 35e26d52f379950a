"""``sqlite:results.db``: a store in one SQLite database, with one row a task.

    sqlite:results.db    sqlite:///home/me/results.db    sqlite:results.db?synchronous=full

A batch is a transaction, in write-ahead mode: what `write` has returned from outlives the process, and others may read
while it goes on. ``synchronous=full`` makes it outlive a power failure too, at the price of an fsync a batch.

The key is stored as 16 bytes, not as 36 characters. Keys are digests, so each row goes into another page of the index,
and what a million rows cost is mostly that: with the text as key, with or without rowid, they took twice as long.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from time import time
from typing import Any, Final

from celestialflow_core._outcome import Outcome
from celestialflow_core.errors import SinkError
from celestialflow_core.sinks import _manifest
from celestialflow_core.sinks._lock import StoreLock
from celestialflow_core.sinks._rows import Row, record_of, rows_of
from celestialflow_core.sinks._sqlite import (
    INSERT,
    connect,
    key_to_stored,
    put_manifest,
    set_up,
    stored_manifest,
    what_happened,
)
from celestialflow_core.sinks._sqlite_reader import SqliteReader
from celestialflow_core.sinks._urls import FileUrl
from celestialflow_core.sinks.interface import Manifest, Record

__all__ = ["SqliteStore"]

_OPTIONS: Final = {"synchronous": ("normal", "full")}
_CHUNK: Final = 500  # keys in one question; an old SQLite takes 999 at most
_ASK: Final = (
    "SELECT key, status, value, value_pickle, error_type, error_message, error_traceback, error_pickle, attempts, "
    "seconds FROM results WHERE key IN "
)
_ASK_MANY: Final = f"{_ASK}({','.join('?' * _CHUNK)})"


class SqliteStore:
    """Keeps outcomes in a SQLite database.

    Args:
        url: ``sqlite:path``, with ``?synchronous=full`` if it shall outlive a power failure.

    Raises:
        SinkError: The URL names no file, or an option that there is not.
    """

    def __init__(self, url: str) -> None:
        self._url = FileUrl.parse(url, _OPTIONS)
        self._lock: StoreLock | None = None
        self._connection: sqlite3.Connection | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._url.label}>"

    def open(self, run: Manifest) -> None:
        """Take the lock, and make the database or check that this run may go on with it."""
        if self._connection is not None:
            raise SinkError(self._url.label, "It is open already. Give each run a store of its own.")
        self._lock = StoreLock.acquire(self._url.path, self._url.label)
        try:
            self._connection = connect(self._url.path, self._url.options.get("synchronous", "normal"), self._url.label)
            self._transact(self._prepare, run)
        except BaseException as error:
            self.close(error)
            if isinstance(error, sqlite3.Error):
                raise self._failed(error) from error
            raise

    def write(self, outcomes: Sequence[Outcome[Any, Any]]) -> None:
        """Store *outcomes* in one transaction: all of them, or none."""
        try:
            self._put(rows_of(outcomes, time()))
        except (sqlite3.Error, ValueError, OverflowError) as error:
            raise self._failed(error, outcomes) from error

    def put(self, rows: Iterable[Row]) -> None:
        """Store *rows* of another store."""
        try:
            self._put(rows)
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def restore(self, keys: Sequence[str]) -> Mapping[str, Record]:
        """What is known of the tasks with these keys."""
        found: dict[str, Record] = {}
        connection = self._opened()
        try:
            for start in range(0, len(keys), _CHUNK):
                asked = {key_to_stored(key): key for key in keys[start : start + _CHUNK]}
                question = _ASK_MANY if len(asked) == _CHUNK else f"{_ASK}({','.join('?' * len(asked))})"
                for stored, *row in connection.execute(question, tuple(asked)):
                    key = asked[stored]
                    record = record_of(key, *row)
                    if record is not None:
                        found[key] = record
        except sqlite3.Error as error:
            raise self._failed(error) from error
        return found

    def close(self, error: BaseException | None) -> None:
        """Close the database and give up the lock. May be called twice."""
        connection, self._connection = self._connection, None
        lock, self._lock = self._lock, None
        try:
            if connection is not None:
                connection.close()
        except sqlite3.Error as failure:
            # What was accepted is in the write-ahead log, from where the next open takes it.
            if error is None:
                raise self._failed(failure) from failure
        finally:
            if lock is not None:
                lock.release()

    def reader(self) -> SqliteReader:
        """What reads the store without changing it, also while a run writes to it."""
        return SqliteReader(self._url.path, self._url.label)

    def _prepare(self, connection: sqlite3.Connection, run: Manifest) -> None:
        set_up(connection, self._url.label)
        stored = stored_manifest(connection)
        if stored is not None:
            _manifest.check(self._url.label, stored, run)
            run = _manifest.joined(stored, run)
        put_manifest(connection, run)

    def _put(self, rows: Iterable[tuple[Any, ...]]) -> None:
        self._transact(lambda connection, given: connection.executemany(INSERT, _bound(given)), rows)

    def _transact(self, work: Any, argument: Any) -> None:
        """Do *work* in a transaction that is undone whatever goes wrong in it, Ctrl-C included."""
        connection = self._opened()
        connection.execute("BEGIN IMMEDIATE")
        try:
            work(connection, argument)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # after some errors SQLite has undone it already
                connection.execute("ROLLBACK")
            raise

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise SinkError(self._url.label, "It is not open.")
        return self._connection

    def _failed(self, error: Exception, outcomes: Sequence[Outcome[Any, Any]] = ()) -> SinkError:
        return SinkError(self._url.label, what_happened(error, self._url.path), tuple(outcomes))


def _bound(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    return ((key_to_stored(row[0]), *row[1:]) for row in rows)
