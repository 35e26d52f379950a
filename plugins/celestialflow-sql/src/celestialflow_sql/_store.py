"""``postgresql://user@host/database``: a store in a database server, with one row a task.

    postgresql://ana:secret@db.example/crawl    mariadb://ana@db.example/crawl?table_prefix=monday_

A batch is a transaction: what `write` has returned from is as durable as the server makes what it commits. The lock is
the server's and belongs to the connection, so it ends with the process, however that ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from time import time
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from celestialflow_core import Outcome
from celestialflow_core.errors import SinkError
from celestialflow_core.sinks import (
    Manifest,
    Record,
    Row,
    check_manifest,
    join_manifests,
    manifest_to_json,
    record_of,
    rows_of,
)
from celestialflow_sql._holder import ourselves
from celestialflow_sql._link import Link
from celestialflow_sql._reader import SqlReader
from celestialflow_sql._schema import make_tables, stored_manifest
from celestialflow_sql._tables import TABLES_VERSION, Tables, size_of
from celestialflow_sql._target import Target

__all__ = ["SqlStore"]

T = TypeVar("T")

_CHUNK: Final = 500  # keys in one question, rows in one put
_RECORD: Final = (
    "key", "status", "value", "value_pickle", "error_type", "error_message", "error_traceback", "error_pickle",
    "attempts", "seconds",
)  # fmt: skip


class SqlStore:
    """Keeps outcomes in PostgreSQL, MariaDB or MySQL.

    Args:
        url: See the top of the module.

    Raises:
        SinkError: The URL is not one that this store understands.
    """

    def __init__(self, url: str) -> None:
        self._target = Target.parse(url)
        self._tables = Tables(self._target.prefix)
        self._link = Link(self._target, self._tables)
        self._upsert = self._link.database.upsert(self._tables.results)
        results = self._tables.results
        self._ask = sa.select(*(results.c[name] for name in _RECORD)).where(
            results.c.key.in_(sa.bindparam("keys", expanding=True))
        )
        self._generation = 0
        self._seq = 0  # the number of the next row

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._target.label}>"

    def open(self, run: Manifest) -> None:
        """Take the lock, and make the tables or check that this run may go on with them."""
        if self._link.is_open:
            raise SinkError(self._target.label, "It is open already. Give each run a store of its own.")
        try:
            self._link.open()
            self._link.transact(lambda connection: self._prepare(connection, run))
            self._generation = self._link.generation
        except BaseException:
            self._link.close()
            raise

    def write(self, outcomes: Sequence[Outcome[Any, Any]]) -> None:
        """Store *outcomes* in one transaction: all of them, or none."""
        try:
            rows = rows_of(outcomes, time())
        except ValueError as error:
            raise SinkError(self._target.label, str(error), tuple(outcomes)) from error
        self._put(rows, tuple(outcomes))

    def put(self, rows: Iterable[Row]) -> None:
        """Store *rows* of another store."""
        self._put(list(rows), ())

    def restore(self, keys: Sequence[str]) -> Mapping[str, Record]:
        """What is known of the tasks with these keys."""
        found: dict[str, Record] = {}
        for start in range(0, len(keys), _CHUNK):
            asked = {_stored(key): key for key in keys[start : start + _CHUNK]}
            for stored, *row in self._transact(partial(self._find, list(asked))):
                key = asked[stored]
                record = record_of(key, *row)
                if record is not None:
                    found[key] = record
        return found

    def close(self, error: BaseException | None) -> None:
        """Give up the lock and the connection. May be called twice."""
        self._link.close()

    def reader(self) -> SqlReader:
        """What reads the store without changing it, also while a run writes to it."""
        return SqlReader(self._target)

    def _prepare(self, connection: Connection, run: Manifest) -> None:
        make_tables(connection, self._tables, self._target.label)
        manifest = self._tables.manifest
        stored = stored_manifest(connection, self._tables, self._target.label)
        if stored is not None:
            check_manifest(self._target.label, stored, run)
            run = join_manifests(stored, run)
        known = {"tables_version": TABLES_VERSION, "json": manifest_to_json(run), **ourselves(self._link.session)}
        put = manifest.insert().values(id=1) if stored is None else manifest.update().where(manifest.c.id == 1)
        connection.execute(put, known)
        self._seq = self._next_seq(connection)

    def _put(self, rows: Sequence[tuple[Any, ...]], unwritten: tuple[object, ...]) -> None:
        if not rows:
            return

        def put(connection: Connection) -> None:
            given = [dict(zip(Row._fields, row, strict=True), seq=seq) for seq, row in enumerate(rows, self._seq)]
            try:
                connection.execute(self._upsert, given)
            except DBAPIError as error:
                self._expect_small(rows, unwritten, error)
                raise

        self._transact(put, unwritten)
        self._seq += len(rows)

    def _expect_small(self, rows: Sequence[tuple[Any, ...]], unwritten: tuple[object, ...], error: DBAPIError) -> None:
        """Raise if *error*, mostly that the connection was cut, comes of a row that will never be taken."""
        limit = self._link.row_limit
        largest = max(rows, key=size_of)
        if limit is not None and size_of(largest) > limit:
            task = Row(*largest).task[:100]
            raise SinkError(
                self._target.label,
                f"What task {task} gave has {size_of(largest):,} bytes, and the server takes {limit:,} at a time (its "
                f"max_allowed_packet). Raise that, or let the function write a file and give its name.",
                unwritten,
            ) from error

    def _find(self, stored: list[str], connection: Connection) -> Sequence[tuple[Any, ...]]:
        found: Sequence[Any] = connection.execute(self._ask, {"keys": stored}).all()
        return found

    def _transact(self, work: Callable[[Connection], T], unwritten: tuple[object, ...] = ()) -> T:
        """Do *work*; over a new connection, first look at what has become of the tables meanwhile."""

        def attempt(connection: Connection) -> T:
            if self._generation != self._link.generation:
                self._return(connection)
            return work(connection)

        done = self._link.transact(attempt, unwritten)
        self._generation = self._link.generation
        return done

    def _return(self, connection: Connection) -> None:
        """Be the holder again; between the connections another may have been it."""
        manifest = self._tables.manifest
        update = manifest.update().where(manifest.c.id == 1)
        if not connection.execute(update, ourselves(self._link.session)).rowcount:
            raise SinkError(self._target.label, "The database came back without what was stored in it.")
        self._seq = self._next_seq(connection)

    def _next_seq(self, connection: Connection) -> int:
        highest = connection.execute(sa.select(sa.func.max(self._tables.results.c.seq))).scalar()
        return 1 if highest is None else int(highest) + 1


def _stored(key: str) -> str:
    """*key* as the database gives it back."""
    return key.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()
