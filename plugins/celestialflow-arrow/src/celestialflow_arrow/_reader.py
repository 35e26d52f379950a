"""Reads a store without changing it, also while a run writes to it, and without loading a pickle."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Final, Self

import pyarrow.compute

from celestialflow_arrow._columns import FILTERS, SCHEMA, rows_in
from celestialflow_arrow._folder import Folder
from celestialflow_arrow._groups import Groups
from celestialflow_arrow._index import KeyIndex, live_tables
from celestialflow_arrow._journal import jsonl, named, tables_in
from celestialflow_arrow._part import Changed, LoadedRows, PartFile
from celestialflow_core.errors import SinkError
from celestialflow_core.sinks import Manifest, Row

__all__ = ["ParquetReader"]

_compute: Final[Any] = pyarrow.compute  # whose functions are made when it is imported; type checkers know of none
_TRIES: Final = 20
"""How often a store is looked at anew that was changed just while it was looked at."""


class ParquetReader:
    """The rows of a store, as they were when it was entered.

    Args:
        folder: The store's.
        label: What to call it in messages.
    """

    def __init__(self, folder: Folder, label: str) -> None:
        self._folder = folder
        self._label = label
        self._manifest: Manifest | None = None
        self._files: list[PartFile] = []
        self._groups = Groups(())
        self._index: KeyIndex | None = None

    def __enter__(self) -> Self:
        if not self._folder.head.exists():
            raise SinkError(self._label, f"There is no store at {self._folder.path}.")
        try:
            with named(self._label, self._folder.path, writing=False):
                with jsonl(self._folder.head).reader() as head:
                    self._manifest = head.manifest
                self._look()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._manifest = self._index = None
        self._groups = Groups(())
        self._let_go()

    @property
    def manifest(self) -> Manifest:
        """What the store is of."""
        if self._manifest is None:
            raise SinkError(self._label, "It is not open. Use it in a with statement.")
        return self._manifest

    def count(self) -> int:
        """How many tasks the store knows."""
        return self._opened().count

    def rows(
        self, *, status: str | None = None, stage: str | None = None, error_type: str | None = None
    ) -> Iterator[Row]:
        """The rows, one a task, in the order in which they were stored; only those with what is given."""
        index = self._opened()
        wanted = dict(zip(FILTERS, (status, stage, error_type), strict=True))
        given = {column: value for column, value in wanted.items() if value is not None}
        for group in range(len(self._groups)):
            try:
                with named(self._label, self._folder.path, writing=False):
                    table = self._matching(group, given, index)
            except Changed as error:
                raise SinkError(
                    self._label, f"{error}, when a run ended while it was being read. Read it again."
                ) from error
            yield from rows_in(table)

    def _matching(self, group: int, given: dict[str, str], index: KeyIndex) -> Any:
        """The rows of a group that count, and have what is given. Columns of a group without one are not read."""
        if given:
            table = self._groups.load(group, tuple(given))
            for column, value in given.items():
                if not _compute.any(_compute.equal(table.column(column), value)).as_py():
                    return SCHEMA.empty_table()
        table = next(live_tables(self._groups, index, [group]))
        for column, value in given.items():
            table = table.filter(_compute.equal(table.column(column), value))
        return table

    def _look(self) -> None:
        """Find what is there at one moment.

        The journals come first: what leaves them meanwhile is in a part that is seen then. Parts change only after
        another part has come, so if there are the same parts as before they were opened, they belong together.
        """
        for _ in range(_TRIES):
            try:
                loaded = {number: list(tables_in(self._folder.journal(number))) for number in self._folder.journals()}
                parts = self._folder.parts()
                for part in parts:
                    self._files.append(PartFile(self._folder.part(part), held=len(self._files) < _held()))
                if parts == self._folder.parts():
                    newest = parts[-1].number if parts else -1
                    rows = [LoadedRows(tables) for number, tables in loaded.items() if number > newest]
                    self._groups = Groups([*self._files, *rows])
                    self._index = KeyIndex(self._groups)
                    return
            except (Changed, FileNotFoundError):
                pass  # a run has ended just now
            self._let_go()
        raise SinkError(self._label, "It changes faster than it can be read. Read it again.")

    def _let_go(self) -> None:
        files, self._files = self._files, []
        for file in files:
            file.close()

    def _opened(self) -> KeyIndex:
        if self._index is None:
            raise SinkError(self._label, "It is not open. Use it in a with statement.")
        return self._index


def _held() -> int:
    """How many parts are kept open: half of the descriptors that a process may have. They can be read to the end."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2
