"""What is left of a run is put in order when it ends: one row a key, and no more files than there need be.

While a run goes on, parts only appear, and none changes: whoever has a list of them can read them all. But rows of an
earlier part may have been replaced by a later one (a task that failed, and now did not), and a part that was made
because time was up is small. So in the end, parts with rows that no longer count are written anew without them, and
small neighbours become one part, which has the number of the last of them. Each step leaves a store that is whole: the
new part comes first, and while the old ones are still there, their rows are the same or older.
"""

from __future__ import annotations

from itertools import chain
from typing import Final

import attrs

from celestialflow_arrow._columns import packed
from celestialflow_arrow._folder import Folder, PartName
from celestialflow_arrow._groups import Groups
from celestialflow_arrow._index import KeyIndex, live_tables
from celestialflow_arrow._part import PartFile, write_part

__all__ = ["PART_BYTES", "tidy"]

PART_BYTES: Final = 64 << 20
"""How large a journal, or a part made of several, is at most, about."""


@attrs.frozen(kw_only=True)
class _Part:
    name: PartName
    file: PartFile
    groups: range
    rows: int
    """Those that count."""


def tidy(folder: Folder, rows: int) -> None:
    """Give each key one row, and join neighbours that together have no more than *rows*.

    Raises:
        OSError: There is no room. The store is whole, and will be put in order the next time.
        Damaged: A part cannot be read.
    """
    names = folder.parts()
    files = [PartFile(folder.part(name)) for name in names]
    if len(files) < 2:
        return
    groups = Groups(files)
    index = KeyIndex(groups)
    parts = _counted(names, files, index.superseded)
    for part in parts[:-1]:
        if not part.rows:
            folder.part(part.name).unlink()
    kept = [part for part in parts[:-1] if part.rows] + parts[-1:]
    for bundle in _bundles(kept, rows):
        if len(bundle) == 1 and bundle[0].rows == bundle[0].file.rows:
            continue
        wanted = chain.from_iterable(part.groups for part in bundle)
        last = bundle[-1].name
        write_part(folder, last._replace(version=last.version + 1), packed(live_tables(groups, index, wanted)))
        for part in bundle:
            folder.part(part.name).unlink()


def _counted(names: list[PartName], files: list[PartFile], superseded: bytearray) -> list[_Part]:
    parts = []
    group = position = 0
    for name, file in zip(names, files, strict=True):
        end = position + file.rows
        of_this = range(group, group + len(file.sizes))
        dead = superseded.count(1, position, end)
        parts.append(_Part(name=name, file=file, groups=of_this, rows=file.rows - dead))
        group, position = of_this.stop, end
    return parts


def _bundles(parts: list[_Part], rows: int) -> list[list[_Part]]:
    """Neighbours that shall be one part."""
    bundles: list[list[_Part]] = []
    for part in parts:
        if bundles:
            joined = [*bundles[-1], part]
            if sum(each.rows for each in joined) <= rows and sum(each.file.bytes for each in joined) <= PART_BYTES:
                bundles[-1] = joined
                continue
        bundles.append([part])
    return bundles
