"""The page that a worker shares with the parent: what it is running, and since when.

The parent reads it when a worker is dead, or when a time limit comes up; it needs no answer from the worker, which may
be stuck in C code that holds the interpreter lock, or be gone. Each worker has a cache line of its own.

    started   how many calls this worker has started since it came up
    ended     how many of them have ended, their results packed
    since     when the last one started, on the monotonic clock, which parent and worker have in common

Calls start in the order in which they were sent, so the two counts tell what became of every call that the parent
still waits for. The worker writes ``since`` before ``started``.

Behind its line each worker has room for the stack of a call that is stuck, see `stacks`.
"""

from __future__ import annotations

import mmap
import os

from celestialflow_core.executors.process.descriptors import above_stdio

__all__ = ["ENDED", "SINCE", "STARTED", "SharedMemory", "lines", "stack_start"]

STARTED = 0
ENDED = 1
SINCE = 2  # in the view of doubles
_LINE = 64
_PAGE = 4096
_BLOCK = 132 * 1024  # a page for the line; then more than the longest stack that faulthandler writes. Mostly holes.


def lines(memory: mmap.mmap, slot: int) -> tuple[memoryview[int], memoryview[float]]:
    """The line in *slot*, as integers and as doubles."""
    line = memoryview(memory)[slot * _BLOCK : slot * _BLOCK + _LINE]
    return line.cast("q"), line.cast("d")


def stack_start(slot: int) -> int:
    """Where the stack of the worker in *slot* begins."""
    return slot * _BLOCK + _PAGE


class SharedMemory:
    """The blocks of all workers, in memory that belongs to no file system.

    Args:
        slots: How many blocks.
    """

    def __init__(self, slots: int) -> None:
        size = slots * _BLOCK
        self.fd = _anonymous_file(size)
        self._map = mmap.mmap(self.fd, size)
        self._lines = [lines(self._map, slot) for slot in range(slots)]

    def reset(self, slot: int) -> None:
        """Make *slot* ready for a new worker."""
        counts, times = self._lines[slot]
        counts[STARTED] = counts[ENDED] = 0
        times[SINCE] = 0.0
        start = stack_start(slot)
        if self._map[start]:
            self._map[start : start + _BLOCK - _PAGE] = bytes(_BLOCK - _PAGE)

    def stack(self, slot: int) -> bytes:
        """What the worker in *slot* has written of its stack."""
        start = stack_start(slot)
        return self._map[start : max(start, self._map.find(b"\0", start, start + _BLOCK - _PAGE))]

    def read(self, slot: int) -> tuple[int, int, float]:
        """The line in *slot*: started, ended, since."""
        counts, times = self._lines[slot]
        # Started before since: the worker writes them the other way round, so this start is never too early for it.
        started = counts[STARTED]
        return started, counts[ENDED], times[SINCE]

    def started(self, slot: int) -> int:
        """How many calls the worker in *slot* has started."""
        return self._lines[slot][0][STARTED]

    def close(self) -> None:
        """Give the memory back."""
        for counts, times in self._lines:
            counts.release()
            times.release()
        self._lines = []
        self._map.close()
        os.close(self.fd)


def _anonymous_file(size: int) -> int:
    try:
        fd = above_stdio(os.memfd_create("celestialflow"))
    except (AttributeError, OSError):  # not Linux, or a sandbox without memfd
        import tempfile

        with tempfile.TemporaryFile() as file:
            fd = above_stdio(os.dup(file.fileno()))
    os.ftruncate(fd, size)
    return fd
