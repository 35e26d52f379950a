"""Sinks in a database server, of which a run can go on: ``postgresql:``, and ``mariadb:`` or ``mysql:``.

    TaskManager(fetch, sinks=["postgresql://ana@db.example/crawl"], resume=True)

One row a task, a transaction a batch, and a lock that the server holds for the connection, so that it ends with its
holder. This module is loaded in every run; SQLAlchemy and the drivers only where such a sink is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from celestialflow_core import hookimpl

if TYPE_CHECKING:
    from celestialflow_core.sinks import SinkFactory
    from celestialflow_sql._store import SqlStore

__all__ = ["SqlSinks", "make_store", "plugin"]

NAMES = ("postgresql", "mariadb", "mysql")


def make_store(url: str) -> SqlStore:
    """The store at *url*; connects to nothing yet.

    Raises:
        SinkError: The URL is not one that this store understands.
    """
    from celestialflow_sql._store import SqlStore

    return SqlStore(url)


class SqlSinks:
    """Declares the sinks."""

    @hookimpl
    def sink_factories(self) -> Mapping[str, SinkFactory]:
        """One factory for all: the name is in the URL."""
        return dict.fromkeys(NAMES, make_store)


plugin = SqlSinks()
"""What is active where this distribution is installed."""
