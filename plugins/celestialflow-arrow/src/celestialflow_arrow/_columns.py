"""The columns of a part: a `Row` of the core's stores as a row of an Arrow table, and back.

The columns have the names of the row's fields, except for one: ``at`` is a word of SQL, so it is ``finished`` here, a
timestamp. What the texts and pickles of a task and a value mean is said in the core's documentation of stores.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import pyarrow as pa

from celestialflow_core.sinks import Row

__all__ = [
    "FILTERS",
    "RESTORED",
    "SCHEMA",
    "VERSION",
    "fitting",
    "packed",
    "rows_in",
    "stored_key",
    "table_of",
    "tables_of",
    "taken",
]

VERSION: Final = b"1"
_TEXT: Final = pa.string()
_BYTES: Final = pa.binary()
SCHEMA: Final = pa.schema(
    [
        pa.field("key", _TEXT, nullable=False),
        pa.field("stage", _TEXT),
        pa.field("task", _TEXT, nullable=False),
        pa.field("task_pickle", _BYTES),
        pa.field("status", _TEXT, nullable=False),
        pa.field("value", _TEXT),
        pa.field("value_pickle", _BYTES),
        pa.field("error_type", _TEXT),
        pa.field("error_message", _TEXT),
        pa.field("error_place", _TEXT),
        pa.field("error_traceback", _TEXT),
        pa.field("error_pickle", _BYTES),
        pa.field("attempts", pa.int64(), nullable=False),
        pa.field("seconds", pa.float64()),
        pa.field("worker", pa.int64()),
        pa.field("finished", pa.timestamp("us", "UTC"), nullable=False),
    ],
    metadata={b"celestialflow_store": VERSION},
)
RESTORED: Final = (
    "key", "status", "value", "value_pickle", "error_type", "error_message", "error_traceback", "error_pickle",
    "attempts", "seconds",
)  # fmt: skip
"""The key, and what `record_of` makes a record of, in its order."""
FILTERS: Final = ("status", "stage", "error_type")

GROUP_ROWS: Final = 10_000
GROUP_BYTES: Final = 4 << 20
"""What a row group has at most, about: it is the least that is read, and some are kept while a run goes on."""
LONGEST: Final = 1 << 29
"""Characters or bytes of one cell, of which Parquet takes 2 GB: four bytes a character is what UTF-8 may need."""


def stored_key(key: str) -> str:
    """*key* as it is stored: half surrogate pairs and NUL, which a stage's name may have, are written out."""
    if "\0" in key:
        key = key.replace("\0", "\\x00")
    return key if key.isascii() else key.encode("utf-8", "backslashreplace").decode("utf-8")


def fitting(row: Row, longest: int = LONGEST) -> Row:
    """*row*, or where a task or value is longer than a file can hold, what is left of it.

    Such a value is kept as one that cannot be pickled is: a short text, and its task runs again.
    """
    key = stored_key(row.key)
    if key != row.key:
        row = row._replace(key=key)
    cells = (row.task, row.task_pickle, row.value, row.value_pickle)
    if all(cell is None or len(cell) <= longest for cell in cells):
        return row
    if max(len(row.task), len(row.task_pickle or b"")) > longest:
        row = row._replace(task=row.task[:200], task_pickle=b"")
    if max(len(row.value or ""), len(row.value_pickle or b"")) > longest:
        row = row._replace(value=(row.value or "")[:200], value_pickle=b"")
    return row


def tables_of(rows: Iterable[Row]) -> Iterator[Any]:
    """*rows* as tables, each of them a row group."""
    chunk: list[Row] = []
    size = 0
    for row in rows:
        chunk.append(row)
        for cell in (row.task, row.task_pickle, row.value, row.value_pickle, row.error_traceback, row.error_pickle):
            if cell is not None:
                size += len(cell)
        if len(chunk) >= GROUP_ROWS or size >= GROUP_BYTES:
            yield table_of(chunk)
            chunk, size = [], 0
    if chunk:
        yield table_of(chunk)


def table_of(rows: Iterable[Row]) -> Any:
    """*rows* as one table."""
    columns = list(zip(*rows, strict=True)) or [()] * len(SCHEMA)
    columns[-1] = tuple(round(at * 1e6) for at in columns[-1])
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def rows_in(table: Any) -> Iterator[Row]:
    """The rows of a table that has all columns."""
    columns = [table.column(name) for name in SCHEMA.names]
    columns[-1] = columns[-1].cast(pa.int64())
    for *cells, at in zip(*(column.to_pylist() for column in columns), strict=True):
        yield Row._make((*cells, at / 1e6))


def taken(table: Any, rows: list[int]) -> Any:
    """These rows of a table."""
    return table.take(pa.array(rows, pa.int64()))  # which no rows at all are not, without their type


def packed(tables: Iterable[Any]) -> Iterator[Any]:
    """*tables*, of which small neighbours are put together."""
    waiting: list[Any] = []
    rows = size = 0
    for table in tables:
        if waiting and (rows + table.num_rows > GROUP_ROWS or size + table.nbytes > GROUP_BYTES):
            yield pa.concat_tables(waiting)
            waiting, rows, size = [], 0, 0
        if table.num_rows:
            waiting.append(table)
            rows += table.num_rows
            size += table.nbytes
    if waiting:
        yield pa.concat_tables(waiting)
