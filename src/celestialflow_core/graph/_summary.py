"""The summary of a graph, made of those of its managers."""

from __future__ import annotations

import attrs

from celestialflow_core._outcome import RunSummary

__all__ = ["added_up"]

FIGURES = (
    *("total", "succeeded", "failed", "duplicates", "restored", "cancelled", "skipped"),
    *("retries", "reruns", "abandoned", "crashes", "hook_errors"),
)
SLOWEST = 5


def added_up(name: str, seconds: float, stopped: str | None, stages: tuple[RunSummary, ...]) -> RunSummary:
    """The summary of the graph *name*, in which the figures of its *stages* are added up."""
    errors = [attrs.evolve(group, stage=stage.name) for stage in stages for group in stage.errors]
    slowest = [attrs.evolve(slow, stage=stage.name) for stage in stages for slow in stage.slowest]
    return RunSummary(
        name=name,
        mode="graph",
        seconds=seconds,
        stopped=stopped,
        errors=tuple(sorted(errors, key=lambda group: -group.count)),
        slowest=tuple(sorted(slowest, key=lambda slow: -slow.seconds)[:SLOWEST]),
        stages=stages,
        **{figure: sum(getattr(stage, figure) for stage in stages) for figure in FIGURES},
    )
