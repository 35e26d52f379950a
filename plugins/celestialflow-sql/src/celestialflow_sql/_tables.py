"""The tables of a store.

    celestialflow_results     one row a task; the columns are those of `Row`, and `seq`, the order in which they came
    celestialflow_manifest    one row: what the store is of, and who holds it

`seq` is the primary key, so that InnoDB, which keeps a table in the order of that, appends rows. The key of a task is
unique beside it. It is text in PostgreSQL; in MariaDB and MySQL it is the bytes of that text, since their texts are
equal to the same with a space behind it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.engine import Dialect as SqlDialect
from sqlalchemy.types import TypeDecorator, TypeEngine

from celestialflow_core.sinks import Row

__all__ = ["TABLES_VERSION", "Tables", "size_of"]

TABLES_VERSION: Final = 1
"""Which tables these are; stored, so that another version of this package sees what it has before it."""

_ESCAPED: Final = (b"\0", b"\n", b"\r", b"\x1a", b'"', b"'", b"\\")
_Text: Final = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
_Blob: Final = sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")


_KEPT: Final[dict[str, Any]] = {
    f"{name}_{option}": value
    for name in ("mysql", "mariadb")
    for option, value in (("engine", "InnoDB"), ("charset", "utf8mb4"), ("collate", "utf8mb4_bin"))
}
"""Whatever the server's defaults are: transactions, all of Unicode, and no two texts that are equal but for case."""


class Key(TypeDecorator[str]):
    """The key of a task, compared byte by byte."""

    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: SqlDialect) -> TypeEngine[Any]:
        """The type that the database has for it."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.TEXT(collation="C"))
        return dialect.type_descriptor(mysql.VARBINARY(1024))

    def process_bind_param(self, value: str | None, dialect: SqlDialect) -> Any:
        """The key as it is stored: what no text in a database can have, half surrogate pairs and NUL, written out."""
        if value is None:
            return None
        stored = value.replace("\0", "\\x00").encode("utf-8", "backslashreplace")
        return stored.decode() if dialect.name == "postgresql" else stored

    def process_result_value(self, value: Any, dialect: SqlDialect) -> str | None:
        """The key as text."""
        return value.decode() if isinstance(value, bytes) else value


def size_of(row: Iterable[Any]) -> int:
    """How many bytes *row* has in a statement, where some characters have a backslash before them."""
    size = 0
    for value in row:
        if isinstance(value, str):
            value = value.encode()
        if isinstance(value, bytes):
            size += len(value) + sum(map(value.count, _ESCAPED))
    return size


class Tables:
    """The tables whose names begin with *prefix*."""

    def __init__(self, prefix: str) -> None:
        self.metadata = sa.MetaData()
        self.results = sa.Table(
            f"{prefix}results",
            self.metadata,
            sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
            sa.Column("key", Key, nullable=False, unique=True),
            sa.Column("stage", _Text),
            sa.Column("task", _Text, nullable=False),
            sa.Column("task_pickle", _Blob),
            sa.Column("status", sa.String(16), nullable=False),
            sa.Column("value", _Text),
            sa.Column("value_pickle", _Blob),
            sa.Column("error_type", _Text),
            sa.Column("error_message", _Text),
            sa.Column("error_place", _Text),
            sa.Column("error_traceback", _Text),
            sa.Column("error_pickle", _Blob),
            sa.Column("attempts", sa.BigInteger, nullable=False),
            sa.Column("seconds", sa.Double),
            sa.Column("worker", sa.BigInteger),
            sa.Column("at", sa.Double, nullable=False),
            **_KEPT,
        )
        self.manifest = sa.Table(
            f"{prefix}manifest",
            self.metadata,
            sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
            sa.Column("tables_version", sa.Integer, nullable=False),
            sa.Column("json", _Text, nullable=False),
            sa.Column("holder_host", _Text),
            sa.Column("holder_pid", sa.BigInteger),
            sa.Column("holder_session", sa.BigInteger),
            **_KEPT,
        )

    @property
    def row(self) -> list[sa.Column[Any]]:
        """The columns of a `Row`, in its order."""
        return [self.results.c[name] for name in Row._fields]
