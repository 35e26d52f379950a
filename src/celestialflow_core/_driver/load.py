"""How much a run holds, kept as it changes: to add it up over all stages would cost a run of many of them too much."""

from __future__ import annotations

from celestialflow_core._engine.machine import IdSource

__all__ = ["Load"]


class Load:
    """Counts what one run holds.

    Attributes:
        settled: How many tasks have settled and been handed on.
        waiting: How many results, or items of results, have become tasks of a next stage that has not taken them, and
            how many results are being exploded.
        stirred: The stages in which there may be something to do, by their place in the run: a run of many looks at
            these alone.
    """

    __slots__ = ("_ids", "settled", "stirred", "waiting")

    def __init__(self, ids: IdSource) -> None:
        self._ids = ids
        self.settled = 0
        self.waiting = 0
        self.stirred: set[int] = set()

    @property
    def held(self) -> int:
        """How many tasks there are: those that have not settled, and those that wait to be taken."""
        return self._ids.given - self.settled + self.waiting
