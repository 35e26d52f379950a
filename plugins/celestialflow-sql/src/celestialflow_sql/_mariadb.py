"""MariaDB and MySQL, by PyMySQL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import DBAPIError

from celestialflow_sql._database import lock_digest

__all__ = ["MariaDB"]

# The server waits up to 50 s for the lock of a row before it says so; only then is silence a sign.
_NOTICING: Final = {"connect_timeout": 10, "read_timeout": 60, "write_timeout": 60}

_WEEK: Final = 7 * 24 * 3600

_PASSING: Final = frozenset({
    "1040",  # too many connections
    "1053",  # the server shuts down
    "1077", "1079",  # the same
    "1152", "1158", "1159", "1160", "1161", "1184",  # the connection broke
    "1205",  # waited too long for a lock
    "1213",  # deadlock
    "1317",  # the query was interrupted
    "1927",  # the connection was killed
    "2002", "2003", "2006", "2013", "2014", "2055",  # the client's view of a server that is gone
    "4031",  # idle for too long
})  # fmt: skip
_ADVICE: Final = {
    "1021": "There is no room left on the server's disk. Make room.",
    "1114": "There is no room left for the table ({said}). Make room on the server's disk.",
    "1153": (
        "A value is larger than the server takes in one packet ({said}). Raise its max_allowed_packet, or store the "
        "value in a file."
    ),
    "1290": "The database takes no writes now ({said}). Name the primary in the URL, or end the read-only mode.",
    "1142": "This user may not do that ({said}). Grant it CREATE, SELECT, INSERT, UPDATE on the database.",
    "1044": "This user may not use the database ({said}). Grant it the rights.",
    "1049": "There is no such database ({said}). Make it, or name another.",
}


class MariaDB:
    """See `Database`."""

    isolation = "REPEATABLE READ"

    def options(self, url: URL) -> Mapping[str, Any]:
        """Timeouts and the character set, where the URL does not set them."""
        known = {**_NOTICING, "charset": "utf8mb4"}
        return {name: value for name, value in known.items() if name not in url.query}

    def set_up(self, connection: Connection) -> None:
        """The server ends no idle session of ours for a week, and cuts no value off."""
        connection.exec_driver_sql(
            f"SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', SESSION wait_timeout = {_WEEK}"
        )

    def session(self, connection: Connection) -> int:
        """The connection's id."""
        return int(connection.execute(sa.select(sa.func.connection_id())).scalar_one())

    def try_lock(self, connection: Connection, name: str) -> bool:
        """A user lock, which the server drops when the connection ends."""
        return connection.execute(sa.select(sa.func.get_lock(_name(name), 0))).scalar() == 1

    def unlock(self, connection: Connection, name: str) -> None:
        """Give it up."""
        connection.execute(sa.select(sa.func.release_lock(_name(name))))

    def lock_holder(self, connection: Connection, name: str) -> int | None:
        """The id of the connection that has it."""
        found = connection.execute(sa.select(sa.func.is_used_lock(_name(name)))).scalar()
        return None if found is None else int(found)

    def upsert(self, table: sa.Table) -> sa.Insert:
        """INSERT ... ON DUPLICATE KEY UPDATE; the driver makes few statements of many rows."""
        insert = mysql.insert(table)
        return insert.on_duplicate_key_update(
            {column.name: insert.inserted[column.name] for column in table.c if column.name != "key"}
        )

    def code(self, error: DBAPIError) -> str:
        """The number of the error."""
        args = getattr(error.orig, "args", ())
        return str(args[0]) if args and isinstance(args[0], int) else ""

    def will_pass(self, code: str) -> bool:
        """Restarts, deadlocks, too many connections."""
        return code in _PASSING

    def advice(self, code: str) -> str | None:
        """What to do, by number."""
        return _ADVICE.get(code)

    def row_limit(self, connection: Connection) -> int | None:
        """One statement has to fit into a packet, and in it one row."""
        return int(connection.execute(sa.text("SELECT @@max_allowed_packet")).scalar_one())

    def descriptor(self, connection: Connection) -> int | None:
        """The driver's socket, which it does not show."""
        socket = getattr(connection.connection.driver_connection, "_sock", None)
        return None if socket is None else int(socket.fileno())


def _name(name: str) -> str:
    # A user lock is one of the whole server, and its name has 64 characters at most.
    return f"celestialflow:{lock_digest(name).hex()}"
