"""What a graph does between two rounds of its run: explode results, and let stages begin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from celestialflow_core._driver.stage import Stage
from celestialflow_core.graph._junction import Junction
from celestialflow_core.graph._way import Way

__all__ = ["Schedule"]


class Schedule:
    """Called by the run before each round.

    Args:
        springs: The ways on which results are exploded, each with the junction that it leaves.
        before: For each stage that may not begin yet, the stages that have to end before.
        into: For each of these, the ways on which tasks may still come to it from a result.
    """

    def __init__(
        self,
        springs: Sequence[tuple[Junction, Way]],
        before: Mapping[str, Sequence[Stage]],
        into: Mapping[str, Sequence[Way]],
        held_back: Sequence[Stage],
    ) -> None:
        self._springs = springs
        self._before = before
        self._into = into
        self._held_back = list(held_back)
        for stage in self._held_back:
            stage.begun = False

    def __call__(self, now: float, room: int) -> bool:
        """Do what can be done.

        Args:
            now: The moment.
            room: How many more tasks the run may hold.

        Returns:
            True if there is more to do at once.
        """
        again = False
        for junction, way in self._springs:
            if way.springs:
                made, fewer, more = way.pump(room, now)
                room -= made
                again = again or more
                for family in fewer:
                    junction.fewer(family)
        for stage in list(self._held_back):
            if all(self._ended(other) for other in self._before[stage.name]):
                stage.begun = again = True
                self._held_back.remove(stage)
        return again

    def _ended(self, stage: Stage) -> bool:
        return stage.begun and stage.idle and not any(way.springs for way in self._into[stage.name])
