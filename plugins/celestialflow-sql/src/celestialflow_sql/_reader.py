"""Reads a `SqlStore` without changing it, also while a run writes to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from celestialflow_core.errors import SinkError
from celestialflow_core.sinks import Manifest, Row
from celestialflow_sql._connecting import connect, database_of, failure, make_engine
from celestialflow_sql._schema import check_tables, stored_manifest
from celestialflow_sql._tables import Tables
from celestialflow_sql._target import Target

__all__ = ["SqlReader"]

T = TypeVar("T")

_PAGE: Final = 500  # rows asked for at a time: no driver holds them all, and no server waits for a slow reader


class SqlReader:
    """The rows of a store as they are when it is entered.

    Args:
        target: The store.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._tables = Tables(target.prefix)
        self._database = database_of(target)
        self._engine: Engine | None = None
        self._connection: Connection | None = None
        self._manifest: Manifest | None = None

    def __enter__(self) -> Self:
        self._engine = make_engine(self._target, self._database)
        try:
            self._connection = self._asked(self._connect)
            self._manifest = self._asked(self._look)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        connection, self._connection = self._connection, None
        engine, self._engine = self._engine, None
        try:
            if connection is not None:
                connection.invalidate()  # a reader has nothing to tell the server in the end
                connection.close()
        except SQLAlchemyError:
            pass
        if engine is not None:
            engine.dispose()

    @property
    def manifest(self) -> Manifest:
        """What the store is of."""
        if self._manifest is None:
            raise self._closed()
        return self._manifest

    def count(self) -> int:
        """How many tasks the store knows."""
        question = sa.select(sa.func.count()).select_from(self._tables.results)
        return int(self._asked(lambda: self._opened().execute(question).scalar_one()))

    def rows(
        self, *, status: str | None = None, stage: str | None = None, error_type: str | None = None
    ) -> Iterator[Row]:
        """The rows, one a task, in the order in which they were stored; only those with what is given."""
        results = self._tables.results
        wanted = {"status": status, "stage": stage, "error_type": error_type}
        question = sa.select(results.c.seq, *self._tables.row).order_by(results.c.seq).limit(_PAGE)
        for column, value in wanted.items():
            if value is not None:
                question = question.where(results.c[column] == value)
        question = question.where(results.c.seq > sa.bindparam("last"))
        last = -1
        while True:
            page = self._asked(partial(self._page, question, last))
            for _, *row in page:
                yield Row(*row)
            if len(page) < _PAGE:
                return
            last = page[-1][0]

    def _page(self, question: sa.Select[Any], last: int) -> Sequence[tuple[Any, ...]]:
        page: Sequence[Any] = self._opened().execute(question, {"last": last}).all()
        return page

    def _connect(self) -> Connection:
        assert self._engine is not None
        connection = connect(self._engine, self._target)
        connection.execution_options(isolation_level=self._database.isolation)
        return connection

    def _look(self) -> Manifest:
        connection = self._opened()
        manifest = None
        if check_tables(connection, self._tables, self._target.label):
            manifest = stored_manifest(connection, self._tables, self._target.label)
        if manifest is None:
            raise SinkError(self._target.label, "Nothing has been stored in it yet.")
        return manifest

    def _opened(self) -> Connection:
        if self._connection is None:
            raise self._closed()
        return self._connection

    def _closed(self) -> SinkError:
        return SinkError(self._target.label, "It is not open. Use it in a with statement.")

    def _asked(self, question: Callable[[], T]) -> T:
        try:
            return question()
        except SQLAlchemyError as error:
            made = failure(error, self._target, self._database)
            raise made from made.__cause__
