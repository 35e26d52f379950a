"""What is wrong with a graph, found before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from celestialflow_core.errors import GraphError
from celestialflow_core.graph._edge import Edge
from celestialflow_core.graph._topology import cycle_through, reachable

__all__ = ["check_edges", "check_reached", "following"]


def following(names: Iterable[str], edges: Iterable[Edge]) -> Mapping[str, list[str]]:
    """Which managers follow each, by name, once each and in the order of the edges."""
    found: dict[str, dict[str, None]] = {name: {} for name in names}
    for edge in edges:
        found[edge.source.name].update(dict.fromkeys(target.name for target in edge.targets))
    return {name: list(followers) for name, followers in found.items()}


def check_edges(names: Sequence[str], edges: Sequence[Edge], deduplicates: Mapping[str, bool]) -> None:
    """Refuse edges that contradict one another, or make a cycle without an end.

    Args:
        names: The managers.
        edges: All edges.
        deduplicates: Whether each manager has its duplicate check on.

    Raises:
        GraphError: The message says which edge, and what to do.
    """
    for edge in edges:
        if edge.gather:
            for target in edge.targets:
                if edge.source.name in reachable([target.name], following(names, edges)):
                    raise GraphError(
                        f"Edge {edge.label} gathers inside its own cycle: what came of a task of {edge.source.name!r} "
                        f"would never be complete, since {target.name!r} leads back to it. Let the cycle end in a "
                        f"manager outside, or gather from one before it."
                    )
        if edge.source in edge.targets and edge.when is None and not deduplicates[edge.source.name]:
            raise GraphError(
                f"Edge {edge.source.name} -> {edge.source.name} has no end: every result is a task again. Give it a "
                f"when, or leave the duplicate check of {edge.source.name!r} on."
            )
    # A cycle ends where an edge may pass nothing on, or where a manager knows a task again.
    endless = following(
        [name for name in names if not deduplicates[name]],
        [
            Edge(number=0, source=edge.source, targets=tuple(t for t in edge.targets if not deduplicates[t.name]))
            for edge in edges
            if edge.always and not edge.each and not deduplicates[edge.source.name]
        ],
    )
    for name in endless:
        cycle = cycle_through(name, endless)
        if cycle is not None:
            raise GraphError(
                f"The cycle {' -> '.join([*cycle, name])} has no end: every result goes round, and none of its "
                f"managers knows a task again. Give one of its edges a when, or leave a duplicate check on."
            )


def check_reached(names: Sequence[str], edges: Sequence[Edge], sources: Iterable[str]) -> None:
    """Refuse managers that would never have a task.

    Raises:
        GraphError: One is not reached from any of *sources*.
    """
    reached = reachable(sources, following(names, edges))
    missed = [name for name in names if name not in reached]
    if missed:
        raise GraphError(
            f"No source reaches {', '.join(map(repr, missed))}. Give it tasks of its own, connect something to it, or "
            f"leave it out of the graph."
        )
