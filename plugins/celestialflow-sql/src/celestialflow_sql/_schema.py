"""The tables in a database: made where there are none, refused where they are somebody else's; and the manifest."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from celestialflow_core.errors import SinkError
from celestialflow_core.sinks import Manifest, manifest_from_json
from celestialflow_sql._tables import TABLES_VERSION, Tables

__all__ = ["check_tables", "make_tables", "stored_manifest"]


def make_tables(connection: Connection, tables: Tables, label: str) -> None:
    """Make what is missing of the tables.

    Raises:
        SinkError: One is there that is not a table of a store.
    """
    if not check_tables(connection, tables, label):
        tables.metadata.create_all(connection)


def check_tables(connection: Connection, tables: Tables, label: str) -> bool:
    """Whether all tables of a store are there.

    Raises:
        SinkError: One is there that is not a table of a store.
    """
    inspector = sa.inspect(connection)
    here = [table for table in tables.metadata.sorted_tables if inspector.has_table(table.name)]
    for table in here:
        names = {column["name"] for column in inspector.get_columns(table.name)}
        if missing := [column.name for column in table.c if column.name not in names]:
            raise SinkError(
                label,
                f"The table {table.name} belongs to something else: it has no column {missing[0]!r}. Give the store "
                f"names of its own by ?table_prefix=...",
            )
    return len(here) == len(tables.metadata.sorted_tables)


def stored_manifest(connection: Connection, tables: Tables, label: str) -> Manifest | None:
    """What the store is of; None where that has not been written.

    Raises:
        SinkError: Another version of this package has written it, or it cannot be read.
    """
    manifest = tables.manifest
    row = connection.execute(sa.select(manifest.c.tables_version, manifest.c.json).where(manifest.c.id == 1)).first()
    if row is None:
        return None
    if row.tables_version != TABLES_VERSION:
        raise SinkError(
            label,
            f"It was written by another version of celestialflow-sql (its tables are of version {row.tables_version}, "
            f"and this one knows {TABLES_VERSION}). Use that version, or give a new store by ?table_prefix=...",
        )
    try:
        return manifest_from_json(row.json)
    except (ValueError, TypeError) as error:
        raise SinkError(label, f"What it is of cannot be read ({error}). Give a new store.") from error
