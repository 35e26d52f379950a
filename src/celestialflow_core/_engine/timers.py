"""The retries that are not due yet, soonest first."""

from __future__ import annotations

import heapq

__all__ = ["Timers"]


class Timers:
    """A heap of ``(due, id)``; ids that are due at one moment come in the order in which they were added."""

    __slots__ = ("_added", "_heap")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, int]] = []
        self._added = 0

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, id: int, due: float) -> None:
        """*id* is due at the moment *due*."""
        self._added += 1
        heapq.heappush(self._heap, (due, self._added, id))

    def next_due(self) -> float | None:
        """The moment at which the first is due, or None."""
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now: float) -> list[int]:
        """Take out all that are due at *now*."""
        due = []
        while self._heap and self._heap[0][0] <= now:
            due.append(heapq.heappop(self._heap)[2])
        return due

    def clear(self) -> None:
        """Forget all."""
        self._heap.clear()

    def ids(self) -> set[int]:
        """The ids that wait."""
        return {id for _, _, id in self._heap}
