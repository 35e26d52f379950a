"""How far a graph has come: what `TaskGraph.status` gives."""

from __future__ import annotations

from time import monotonic
from typing import Any

import attrs

from celestialflow_core._observe.interface import RunInfo, Settled, Summary
from celestialflow_core._observe.tally import Tally, duration

__all__ = ["GraphStatus", "Meter", "StageStatus"]


@attrs.frozen(kw_only=True)
class StageStatus:
    """How far one manager of a graph has come.

    Attributes:
        name: The manager's.
        layer: How many managers lie before it, on the longest way from a start.
        pending: Tasks that have not begun: those that wait before it, are ready, or wait for a retry.
        running: Tasks that its executor has.
        done: Tasks that have settled.
        failed: Those of them that failed.
        rate: Tasks a second of late, or None where that cannot be said.
        seconds_left: How long what is pending and running will take at this rate, or None.
    """

    name: str
    layer: int
    pending: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    rate: float | None = None
    seconds_left: float | None = None

    def __str__(self) -> str:
        text = f"{self.name}: {self.done} done, {self.running} running, {self.pending} pending"
        if self.failed:
            text += f", {self.failed} failed"
        if self.rate is not None:
            text += f", {self.rate:.1f}/s"
        return text if self.seconds_left is None else f"{text}, {duration(self.seconds_left)} left"


@attrs.frozen(kw_only=True)
class GraphStatus:
    """How far a graph has come.

    Attributes:
        name: The graph's.
        running: Whether it runs now.
        seconds: How long it has been running, or ran.
        stages: Each manager, in the order in which they were connected.
        layers: Their names by the longest way to them from a start; the managers of a cycle share a layer.
        is_dag: False if there is a cycle.
    """

    name: str
    running: bool
    seconds: float
    stages: tuple[StageStatus, ...]
    layers: tuple[tuple[str, ...], ...]
    is_dag: bool

    def __str__(self) -> str:
        state = "running" if self.running else "not running"
        return "\n".join([f"{self.name} ({state}, {self.seconds:.1f} s)", *[f"  {stage}" for stage in self.stages]])


class Meter:
    """Observes how fast a stage is."""

    def __init__(self) -> None:
        self.tally = Tally(None, monotonic())
        self._ended: float | None = None

    def start(self, run: RunInfo) -> None:
        """Begin to count."""
        self.tally = Tally(run.total, monotonic())

    def settled(self, batch: Settled) -> None:
        """Count a batch."""
        self.tally.add(batch, monotonic())

    def retried(self, task: Any, error: BaseException, attempt: int, delay: float) -> None:
        """A retry changes nothing: what settles is counted."""

    def finish(self, summary: Summary | None) -> None:
        """Keep the last figures."""
        self._ended = monotonic()

    def rate(self) -> float | None:
        """Tasks a second of late, or None where none has run."""
        tally = self.tally
        return tally.rate(monotonic() if self._ended is None else self._ended) if tally.ok + tally.failed else None
