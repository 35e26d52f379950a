"""The connection of a store that is open: it holds the lock, and comes back when the database was away.

          transact(work) ---> BEGIN, work, COMMIT ---> done
                ^                   |
                |                   | the server is gone, restarts, or asks for another try
       connect, take the lock <-----+   for `patience` seconds, then it is an error

What `work` does must be the same when it is done twice: whether a COMMIT without an answer has happened nobody knows.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, sleep
from typing import Final, TypeVar

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from celestialflow_core.errors import SinkError
from celestialflow_sql import _forks
from celestialflow_sql._connecting import connect, database_of, failure, make_engine
from celestialflow_sql._holder import Busy, Holder, holder_of
from celestialflow_sql._tables import Tables
from celestialflow_sql._target import Target

__all__ = ["Link"]

T = TypeVar("T")

FIRST_DELAY: Final = 0.05
LONGEST_DELAY: Final = 1.0
DEAD_HOLDER: Final = 10.0
"""Seconds that a server has to notice that the holder is dead."""


class Link:
    """Holds the lock of a store from `open` to `close`.

    Attributes:
        generation: How often it has connected: what was known of the tables before may have changed since.
        session: The server's number of the session.
        row_limit: See `Database.row_limit`.
    """

    def __init__(self, target: Target, tables: Tables) -> None:
        self.generation = 0
        self.session = 0
        self.row_limit: int | None = None
        self.database = database_of(target)
        self._target = target
        self._tables = tables
        self._engine: Engine | None = None
        self._connection: Connection | None = None
        self._descriptor: int | None = None
        self._lock = ""

    @property
    def is_open(self) -> bool:
        """Whether `open` was called, and `close` not yet."""
        return self._engine is not None

    def open(self) -> None:
        """Connect and take the lock.

        Raises:
            SinkError: Another holds it, or the database cannot be reached.
        """
        self._engine = make_engine(self._target, self.database)
        deadline = monotonic() + DEAD_HOLDER
        delay = FIRST_DELAY
        while True:
            try:
                self._live()
                return
            except Busy as busy:
                if not busy.holder.may_be_dead or monotonic() > deadline:
                    raise self._in_use(busy.holder) from None
            except SQLAlchemyError as error:
                made = failure(error, self._target, self.database)
                raise made from made.__cause__
            sleep(delay)
            delay = min(2 * delay, LONGEST_DELAY)

    def transact(self, work: Callable[[Connection], T], unwritten: tuple[object, ...] = ()) -> T:
        """Do *work* in a transaction, again if the database was away meanwhile.

        Raises:
            SinkError: It cannot be done, or not for as long as the store is patient; it carries *unwritten*.
        """
        deadline: float | None = None
        delay = FIRST_DELAY
        while True:
            try:
                return self._attempt(self._live(), work)
            except Busy as busy:
                error: SinkError = self._in_use(busy.holder, unwritten)
            except SQLAlchemyError as raised:
                passes = self._will_pass(raised)
                error = failure(raised, self._target, self.database, unwritten, away=passes)
                if not passes:
                    raise error from error.__cause__
            now = monotonic()
            if deadline is None:
                deadline = now + self._target.patience
            if now >= deadline:
                raise error from error.__cause__
            sleep(min(delay, deadline - now))
            delay = min(2 * delay, LONGEST_DELAY)

    def close(self) -> None:
        """Give up the lock and the connection. Never raises for a database that is gone: the lock is gone with it."""
        connection, engine = self._connection, self._engine
        if connection is not None and not connection.invalidated:
            try:
                # The server may notice late that a connection has ended; the next run need not wait for that.
                with connection.begin():
                    self.database.unlock(connection, self._lock)
            except SQLAlchemyError:
                pass
        self._drop()
        self._engine = None
        if engine is not None:
            engine.dispose()

    def _live(self) -> Connection:
        """The connection that has the lock, made anew where it is gone.

        Raises:
            Busy: Another has the lock now.
            SQLAlchemyError: The database is away.
        """
        if self._engine is None:
            raise SinkError(self._target.label, "It is not open.")
        if self._connection is not None:
            if not self._connection.invalidated:
                return self._connection
            self._drop()
        connection = connect(self._engine, self._target)
        try:
            self._descriptor = self.database.descriptor(connection)
            if self._descriptor is not None:
                _forks.keep(self._descriptor)
            with connection.begin():
                self.database.set_up(connection)
                self.session = self.database.session(connection)
                self.row_limit = self.database.row_limit(connection)
                self._lock = f"{connection.dialect.default_schema_name}.{self._tables.results.name}"
                if not self.database.try_lock(connection, self._lock):
                    raise Busy(holder_of(connection, self._tables, self.database.lock_holder(connection, self._lock)))
        except BaseException:
            self._end(connection)
            raise
        self.generation += 1
        self._connection = connection
        return connection

    def _attempt(self, connection: Connection, work: Callable[[Connection], T]) -> T:
        transaction = connection.begin()
        try:
            done = work(connection)
            transaction.commit()
        except BaseException:
            try:
                transaction.rollback()
            except SQLAlchemyError:  # what was raised first says why; that the connection is gone follows from it
                connection.invalidate()
            raise
        return done

    def _will_pass(self, error: SQLAlchemyError) -> bool:
        if not isinstance(error, DBAPIError):
            return False
        if self._connection is None:  # whatever a server says to a client while it starts
            return True
        if error.connection_invalidated or self._connection.invalidated:
            self._drop()
            return True
        return self.database.will_pass(self.database.code(error))

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._end(connection)

    def _end(self, connection: Connection) -> None:
        if self._descriptor is not None:
            _forks.let_go(self._descriptor)
            self._descriptor = None
        try:
            if not connection.invalidated:
                connection.invalidate()
            connection.close()
        except SQLAlchemyError:  # of a connection that is broken already
            pass

    def _in_use(self, holder: Holder, unwritten: tuple[object, ...] = ()) -> SinkError:
        reason = f"It is in use by {holder}. Wait until that has ended, end it, or give another store."
        return SinkError(self._target.label, reason, unwritten)
