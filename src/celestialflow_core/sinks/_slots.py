"""The memory of an index: a table of zeros that goes back to the system, all of it, as soon as nobody holds it.

It is not malloc's. When a block of megabytes is given back to glibc's malloc, that takes the size for usual, and cuts
blocks up to it from its heap from then on: of the tables of a dict that grows, each half as large as the next, all stay
with the process. A run that remembered a million tasks, in a process that had resumed one before, was 18 MB larger so.
"""

from __future__ import annotations

import mmap

__all__ = ["empty_slots"]


def empty_slots(count: int) -> memoryview[int]:
    """*count* zeros, of 64 bits each.

    Raises:
        MemoryError: There is no room for them.
    """
    try:
        pages = mmap.mmap(-1, 8 * count, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"An index of {count:,} slots has no room: {error.strerror}.") from error
    return memoryview(pages).cast("Q")
