"""PostgreSQL, by psycopg 3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import DBAPIError

from celestialflow_sql._database import lock_digest

__all__ = ["PostgreSQL"]

_NOTICING: Final = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""libpq's parameters with which a server that has vanished from the network is noticed within half a minute."""

_PASSING: Final = (
    "08",  # connection exceptions
    "57P",  # the server is shut down, crashed, starts, or ended the session
    "40001",  # serialization failure
    "40P01",  # deadlock
    "55P03",  # lock not available
    "53300",  # too many connections
)
_ADVICE: Final = {
    "53100": "There is no room left on the server's disk. Make room.",
    "25006": "The database takes no writes now ({said}): is it a standby? Name the primary in the URL.",
    "42501": "This user may not do that ({said}). Grant it CREATE on the schema, and all rights on the tables.",
    "3F000": "There is no schema to make tables in ({said}). Make one, or set the user's search_path.",
}

# The two halves of the number that pg_try_advisory_lock was given are what pg_locks shows.
_HOLDER: Final = sa.text(
    "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND granted "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
    "AND classid::bigint = :high AND objid::bigint = :low"
)


class PostgreSQL:
    """See `Database`."""

    isolation = "REPEATABLE READ"

    def options(self, url: URL) -> Mapping[str, Any]:
        """Timeouts, where the URL does not set them."""
        return {name: value for name, value in _NOTICING.items() if name not in url.query}

    def set_up(self, connection: Connection) -> None:
        """The server ends no idle session of ours, and looks whether we are still there."""
        settings = {"tcp_keepalives_idle": "30", "tcp_keepalives_interval": "10", "tcp_keepalives_count": "3"}
        version: tuple[Any, ...] = connection.dialect.server_version_info or (0,)
        if version[0] >= 14:
            settings["idle_session_timeout"] = "0"
        connection.execute(
            sa.select(*(sa.func.set_config(name, value, False).label(name) for name, value in settings.items()))
        )

    def session(self, connection: Connection) -> int:
        """The pid of the server process."""
        return int(connection.execute(sa.select(sa.func.pg_backend_pid())).scalar_one())

    def try_lock(self, connection: Connection, name: str) -> bool:
        """An advisory lock, which the server drops when the session ends."""
        return bool(connection.execute(sa.select(sa.func.pg_try_advisory_lock(_number(name)))).scalar_one())

    def unlock(self, connection: Connection, name: str) -> None:
        """Give it up."""
        connection.execute(sa.select(sa.func.pg_advisory_unlock(_number(name))))

    def lock_holder(self, connection: Connection, name: str) -> int | None:
        """The pid of the server process that has it."""
        high, low = divmod(_number(name) % (1 << 64), 1 << 32)
        found = connection.execute(_HOLDER, {"high": high, "low": low}).scalar()
        return None if found is None else int(found)

    def upsert(self, table: sa.Table) -> sa.Insert:
        """INSERT ... ON CONFLICT (key) DO UPDATE."""
        insert = postgresql.insert(table)
        return insert.on_conflict_do_update(
            index_elements=[table.c.key],
            set_={column.name: insert.excluded[column.name] for column in table.c if column.name != "key"},
        )

    def code(self, error: DBAPIError) -> str:
        """The SQLSTATE; an error of the connection has none."""
        return str(getattr(error.orig, "sqlstate", None) or "")

    def will_pass(self, code: str) -> bool:
        """Restarts, deadlocks, too many connections."""
        return code.startswith(_PASSING)

    def advice(self, code: str) -> str | None:
        """What to do, by SQLSTATE."""
        return _ADVICE.get(code)

    def row_limit(self, connection: Connection) -> int | None:
        """A row that is too large is an error as any other."""
        return None

    def descriptor(self, connection: Connection) -> int | None:
        """libpq's socket."""
        driver: Any = connection.connection.driver_connection
        return None if driver is None or driver.closed else int(driver.fileno())


def _number(name: str) -> int:
    return int.from_bytes(lock_digest(name), "big", signed=True)
