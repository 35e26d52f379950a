"""The journal: the core's own ``jsonl:`` store, in the folder, for the outcomes that are in no part yet.

What is in it is accepted. It brings what a file needs to which lines are appended: torn lines are found and set aside,
a batch is there as a whole or not at all, and it outlives the process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any, Final

import attrs
import pyarrow as pa

from celestialflow_arrow._columns import packed, table_of, tables_of
from celestialflow_arrow._groups import Groups
from celestialflow_arrow._index import KeyIndex, live_tables
from celestialflow_arrow._part import Damaged, LoadedRows
from celestialflow_core.errors import SinkError
from celestialflow_core.sinks import Manifest, Row
from celestialflow_core.sinks.jsonl import JsonlStore

__all__ = ["Journal", "jsonl", "named", "tables_in"]


_LOOSE: Final = 100
"""Tables that wait to be put together: a run that pulls its tasks one by one may write a row at a time, and a table of
one row takes 1.8 KB of Arrow's memory, and a multiple of that in objects around it."""


class Journal:
    """Appends to the journal at *path*, which is made if it is not there, and keeps what it appends for the part.

    Attributes:
        number: The journal's.
        path: Where it is.
        rows: How many rows were put into it here.
    """

    def __init__(self, path: Path, number: int, run: Manifest, full: bool) -> None:
        self.path = path
        self.number = number
        self.rows = 0
        self._tables: list[Any] = []
        self._loose: list[Any] = []
        self._is_known = True
        self._begun = monotonic()
        self._store = jsonl(path, full)
        self._store.open(attrs.evolve(run, resume=False))

    def put(self, rows: Sequence[Row]) -> None:
        """Accept *rows*, all of them or none."""
        try:
            table = table_of(rows)  # first: what cannot go into a part must not go into the journal
        except (ValueError, TypeError, OverflowError) as error:
            raise SinkError(str(self.path), f"There is an outcome that cannot be stored ({error}).") from error
        try:
            self._store.put(rows)
            self._loose.append(table)
            if len(self._loose) >= _LOOSE:
                self._tables.append(pa.concat_tables(self._loose).combine_chunks())
                self._loose = []
        except BaseException:
            self._is_known = False  # what is in the file, after Ctrl-C in between
            raise
        self.rows += len(rows)

    def tables(self) -> Iterator[Any]:
        """What is in it, one row a key."""
        if not self._is_known:
            yield from tables_in(self.path)
            return
        groups = Groups([LoadedRows(list(packed(self._tables + self._loose)))])
        yield from live_tables(groups, KeyIndex(groups), range(len(groups)))

    def is_full(self, rows: int, seconds: float, size: int) -> bool:
        """Whether it has reached any of these limits."""
        return self.rows >= rows or monotonic() - self._begun >= seconds or self.path.stat().st_size >= size

    def close(self) -> None:
        """Close it. May be called twice."""
        self._store.close(None)


def jsonl(path: Path, full: bool = False) -> JsonlStore:
    """The jsonl store at *path*, which must be absolute and without a "?"."""
    return JsonlStore(f"jsonl:{path}?synchronous={'full' if full else 'normal'}")


def tables_in(path: Path) -> Iterator[Any]:
    """The rows of the journal at *path*, one a key, as tables.

    Raises:
        FileNotFoundError: It is gone.
    """
    if not path.stat().st_size:
        return  # its writer has only just made it, or was killed when it had
    try:
        with jsonl(path).reader() as reader:
            yield from tables_of(reader.rows())
    except SinkError:
        path.stat()  # where it was removed meanwhile, that is what happened
        raise


@contextmanager
def named(label: str, folder: Path, unwritten: Sequence[Any] = (), *, writing: bool = True) -> Iterator[None]:
    """Raise what goes wrong with the files of a store as that store's SinkError.

    Args:
        label: What to call the store.
        folder: Its folder.
        unwritten: The outcomes that are not stored if it goes wrong.
        writing: Whether they are written to, and not only read.
    """
    try:
        yield
    except SinkError as error:
        raise SinkError(label, error.reason, tuple(unwritten)) from error
    except Damaged as error:
        reason = f"{error}. Remove that file, and its tasks run again; or give another folder."
        raise SinkError(label, reason, tuple(unwritten)) from error
    except (OSError, pa.ArrowInvalid) as error:
        said = getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__
        reason = f"{folder} cannot be read ({said})."
        if writing:
            reason = (
                f"{folder} cannot be written ({said}). Give a folder where this user may write, on a disk with room. "
                f"What was accepted is stored; a run with resume=True goes on from there."
            )
        raise SinkError(label, reason, tuple(unwritten)) from error
