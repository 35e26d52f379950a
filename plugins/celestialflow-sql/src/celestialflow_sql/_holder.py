"""Who holds a store: a row that the holder wrote, believed while the session in it is the one that has the lock."""

from __future__ import annotations

import os
import socket

import attrs
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from celestialflow_sql._tables import Tables

__all__ = ["Busy", "Holder", "holder_of", "ourselves"]


@attrs.frozen
class Holder:
    """A process that holds a store; ``pid`` is None where only the server's number of its session is known."""

    session: int | None
    host: str | None = None
    pid: int | None = None

    @property
    def may_be_dead(self) -> bool:
        """Whether the server may only not have noticed yet that it has ended."""
        if self.pid is None:
            return True
        if self.host != socket.gethostname():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False

    def __str__(self) -> str:
        if self.pid is None:
            session = "" if self.session is None else f" (session {self.session} of the server)"
            return f"another process{session}"
        if self.host != socket.gethostname():
            return f"the process with pid {self.pid} on {self.host}"
        return f"this process (pid {self.pid})" if self.pid == os.getpid() else f"the process with pid {self.pid}"


class Busy(Exception):
    """Another has the lock."""

    def __init__(self, holder: Holder) -> None:
        super().__init__(holder)
        self.holder = holder


def ourselves(session: int) -> dict[str, str | int]:
    """What this process writes into the row, as the holder by *session*."""
    return {"holder_host": socket.gethostname(), "holder_pid": os.getpid(), "holder_session": session}


def holder_of(connection: Connection, tables: Tables, session: int | None) -> Holder:
    """Who has the lock that the server says *session* has."""
    manifest = tables.manifest
    if not sa.inspect(connection).has_table(manifest.name):
        return Holder(session)
    row = connection.execute(
        sa.select(manifest.c.holder_host, manifest.c.holder_pid).where(manifest.c.holder_session == session)
    ).first()
    return Holder(session) if row is None else Holder(session, row.holder_host, row.holder_pid)
