"""The tasks that may be submitted, in order, kept in the batches in which they came."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

__all__ = ["Ready"]

K = TypeVar("K")
T = TypeVar("T")


class Ready(Generic[K, T]):
    """A queue of ``(ids, tasks)`` batches that is counted, and taken from, in tasks. K: what the "ids" are.

    Moving a batch costs the same for one task and for a thousand; only where a batch is split are tasks copied.
    """

    __slots__ = ("_batches", "_count")

    def __init__(self) -> None:
        self._batches: deque[tuple[Sequence[K], Sequence[T]]] = deque()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[tuple[K, T]]:
        for ids, tasks in self._batches:
            yield from zip(ids, tasks, strict=True)

    def add(self, ids: Sequence[K], tasks: Sequence[T]) -> None:
        """Put a batch behind all others."""
        if ids:
            self._batches.append((ids, tasks))
            self._count += len(ids)

    def add_first(self, ids: Sequence[K], tasks: Sequence[T]) -> None:
        """Put a batch before all others."""
        if ids:
            self._batches.appendleft((ids, tasks))
            self._count += len(ids)

    def take(self, most: int) -> tuple[Sequence[K], Sequence[T]]:
        """Take out up to *most* tasks from the front."""
        if most <= 0 or not self._batches:
            return (), ()
        ids, tasks = self._batches.popleft()
        if len(ids) < most and self._batches:
            more_ids, more_tasks = list(ids), list(tasks)
            while len(more_ids) < most and self._batches:
                next_ids, next_tasks = self._batches.popleft()
                more_ids += next_ids
                more_tasks += next_tasks
            ids, tasks = more_ids, more_tasks
        if len(ids) > most:
            self._batches.appendleft((ids[most:], tasks[most:]))
            ids, tasks = ids[:most], tasks[:most]
        self._count -= len(ids)
        return ids, tasks

    def clear(self) -> None:
        """Forget all."""
        self._batches.clear()
        self._count = 0
