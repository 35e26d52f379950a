"""What has settled in a stage since it was last handed on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

from celestialflow_core._observe.interface import Settled
from celestialflow_core._outcome import Outcome

__all__ = ["Gathered"]


class Gathered:
    """Runs of successes as they were delivered, and everything else as outcomes."""

    __slots__ = ("others", "runs", "tries")

    def __init__(self) -> None:
        self.runs: list[tuple[Sequence[int], Sequence[Any], Sequence[Any], Sequence[Any], Sequence[Any]]] = []
        self.tries: dict[int, int] = {}
        self.others: list[Outcome[Any, Any]] = []

    def __bool__(self) -> bool:
        return bool(self.runs or self.others)

    def settled(self) -> Settled:
        """All of it as one batch; a single run is not copied."""
        if not self.runs:
            return Settled(tries=self.tries, others=self.others)
        if len(self.runs) == 1:
            ids, tasks, values, seconds, workers = self.runs[0]
        else:
            ids, tasks, values, seconds, workers = map(_joined, zip(*self.runs, strict=True))
        return Settled(ids, tasks, values, seconds, workers, self.tries, self.others)


def _joined(columns: Iterable[Sequence[Any]]) -> list[Any]:
    return list(chain.from_iterable(columns))
