"""The page that a worker shares with the parent: what it is running, and since when.

The parent reads it when a worker is dead, or when a time limit comes up; it needs no answer from the worker, which may
be stuck in C code that holds the interpreter lock, or be gone. Each worker has a cache line of its own.

    started   how many calls this worker has started since it came up
    ended     how many of them have ended, their results packed
    since     when the last one started, on the monotonic clock, which parent and worker have in common

Calls start in the order in which they were sent, so the two counts tell what became of every call that the parent
still waits for. The worker writes ``since`` before ``started``.
"""

from __future__ import annotations

import mmap
import os

from celestialflow_core.executors.process.descriptors import above_stdio

__all__ = ["ENDED", "SINCE", "STARTED", "SharedMemory", "lines"]

STARTED = 0
ENDED = 1
SINCE = 2  # in the view of doubles
_LINE = 64


def lines(memory: mmap.mmap, index: int) -> tuple[memoryview[int], memoryview[float]]:
    """Worker *index*'s line, as integers and as doubles."""
    line = memoryview(memory)[index * _LINE : (index + 1) * _LINE]
    return line.cast("q"), line.cast("d")


class SharedMemory:
    """The lines of all workers, in memory that belongs to no file system.

    Args:
        workers: How many lines.
    """

    def __init__(self, workers: int) -> None:
        size = workers * _LINE
        self.fd = _anonymous_file(size)
        self._map = mmap.mmap(self.fd, size)
        self._lines = [lines(self._map, index) for index in range(workers)]

    def reset(self, index: int) -> None:
        """Make line *index* ready for a new worker."""
        counts, times = self._lines[index]
        counts[STARTED] = counts[ENDED] = 0
        times[SINCE] = 0.0

    def read(self, index: int) -> tuple[int, int, float]:
        """The line of worker *index*: started, ended, since."""
        counts, times = self._lines[index]
        # Started before since: the worker writes them the other way round, so this start is never too early for it.
        started = counts[STARTED]
        return started, counts[ENDED], times[SINCE]

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
