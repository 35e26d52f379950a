"""When a worker has done enough, and is replaced by a fresh one.

That happens between leases, so no call is lost and nothing counts as a crash. A worker is given no more calls than it
may run; shortly before it has run them its heir is started, with the same index, and takes over the moment it leaves.
One that holds too much memory gives back what it has not started.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator

from celestialflow_core.executors.process.handle import Handle

__all__ = ["TO_LEAVE", "Recycling"]

TO_LEAVE = 10.0
"""Seconds that a worker which is replaced has for its tear-down."""


class Recycling:
    """Keeps the limits on what one worker does.

    Args:
        max_tasks: The most calls of one worker, or None.
        max_memory: The most memory, in bytes, that a worker may hold and still get calls, or None.
    """

    def __init__(self, max_tasks: int | None, max_memory: int | None) -> None:
        self.active = max_tasks is not None or max_memory is not None
        """Whether workers are replaced at all."""
        self.calls = sys.maxsize if max_tasks is None else max_tasks
        """How many calls a worker gets."""
        self._max_memory = max_memory
        self._start_up = 0.0

    def came_up(self, seconds: float) -> None:
        """A worker has been ready *seconds* after it was started."""
        self._start_up = seconds

    def holds_too_much(self, handle: Handle) -> bool:
        """Whether the worker is over the limit on memory now."""
        if self._max_memory is None:
            return False
        try:
            with open(f"/proc/{handle.pid}/statm", "rb", buffering=0) as file:
                pages = int(file.read(200).split()[1])
        except (OSError, IndexError):
            return False  # it is gone, and will be buried; or there is no /proc
        return pages * os.sysconf("SC_PAGE_SIZE") > self._max_memory

    def done_for(self, handles: Iterable[Handle]) -> list[Handle]:
        """The workers that should leave now."""
        return [
            handle
            for handle in handles
            if handle.ready
            and not handle.calls.ids
            and (handle.worn or not handle.room)
            and handle.leaving is None
            and handle.condemned is None
        ]

    def without_heir(self, handles: Iterable[Handle], per_call: float) -> Iterator[Handle]:
        """The workers that have so little left to do that a replacement should be started.

        Args:
            handles: All workers.
            per_call: How long a call takes, in seconds.
        """
        succeeded = {handle.predecessor for handle in handles}
        for handle in handles:
            if handle in succeeded or handle.predecessor is not None or handle.leaving is not None or not handle.ready:
                continue
            left = handle.room + len(handle.calls)
            if handle.worn or not handle.room or left * per_call <= 1.5 * self._start_up:
                yield handle
