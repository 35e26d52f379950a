"""What waits between two stages: results that have become tasks, and have not been taken yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celestialflow_core._driver.load import Load
from celestialflow_core._engine.ready import Ready

__all__ = ["Channel"]


class Channel:
    """The way from one stage to another, of one edge.

    Args:
        unbounded: Whether it is inside a cycle.
        load: Counts what the run holds.

    Attributes:
        unbounded: True inside a cycle: what waits here is taken whatever the run holds already, since each stage of
            the cycle might otherwise wait for the next.
        passed: How many tasks have gone this way.
        place: That of the stage to which it leads.
    """

    __slots__ = ("_load", "_queue", "passed", "place", "unbounded")

    def __init__(self, unbounded: bool, load: Load) -> None:
        self._load = load
        self.unbounded = unbounded
        self.passed = 0
        self.place = 0
        self._queue: Ready[Any, Any] = Ready()

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, kin: Sequence[Any], tasks: Sequence[Any]) -> None:
        """Put tasks in, with where each came from. In a cycle the newest go first, so that what waits stays little."""
        self.passed += len(tasks)
        self._load.waiting += len(tasks)
        self._load.stirred.add(self.place)
        if self.unbounded:
            self._queue.add_first(kin, tasks)
        else:
            self._queue.add(kin, tasks)

    def take(self, most: int) -> tuple[Sequence[Any], Sequence[Any]]:
        """Take out up to *most*: where they came from, and the tasks."""
        kin, tasks = self._queue.take(most)
        self._load.waiting -= len(tasks)
        return kin, tasks
