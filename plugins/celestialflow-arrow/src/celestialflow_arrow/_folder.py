"""What lies in the folder of a store, and which of it counts.

    _store.jsonl              what the store is of; its lock, beside it, is the store's
    _journal-000007.jsonl     the outcomes since the last part, a line each, as the core's own jsonl store has them
    part-000006.parquet       outcomes; 6 is the number of the last journal that has gone into it
    part-000006-1.parquet     the same part, written anew: it counts, and the older one is about to go
    _part-000007.parquet.tmp  a part that is being written

No file is ever replaced by another one of its name: DuckDB opens a file more than once for one question, and would take
what it has read of the one for the other.

Journals become parts in the order of their numbers. So a journal whose number is not above that of the newest part has
become one, even if its writer was killed before it could remove it. Names that begin with "_" are skipped by those who
read all of a folder (pyarrow, Spark), and end in no ".parquet" for those who ask by pattern (DuckDB).
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["Folder", "PartName"]

_PART: Final = re.compile(r"part-(\d{6,})(?:-(\d+))?\.parquet").fullmatch
_JOURNAL: Final = re.compile(r"_journal-(\d{6,})\.jsonl").fullmatch
_LEFT: Final = re.compile(r"_part-\d{6,}(-\d+)?\.parquet\.tmp").fullmatch


class PartName(NamedTuple):
    """The number of a part, and how often it was written anew."""

    number: int
    version: int = 0

    def __str__(self) -> str:
        version = f"-{self.version}" if self.version else ""
        return f"part-{self.number:06d}{version}.parquet"


class Folder:
    """The files of a store by their names."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.head = path / "_store.jsonl"

    def part(self, name: PartName) -> Path:
        """Where the part *name* is."""
        return self.path / str(name)

    def unfinished(self, name: PartName) -> Path:
        """Where the part *name* is while it is written."""
        return self.path / f"_{name}.tmp"

    def journal(self, number: int) -> Path:
        """Where the journal *number* is."""
        return self.path / f"_journal-{number:06d}.jsonl"

    def parts(self) -> list[PartName]:
        """The parts that count, in their order."""
        return sorted({part.number: part for part in sorted(self._all_parts())}.values())

    def journals(self, newest_part: int = -1) -> list[int]:
        """The numbers of the journals that are in no part yet, in their order."""
        numbers = sorted(int(found[1]) for name in os.listdir(self.path) if (found := _JOURNAL(name)))
        return [number for number in numbers if number > newest_part]

    def is_foreign(self) -> bool:
        """Whether the folder has Parquet files, but is no store."""
        return not self.head.exists() and any(name.endswith(".parquet") for name in os.listdir(self.path))

    def remove_journal(self, number: int) -> None:
        """Remove the journal *number*, and the lock that a killed writer may have left of it."""
        path = self.journal(number)
        path.with_name(path.name + ".lock").unlink(missing_ok=True)
        path.unlink(missing_ok=True)

    def remove_remains(self) -> None:
        """Remove the parts that nobody will finish, and those that were written anew."""
        for name in os.listdir(self.path):
            if _LEFT(name):
                (self.path / name).unlink()
        for part in self._all_parts() - set(self.parts()):
            self.part(part).unlink()

    def sync(self) -> None:
        """Make the names that are there outlive a power failure."""
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def _all_parts(self) -> set[PartName]:
        found = filter(None, map(_PART, os.listdir(self.path)))
        return {PartName(int(each[1]), int(each[2] or 0)) for each in found}
