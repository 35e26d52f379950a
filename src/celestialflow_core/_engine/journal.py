"""The last transitions of a run, for ``story`` and ``check``: bounded, and written a batch at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from celestialflow_core._engine.transitions import Event

__all__ = ["Journal"]


class Journal:
    """Remembers batches of ``(event, moment, ids)`` until they hold more than *limit* ids."""

    __slots__ = ("_entries", "_held", "complete", "limit")

    def __init__(self, limit: int = 8192) -> None:
        self.limit = limit
        self.complete = True
        """False once something has been forgotten."""
        self._entries: deque[tuple[Event, float, Sequence[int]]] = deque()
        self._held = 0

    def add(self, event: Event, now: float, ids: Sequence[int]) -> None:
        """Write that *event* happened to *ids* at *now*."""
        self._entries.append((event, now, ids))
        self._held += len(ids)
        while self._held > self.limit and len(self._entries) > 1:
            self._held -= len(self._entries.popleft()[2])
            self.complete = False

    def __iter__(self) -> Iterator[tuple[Event, float, Sequence[int]]]:
        """What is remembered now, oldest first; a copy, for another thread may write on."""
        return iter(list(self._entries))

    def of(self, id: int) -> list[tuple[Event, float]]:
        """What is remembered of one task, oldest first."""
        return [(event, now) for event, now, ids in self if id in ids]
