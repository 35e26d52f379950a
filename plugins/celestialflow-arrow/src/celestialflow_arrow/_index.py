"""Where the row of each key is, in 17 bytes a row: one pass over the keys, one table of integers.

A slot holds 24 bits of the key's hash and the position of its row; where they agree, the key itself is read from the
store. So a million rows cost 17 MB where a dict would cost 190. The hash is Python's own, which is salted anew in each
process; the table never leaves it.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from celestialflow_arrow._columns import SCHEMA, taken
from celestialflow_arrow._groups import Groups

__all__ = ["KeyIndex", "live_tables"]

_POSITION: Final = (1 << 40) - 1
_HASH: Final = (1 << 64) - 1
_KEY: Final = ("key",)


class KeyIndex:
    """The last row of each key.

    Args:
        groups: The rows.
        hash_of: What makes an integer of a key.

    Attributes:
        superseded: For each position 1 if a later row has the same key, else 0.
        count: How many keys there are.
    """

    def __init__(self, groups: Groups, hash_of: Callable[[str], int] = hash) -> None:
        self._groups = groups
        self._hash = hash_of
        self._slots = 2 * groups.rows + 1
        self._table = _empty_slots(self._slots)
        self.superseded = bytearray(groups.rows)
        for group in range(len(groups)):
            self._add(group)
        self.count = groups.rows - self.superseded.count(1)

    def candidates(self, key: str) -> list[int]:
        """The positions of the rows that may be *key*'s: one, but for a coincidence in 16 million."""
        table, slots = self._table, self._slots
        hashed = self._hash(key) & _HASH
        tag = hashed & ~_POSITION
        slot = hashed % slots
        found = []
        while entry := table[slot]:
            if entry & ~_POSITION == tag:
                found.append((entry & _POSITION) - 1)
            slot = slot + 1 if slot + 1 < slots else 0
        return found

    def _add(self, group: int) -> None:
        table, slots, hash_of = self._table, self._slots, self._hash
        doubtful = []
        for position, key in zip(self._groups.span(group), self._groups.keys(group), strict=True):
            hashed = hash_of(key) & _HASH
            tag = hashed & ~_POSITION
            slot = hashed % slots
            while entry := table[slot]:
                if entry & ~_POSITION == tag:
                    doubtful.append((position, key))
                    break
                slot = slot + 1 if slot + 1 < slots else 0
            else:
                table[slot] = tag | (position + 1)
        if doubtful:
            self._replace(doubtful)

    def _replace(self, doubtful: Iterable[tuple[int, str]]) -> None:
        """Add rows whose keys may be there already. What is there is read once, not for each of them."""
        table, slots = self._table, self._slots
        asked = {position for _, key in doubtful for position in self.candidates(key)}
        keys = dict(self._groups.rows_at(asked, _KEY))
        keys.update(doubtful)
        for position, key in doubtful:
            hashed = self._hash(key) & _HASH
            tag = hashed & ~_POSITION
            slot = hashed % slots
            while entry := table[slot]:
                if entry & ~_POSITION == tag and keys[(entry & _POSITION) - 1] == key:
                    self.superseded[(entry & _POSITION) - 1] = 1
                    break
                slot = slot + 1 if slot + 1 < slots else 0
            table[slot] = tag | (position + 1)


def live_tables(groups: Groups, index: KeyIndex, wanted: Iterable[int]) -> Iterator[Any]:
    """The *wanted* groups with all their columns, without the rows that were replaced by later ones."""
    for group in wanted:
        table = groups.load(group, SCHEMA.names)
        span = groups.span(group)
        here = index.superseded[span.start : span.stop]
        yield taken(table, [row for row, dead in enumerate(here) if not dead]) if any(here) else table


def _empty_slots(count: int) -> memoryview[int]:
    """*count* zeros, in memory that goes back to the system with them.

    What malloc is given back of this size, it takes for usual, and keeps blocks up to it for itself from then on: each
    table that a growing dict leaves behind.
    """
    try:
        pages = mmap.mmap(-1, 8 * count, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"An index of {count:,} slots has no room: {error.strerror}.") from error
    return memoryview(pages).cast("Q")
