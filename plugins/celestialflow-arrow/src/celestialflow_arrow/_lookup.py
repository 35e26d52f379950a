"""Finds what is known of tasks by their keys, a batch at a time, with memory that stays flat.

A row is found in its row group, of which the last few are kept: that is quick for a run whose tasks come in about the
order in which they came before. Where they come in another order, each batch would unpack all of the store. So when it
has been unpacked twice in this way, it is unpacked once more, row by row, into a file without a name, and from then on
a row is a read of a few bytes there. That file takes as much disk as the rows do without compression, and goes with the
process.
"""

from __future__ import annotations

import marshal
import os
import tempfile
from array import array
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Final

from celestialflow_arrow._columns import RESTORED, stored_key
from celestialflow_arrow._groups import Groups
from celestialflow_arrow._index import KeyIndex
from celestialflow_core.sinks import Record, record_of

__all__ = ["Lookup"]

_UNPACKED: Final = 2
"""How often all groups are read before they are unpacked into a file."""


class Lookup:
    """What is known of tasks.

    Args:
        groups: The rows.
        folder: Where there may be room for the file.
    """

    def __init__(self, groups: Groups, folder: Path) -> None:
        self._groups = groups
        self._index = KeyIndex(groups)
        self._folder = folder
        self._unpacked: Unpacked | None = None
        self._limit = groups.loads + _UNPACKED * len(groups)

    def records(self, keys: Sequence[str]) -> dict[str, Record]:
        """What is known of the tasks with these keys."""
        asked = [(position, key) for key in keys for position in self._index.candidates(stored_key(key))]
        rows = self._rows({position for position, _ in asked})
        found: dict[str, Record] = {}
        for position, key in sorted(asked):
            stored, *row = rows[position]
            if stored == stored_key(key):
                record = record_of(key, *row)
                if record is not None:
                    found[key] = record
        return found

    def close(self) -> None:
        """Let go of the file."""
        unpacked, self._unpacked = self._unpacked, None
        if unpacked is not None:
            unpacked.close()

    def _rows(self, positions: Iterable[int]) -> dict[int, Sequence[Any]]:
        if self._unpacked is None and self._groups.loads > self._limit:
            try:
                self._unpacked = Unpacked(self._groups, self._folder)
            except OSError:  # no room: it is slow then, but it goes on
                self._limit = 1 << 62
        if self._unpacked is not None:
            return {position: self._unpacked.row(position) for position in positions}
        return {position: row for position, *row in self._groups.rows_at(positions, RESTORED)}


class Unpacked:
    """The rows in a file of its own, and where each begins, in 8 bytes a row.

    Raises:
        OSError: There is no room for it in *folder*.
    """

    def __init__(self, groups: Groups, folder: Path) -> None:
        self._ends = array("Q", [0])
        with ExitStack() as stack:
            self._file: BinaryIO = stack.enter_context(tempfile.TemporaryFile(prefix="_", dir=folder))
            end = 0
            for group in range(len(groups)):
                columns = groups.load(group, RESTORED).columns
                for cells in zip(*(column.to_pylist() for column in columns), strict=True):
                    end += self._file.write(marshal.dumps(cells))
                    self._ends.append(end)
            self._file.flush()
            stack.pop_all()

    def row(self, position: int) -> Sequence[Any]:
        """The cells of the row at *position*."""
        begin, end = self._ends[position], self._ends[position + 1]
        cells: Sequence[Any] = marshal.loads(os.pread(self._file.fileno(), end - begin, begin))
        return cells

    def close(self) -> None:
        """Let go of the file, which is gone then."""
        self._file.close()
