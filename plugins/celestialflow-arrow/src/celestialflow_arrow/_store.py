"""``parquet:folder/``: a store in a folder of Parquet files, made from an append-only journal beside them.

    parquet:folder/    parquet:///home/me/folder    parquet:folder?rows=100000&seconds=10&synchronous=full

A batch is accepted when it is in the journal, which outlives the process; with ``synchronous=full`` a power failure
too. With 50,000 rows, after 60 s or at 64 MB, and when the run ends, the journal becomes a part. `_folder` says what
lies in the folder, `_tidy` what happens at the end of a run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from time import time
from typing import Any, Final

from celestialflow_arrow._columns import SCHEMA, fitting
from celestialflow_arrow._folder import Folder, PartName
from celestialflow_arrow._groups import Groups
from celestialflow_arrow._journal import Journal, jsonl, named, tables_in
from celestialflow_arrow._lookup import Lookup
from celestialflow_arrow._part import Changed, PartFile, write_part
from celestialflow_arrow._reader import ParquetReader
from celestialflow_arrow._tidy import PART_BYTES, tidy
from celestialflow_arrow._url import ParquetUrl
from celestialflow_core import Outcome
from celestialflow_core.errors import SinkError
from celestialflow_core.sinks import Manifest, Record, Row, rows_of
from celestialflow_core.sinks.jsonl import JsonlStore

__all__ = ["ParquetStore"]

_BATCH: Final = 1000


class ParquetStore:
    """Keeps outcomes in a folder of Parquet files.

    Args:
        url: ``parquet:folder``, with ``?rows=`` and ``?seconds=`` if parts shall be larger or come sooner, and
            ``?synchronous=full`` if each batch shall outlive a power failure.

    Raises:
        SinkError: The URL names no folder, or an option that there is not.
    """

    def __init__(self, url: str) -> None:
        self._url = ParquetUrl.parse(url)
        self._label = self._url.label
        self._folder = Folder(self._url.folder)
        self._head: JsonlStore | None = None
        self._run: Manifest | None = None
        self._journal: Journal | None = None
        self._next = 1
        self._lookup: Lookup | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._label}>"

    def open(self, run: Manifest) -> None:
        """Take the lock, and make the folder or check that this run may go on with it; finish what was left of it."""
        if self._head is not None:
            raise SinkError(self._label, "It is open already. Give each run a store of its own.")
        self._make_folder()
        head = jsonl(self._folder.head)
        with named(self._label, self._folder.path):
            head.open(run)
        self._head, self._run = head, run
        try:
            with named(self._label, self._folder.path):
                self._recover(run)
        except BaseException:
            self._release()
            raise

    def write(self, outcomes: Sequence[Outcome[Any, Any]]) -> None:
        """Store *outcomes*, all of them or none."""
        try:
            rows = [fitting(Row._make(row)) for row in rows_of(outcomes, time())]
        except ValueError as error:
            raise SinkError(self._label, str(error), tuple(outcomes)) from error
        with named(self._label, self._folder.path, outcomes):
            self._put(rows)

    def put(self, rows: Iterable[Row]) -> None:
        """Store *rows* of another store."""
        waiting = iter(rows)
        while batch := list(islice(waiting, _BATCH)):
            with named(self._label, self._folder.path):
                self._put([fitting(row) for row in batch])

    def restore(self, keys: Sequence[str]) -> Mapping[str, Record]:
        """What is known of the tasks with these keys, as far as it was stored before the first question."""
        self._opened()
        lookup = self._looked_up()
        with named(self._label, self._folder.path, writing=False):
            try:
                return lookup.records(keys)
            except Changed as error:
                raise SinkError(self._label, f"{error} while the store was in use. Start the run again.") from error

    def close(self, error: BaseException | None) -> None:
        """Make a part of the journal, put the folder in order, and give up the lock. May be called twice."""
        if self._head is None:
            return
        try:
            self._close_lookup()  # before there is an index of all rows again
            with named(self._label, self._folder.path):
                self._roll()
                tidy(self._folder, self._url.rows)
        except SinkError:
            # All that was accepted is in a part or in a journal, from where the next open takes it.
            if error is None:
                raise
        finally:
            self._release()

    def reader(self) -> ParquetReader:
        """What reads the store without changing it, also while a run writes to it."""
        return ParquetReader(self._folder, self._label)

    def _make_folder(self) -> None:
        path = self._folder.path
        with named(self._label, path):
            if not path.parent.is_dir():
                raise SinkError(self._label, f"The folder {path.parent} does not exist. Make it, or give another path.")
            if path.exists() and not path.is_dir():
                raise SinkError(self._label, f"{path} is no folder. Give a path of its own.")
            path.mkdir(exist_ok=True)
            if self._folder.is_foreign():
                raise SinkError(
                    self._label, f"{path} has Parquet files, but it is no result store. Give a folder of its own."
                )

    def _recover(self, run: Manifest) -> None:
        """Finish what a killed writer has left, and see that each part can be read."""
        self._folder.remove_remains()
        if not self._folder.parts():
            write_part(
                self._folder, PartName(0), [SCHEMA.empty_table()]
            )  # so that readers find the columns before the first row
        parts = self._folder.parts()
        for part in parts:
            PartFile(self._folder.part(part))
        for number in self._folder.journals():
            if number > parts[-1].number:
                Journal(self._folder.journal(number), number, run, self._url.full).close()  # sets a torn line aside
                self._make_part(number, tables_in(self._folder.journal(number)))
            else:
                self._folder.remove_journal(number)
        self._next = max(self._folder.parts()[-1].number, *self._folder.journals(), 0) + 1

    def _put(self, rows: Sequence[Row]) -> None:
        run = self._opened()
        if self._journal is not None and self._journal.is_full(self._url.rows, self._url.seconds, PART_BYTES):
            self._roll()
        if self._journal is None:
            self._journal = Journal(self._folder.journal(self._next), self._next, run, self._url.full)
            self._next += 1
        self._journal.put(rows)

    def _roll(self) -> None:
        """Make a part of what the journal has. If that fails, the journal stays, and it is tried again."""
        if self._journal is not None:
            self._journal.close()
            self._make_part(self._journal.number, self._journal.tables())
            self._journal = None

    def _make_part(self, number: int, tables: Iterator[Any]) -> None:
        first = next(tables, None)
        if first is not None:
            write_part(self._folder, PartName(number), chain([first], tables))
        self._folder.remove_journal(number)

    def _looked_up(self) -> Lookup:
        if self._lookup is None:
            with named(self._label, self._folder.path):
                self._roll()
            with named(self._label, self._folder.path, writing=False):
                groups = Groups([PartFile(self._folder.part(part)) for part in self._folder.parts()])
                self._lookup = Lookup(groups, self._folder.path)
        return self._lookup

    def _opened(self) -> Manifest:
        if self._run is None:
            raise SinkError(self._label, "It is not open.")
        return self._run

    def _release(self) -> None:
        head, self._head = self._head, None
        journal, self._journal = self._journal, None
        self._run = None
        try:
            if journal is not None:
                journal.close()
            self._close_lookup()
        finally:
            if head is not None:
                head.close(None)

    def _close_lookup(self) -> None:
        lookup, self._lookup = self._lookup, None
        if lookup is not None:
            lookup.close()
