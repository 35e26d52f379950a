"""What a graph is made of, before and between its runs: managers by name, and the edges between them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import attrs

from celestialflow_core._driver.source import check_iterable
from celestialflow_core._manager.manager import TaskManager, inside
from celestialflow_core._manager.options import Options
from celestialflow_core.errors import GraphError
from celestialflow_core.graph._check import check_edges, check_reached, following
from celestialflow_core.graph._edge import Edge
from celestialflow_core.graph._topology import components, layers

__all__ = ["Manager", "Network"]

Manager: TypeAlias = TaskManager[Any, Any]


@attrs.define(eq=False)
class Network:
    """Managers and edges. A change is made whole, or it is refused and nothing has changed.

    Attributes:
        options: Those that hold for the whole graph.
        managers: By name, in the order in which they came.
        edges: In the order in which they were connected.
    """

    options: Options
    managers: dict[str, Manager] = attrs.field(factory=dict)
    edges: list[Edge] = attrs.field(factory=list)

    def add(self, managers: Iterable[Manager]) -> None:
        """Put *managers* in.

        Raises:
            GraphError: Two have one name, or one has an option that only the graph can keep.
            TypeError: Something is no manager.
        """
        self.managers = self._with(managers)

    def connect(self, source: Manager, targets: Manager | Sequence[Manager], how: Mapping[str, Any]) -> None:
        """Put an edge in, and its managers; *how* has what an `Edge` takes.

        Raises:
            GraphError: The arguments contradict one another, or the cycle would have no end.
            TypeError: An argument is of the wrong kind.
        """
        if not isinstance(targets, TaskManager) and not isinstance(targets, list | tuple):
            raise TypeError(f"connect takes a manager and one or a list of managers, got {targets!r}.")
        several = (targets,) if isinstance(targets, TaskManager) else tuple(targets)
        if not several:
            raise GraphError("connect got an empty list of managers. Name at least one.")
        managers = self._with((source, *several))
        edge = Edge(number=len(self.edges), source=source, targets=several, **how)
        edge.check()
        check_edges(list(managers), [*self.edges, edge], _deduplicates(managers.values()))
        self.managers = managers
        self.edges.append(edge)

    @contextlib.contextmanager
    def as_one_change(self) -> Iterator[None]:
        """What is added and connected inside stays only if all of it does."""
        before = self.managers, list(self.edges)
        try:
            yield
        except BaseException:
            self.managers, self.edges = before
            raise

    def inputs(self, sources: Any) -> dict[str, Any]:
        """The tasks of *sources* by the manager's name.

        Raises:
            GraphError: A source is no manager of the graph, or is given tasks twice.
            TypeError: There is no mapping, or tasks cannot be iterated over.
        """
        if not isinstance(sources, Mapping):
            raise TypeError(
                f"A graph takes its tasks by manager, {{manager: tasks}}, got {type(sources).__name__}. With one "
                f"source: graph.start({{manager: tasks}})."
            )
        inputs: dict[str, Any] = {}
        for manager, tasks in sources.items():
            name = manager if isinstance(manager, str) else getattr(manager, "name", None)
            known = self.managers.get(name) if isinstance(name, str) else None
            if known is None or (known is not manager and not isinstance(manager, str)):
                raise GraphError(
                    f"The source {manager!r} is no manager of the graph. Connect it, or add it: graph.add(manager)."
                )
            check_iterable(tasks)
            if known.name in inputs:
                raise GraphError(f"{known.name!r} is given tasks twice. Chain them: itertools.chain(a, b).")
            inputs[known.name] = tasks
        return inputs

    def check(self, sources: Iterable[str]) -> None:
        """Refuse to run what cannot run with tasks for *sources*; managers may have changed since they came.

        Raises:
            GraphError: There is no manager, one has been renamed, a cycle has no end, or no source reaches a manager.
        """
        names = list(self.managers)
        if not names:
            raise GraphError("The graph has no managers. Connect some, or add one.")
        changed = [name for name, manager in self.managers.items() if manager.name != name]
        if changed:
            raise GraphError(
                f"{changed[0]!r} has been renamed since it was connected. Name managers when they are made."
            )
        check_edges(names, self.edges, _deduplicates(self.managers.values()))
        check_reached(names, self.edges, sources)

    def layers(self) -> list[list[str]]:
        """The names by the longest way to them from a start; the managers of a cycle share a layer."""
        return layers(self._following())

    def is_dag(self) -> bool:
        """False if there is a cycle."""
        follow = self._following()
        return all(len(part) == 1 and part[0] not in follow[part[0]] for part in components(follow))

    def _following(self) -> Mapping[str, list[str]]:
        return following(self.managers, self.edges)

    def _with(self, managers: Iterable[Manager]) -> dict[str, Manager]:
        """The managers by name, with *managers*, each of which is fit for a graph."""
        found = dict(self.managers)
        for manager in managers:
            if not isinstance(manager, TaskManager):
                raise TypeError(
                    f"A graph is made of TaskManagers, got {manager!r}. Wrap a function: TaskManager(function)."
                )
            if found.setdefault(manager.name, manager) is not manager:
                raise GraphError(
                    f"Two managers of the graph are named {manager.name!r}. Give one of them another name: "
                    f"TaskManager(..., name=...)."
                )
            self._check_options(manager.name, inside(manager).options)
        return found

    def _check_options(self, name: str, options: Options) -> None:
        """Refuse a manager with an option that only a graph can keep, or without one that this graph needs."""
        for option in ("max_in_flight", "sinks", "resume", "shard"):
            if getattr(options, option):
                raise GraphError(
                    f"{name!r} has {option}={getattr(options, option)!r} of its own, which cannot be kept in a graph. "
                    f"Leave it out; the TaskGraph takes sinks, resume and max_in_flight for all its managers."
                )
        if self.options.resume and not options.enable_duplicate_check:
            raise GraphError(
                f"{name!r} has its duplicate check off, so a graph that resumes cannot know its tasks again. Leave it "
                f"on."
            )


def _deduplicates(managers: Iterable[Manager]) -> dict[str, bool]:
    return {manager.name: inside(manager).options.enable_duplicate_check for manager in managers}
