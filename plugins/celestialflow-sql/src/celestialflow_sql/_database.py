"""What PostgreSQL and MariaDB (or MySQL) do differently: the lock, the upsert, a session's settings, codes of errors.

`Database` is what the rest of the package knows; there is one for each, without a state.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import DBAPIError

__all__ = ["Database"]


class Database(Protocol):
    """One kind of database."""

    isolation: str
    """The isolation level in which a reader sees one state of the tables from beginning to end."""

    def options(self, url: URL) -> Mapping[str, Any]:
        """What the driver is told beside the URL, so that a server that is gone is noticed."""
        ...

    def set_up(self, connection: Connection) -> None:
        """Make the session one that may be idle for long, and that says it when a value does not fit."""
        ...

    def session(self, connection: Connection) -> int:
        """The server's number of this session."""
        ...

    def try_lock(self, connection: Connection, name: str) -> bool:
        """Take the lock *name* for the session; False where another session has it."""
        ...

    def unlock(self, connection: Connection, name: str) -> None:
        """Give it up."""
        ...

    def lock_holder(self, connection: Connection, name: str) -> int | None:
        """The session that has the lock."""
        ...

    def upsert(self, table: sa.Table) -> sa.Insert:
        """Insert rows into *table*; one whose key is there replaces what is."""
        ...

    def code(self, error: DBAPIError) -> str:
        """What the server calls the error, or ""."""
        ...

    def will_pass(self, code: str) -> bool:
        """Whether an error with this code may be gone in a moment: the server restarts, or asks for another try."""
        ...

    def advice(self, code: str) -> str | None:
        """What an error with this code means and what to do, as sentences; None for those that say it themselves."""
        ...

    def row_limit(self, connection: Connection) -> int | None:
        """The most bytes that the server takes for one row, where it cuts the connection instead of saying so."""
        ...

    def descriptor(self, connection: Connection) -> int | None:
        """The descriptor of the connection's socket."""
        ...


def lock_digest(name: str) -> bytes:
    """*name* in eight bytes."""
    return blake2b(name.encode(), digest_size=8).digest()
