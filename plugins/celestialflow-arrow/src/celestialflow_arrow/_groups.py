"""All rows of a store as one sequence, group after group, each row with its position in it."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, Final

from celestialflow_arrow._columns import taken
from celestialflow_arrow._part import Source

__all__ = ["Groups"]

_KEPT: Final = 4
"""Groups that are kept in memory. Tasks mostly come in the order in which they came the last time, or nearly so."""


class Groups:
    """The rows of *sources*, one after the other.

    Attributes:
        rows: How many there are, whichever of them count.
        loads: How often a group was read that was not kept any more.
    """

    def __init__(self, sources: Iterable[Source]) -> None:
        self._groups: list[tuple[Source, int]] = []
        self._starts: list[int] = []
        self._kept: OrderedDict[tuple[int, Sequence[str]], Any] = OrderedDict()
        self.rows = self.loads = 0
        for source in sources:
            for number, size in enumerate(source.sizes):
                self._groups.append((source, number))
                self._starts.append(self.rows)
                self.rows += size

    def __len__(self) -> int:
        return len(self._groups)

    def span(self, group: int) -> range:
        """The positions of the rows of a group."""
        start = self._starts[group]
        source, number = self._groups[group]
        return range(start, start + source.sizes[number])

    def read(self, group: int, columns: Sequence[str]) -> Any:
        """These columns of a group, which is kept for the next question."""
        known = (group, columns)
        table = self._kept.get(known)
        if table is None:
            table = self.load(group, columns)
            self.loads += 1
            self._kept[known] = table
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(known)
        return table

    def load(self, group: int, columns: Sequence[str]) -> Any:
        """These columns of a group, which is not kept."""
        source, number = self._groups[group]
        return source.read(number, columns)

    def keys(self, group: int) -> list[str]:
        """The keys of a group."""
        keys: list[str] = self.load(group, ("key",)).column(0).to_pylist()
        return keys

    def rows_at(self, positions: Iterable[int], columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """Each of *positions* with the cells of its row, in the order of the store."""
        starts = self._starts
        for group, some in groupby(sorted(set(positions)), lambda position: bisect_right(starts, position) - 1):
            here = list(some)
            found = taken(self.read(group, columns), [position - starts[group] for position in here])
            yield from zip(here, *(column.to_pylist() for column in found.columns), strict=True)
