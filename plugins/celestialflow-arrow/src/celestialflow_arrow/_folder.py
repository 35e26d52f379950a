"""What lies in the folder of a store, and which of it counts.

    _store.jsonl              what the store is of; its lock, beside it, is the store's
    _journal-000007.jsonl     the outcomes since the last part, a line each, as the core's own jsonl store has them
    part-000006.parquet       outcomes; 6 is the number of the last journal that has gone into it
    _part-000007.parquet.tmp  a part that is being written

Journals become parts in the order of their numbers. So a journal whose number is not above that of the newest part has
become one, even if its writer was killed before it could remove it. Names that begin with "_" are skipped by those who
read all of a folder (pyarrow, Spark), and end in no ".parquet" for those who ask by pattern (DuckDB).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

__all__ = ["Folder"]

_PART: Final = re.compile(r"part-(\d{6,})\.parquet").fullmatch
_JOURNAL: Final = re.compile(r"_journal-(\d{6,})\.jsonl").fullmatch
_LEFT: Final = re.compile(r"_part-\d{6,}\.parquet\.tmp").fullmatch


class Folder:
    """The files of a store by their names."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.head = path / "_store.jsonl"

    def part(self, number: int) -> Path:
        """Where the part *number* is."""
        return self.path / f"part-{number:06d}.parquet"

    def unfinished(self, number: int) -> Path:
        """Where the part *number* is while it is written."""
        return self.path / f"_part-{number:06d}.parquet.tmp"

    def journal(self, number: int) -> Path:
        """Where the journal *number* is."""
        return self.path / f"_journal-{number:06d}.jsonl"

    def parts(self) -> list[int]:
        """The numbers of the parts, in their order."""
        return self._numbers(_PART)

    def journals(self, newest_part: int = -1) -> list[int]:
        """The numbers of the journals that are in no part yet, in their order."""
        return [number for number in self._numbers(_JOURNAL) if number > newest_part]

    def is_foreign(self) -> bool:
        """Whether the folder has Parquet files, but is no store."""
        return not self.head.exists() and any(name.endswith(".parquet") for name in os.listdir(self.path))

    def remove_journal(self, number: int) -> None:
        """Remove the journal *number*, and the lock that a killed writer may have left of it."""
        path = self.journal(number)
        path.with_name(path.name + ".lock").unlink(missing_ok=True)
        path.unlink(missing_ok=True)

    def remove_unfinished(self) -> None:
        """Remove the parts that nobody will finish."""
        for name in os.listdir(self.path):
            if _LEFT(name):
                (self.path / name).unlink(missing_ok=True)

    def sync(self) -> None:
        """Make the names that are there outlive a power failure."""
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def _numbers(self, matching: Callable[[str], re.Match[str] | None]) -> list[int]:
        return sorted(int(found[1]) for name in os.listdir(self.path) if (found := matching(name)))
