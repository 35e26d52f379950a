"""`TaskGraph`: managers whose results stream into one another."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

from celestialflow_core._driver import drive
from celestialflow_core._driver.source import check_iterable
from celestialflow_core._driver.stream import OutcomeStream
from celestialflow_core._manager.manager import TaskManager, inside
from celestialflow_core._manager.options import Options
from celestialflow_core._outcome import Counts, RunSummary
from celestialflow_core._policies import Stop
from celestialflow_core.errors import GraphError, RunInProgress
from celestialflow_core.graph import _shapes as shapes
from celestialflow_core.graph._check import check_edges, check_reached, following
from celestialflow_core.graph._drawing import mermaid
from celestialflow_core.graph._edge import Edge
from celestialflow_core.graph._launch import Live, Part, launch
from celestialflow_core.graph._status import GraphStatus, StageStatus
from celestialflow_core.graph._topology import components, layers

if TYPE_CHECKING:
    from celestialflow_core._driver.aio.stream import AsyncOutcomeStream
    from celestialflow_core._driver.plan import Plan

__all__ = ["TaskGraph"]

Manager: TypeAlias = TaskManager[Any, Any]
Sources: TypeAlias = Mapping[Any, Iterable[Any]]


class TaskGraph:
    """Managers that stream into one another: each result of one is a task of the next, while the first still runs.

    A graph is one run. Every manager keeps its own executor, retries, hooks, overrides and dicts; what is given here
    holds for the whole graph, and the same options of its managers do not count.

    Args:
        name: For logs and messages.
        max_in_flight: How many tasks may be anywhere in the graph when a source is asked for another; by default
            4,096 + 16 x workers. What a result is exploded into is taken one by one, so a graph without cycles never
            holds more than that and, for each manager, the calls that its executor runs at a time.
        schedule: "streaming", or "staged": a manager begins when all before it have ended, and every result between
            them is kept in memory.
        show_progress: Show a progress bar for each manager.
        stop: When to end the whole graph early; an int means after so many errors. A rule of a manager ends the graph
            too.
        grace: Seconds that running calls have when the run ends early.
        sinks: Where the outcomes of every manager are stored, as for a `TaskManager`.
        resume: Go on from what the first store among the sinks has. What is restored flows along its edges as if it
            had just been computed, but for joins in which anything is new.
        version: What this version of the work is called; a store with results of another one is refused.
        log_level: The lowest level that is logged.
        log_dir: The folder of the log file; None: no file. A manager with ``log_dir=None`` writes no lines into it, and
            where all have that there is no file.

    Raises:
        TypeError, ValueError: An argument is wrong.
    """

    def __init__(
        self,
        name: str = "graph",
        *,
        max_in_flight: int | None = None,
        schedule: Literal["streaming", "staged"] = "streaming",
        show_progress: bool = False,
        stop: Stop | int | None = None,
        grace: float = 5.0,
        sinks: Iterable[object] = (),
        resume: bool | str = False,
        version: str = "",
        log_level: str = "INFO",
        log_dir: str | os.PathLike[str] | None = "logs",
    ) -> None:
        if not isinstance(name, str):
            raise TypeError(f"name must be a str, got {name!r}.")
        if schedule not in ("streaming", "staged"):
            raise ValueError(f'schedule must be "streaming" or "staged", got {schedule!r}.')
        if schedule == "staged" and max_in_flight is not None:
            raise ValueError(
                'schedule="staged" keeps every result between two managers, so max_in_flight cannot be kept. Leave one '
                "of them out."
            )
        self.name = name
        self._staged = schedule == "staged"
        self._options = Options.of(
            max_in_flight=max_in_flight,
            show_progress=show_progress,
            stop=stop,
            grace=grace,
            sinks=sinks,
            resume=resume,
            version=version,
            log_level=log_level,
            log_dir=log_dir,
        )
        self._managers: dict[str, Manager] = {}
        self._edges: list[Edge] = []
        self._claim = threading.Lock()
        self._live: Live | None = None
        self._summary: RunSummary | None = None

    # ------------------------------------------------------------------ connecting

    def add(self, *managers: Manager) -> Self:
        """Put managers in that have no edge, or none yet; gives the graph.

        Raises:
            GraphError: The graph is running, two managers have one name, or one has an option that only the graph can
                keep.
            TypeError: Something is no manager.
        """
        self._not_running()
        self._managers = self._with(managers)
        return self

    def connect(
        self,
        source: Manager,
        targets: Manager | Sequence[Manager],
        *,
        each: bool = False,
        when: Callable[[Any], object] | None = None,
        route: Callable[[Any], object] | None = None,
        gather: bool = False,
        on: Literal["success", "error"] = "success",
    ) -> Self:
        """Make the results of *source* tasks of *targets*; gives the graph.

        Args:
            source: A manager.
            targets: One manager, or several: each of them gets every result.
            each: Make a task of each item of a result, which is a list or an iterator; an iterator is taken one by one,
                as tasks are wanted.
            when: Called with a result (with *each*: with an item); it goes this way if the answer is true.
            route: Called with a result (with *each*: with an item); gives the one of *targets* to which it goes, its
                name, or None for none of them.
            gather: When all that came of a task of *source* has settled, through any depth, make one task of it: a
                `Family`.
            on: "error": make a task of the outcome of each task of *source* that failed.

        What ``when`` or ``route`` raises is the error of the task whose result they were asked about; with *each*, or
        after a failure, that of the task that would have come of it. A result that goes no way leaves the graph.

        Raises:
            GraphError: The arguments contradict one another, the cycle would have no end, or the graph is running.
            TypeError: An argument is of the wrong kind.
        """
        self._not_running()
        if not isinstance(targets, TaskManager) and not isinstance(targets, list | tuple):
            raise TypeError(f"connect takes a manager and one or a list of managers, got {targets!r}.")
        several = (targets,) if isinstance(targets, TaskManager) else tuple(targets)
        if not several:
            raise GraphError("connect got an empty list of managers. Name at least one.")
        managers = self._with((source, *several))
        edge = Edge(
            number=len(self._edges),
            source=source,
            targets=several,
            each=each,
            when=when,
            route=route,
            gather=gather,
            on=on,
        )
        edge.check()
        check_edges(list(managers), [*self._edges, edge], self._deduplicates(managers.values()))
        self._managers = managers
        self._edges.append(edge)
        return self

    def _not_running(self) -> None:
        if self._claim.locked():
            raise GraphError(f"{self!r} is running, and cannot be changed before its end.")

    def _with(self, managers: Iterable[Manager]) -> dict[str, Manager]:
        """The managers by name, with *managers*, each of which is fit for a graph."""
        found = dict(self._managers)
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
        if self._options.resume and not options.enable_duplicate_check:
            raise GraphError(
                f"{name!r} has its duplicate check off, so a graph that resumes cannot know its tasks again. Leave it "
                f"on."
            )

    @staticmethod
    def _deduplicates(managers: Iterable[Manager]) -> dict[str, bool]:
        return {manager.name: inside(manager).options.enable_duplicate_check for manager in managers}

    # ------------------------------------------------------------------ ready-made shapes

    def _shape(
        self, managers: Iterable[Manager], pairs: Iterator[tuple[Manager, Manager]], how: dict[str, Any]
    ) -> Self:
        """Put *managers* in and connect the *pairs*: all of it, or nothing."""
        before = self._managers, list(self._edges)
        try:
            self.add(*managers)
            for source, target in pairs:
                self.connect(source, target, **how)
        except BaseException:
            self._managers, self._edges = before
            raise
        return self

    def chain(self, *managers: Manager, **how: Any) -> Self:
        """Connect each to the next. Like all shapes it takes the arguments of ``connect``, and gives the graph."""
        return self._shape(managers, shapes.chain(managers), how)

    def fan(self, hub: Manager, *managers: Manager, **how: Any) -> Self:
        """Connect the first to each of the others."""
        return self._shape((hub, *managers), shapes.fan(hub, managers), how)

    def cross(self, *groups: Sequence[Manager], **how: Any) -> Self:
        """Connect each manager of a group to each of the next group."""
        return self._shape(_all_of("cross", groups), shapes.cross(groups), how)

    def ring(self, *managers: Manager, **how: Any) -> Self:
        """Connect each to the next, and the last to the first."""
        return self._shape(managers, shapes.ring(managers), how)

    def wheel(self, hub: Manager, *managers: Manager, **how: Any) -> Self:
        """Connect a ring, and the hub to each of it."""
        return self._shape((hub, *managers), shapes.wheel(hub, managers), how)

    def grid(self, *rows: Sequence[Manager], **how: Any) -> Self:
        """Connect each to its right neighbour and to the one below it."""
        return self._shape(_all_of("grid", rows), shapes.grid(rows), how)

    def complete(self, *managers: Manager, **how: Any) -> Self:
        """Connect each to each other."""
        return self._shape(managers, shapes.complete(managers), how)

    # ------------------------------------------------------------------ running

    def start(self, sources: Sources) -> RunSummary:
        """Run until nothing is left anywhere in the graph.

        Args:
            sources: The tasks by manager (or its name), each an iterable that is read lazily in the calling thread:
                ``{fetch: urls}``.

        Raises:
            GraphError: The graph cannot run like this; nothing has been started.
            RunInProgress: It is already running.
            TooManyErrors: A stop rule ended the run.
            WorkerSetupError, NotPicklable: A manager's workers could not start; a note says whose.
            BaseException: What an iterable raised, after all that was taken has been settled.
        """
        return drive.start(lambda: self._plan(sources, "sync", wants_outcomes=False))

    def stream(self, sources: Sources) -> OutcomeStream[Any, Any]:
        """As ``start``, and give each outcome that leaves the graph: what no edge takes, and every error.

        Use it as an iterator, or better as a context manager around one: leaving it ends the run.
        """
        return drive.stream(lambda: self._plan(sources, "sync", wants_outcomes=True))

    async def start_async(self, sources: Mapping[Any, Iterable[Any] | AsyncIterable[Any]]) -> RunSummary:
        """As ``start``, in the running event loop; managers of any execution mode."""
        return await drive.start_async(lambda: self._plan(sources, "async", wants_outcomes=False))

    def stream_async(self, sources: Mapping[Any, Iterable[Any] | AsyncIterable[Any]]) -> AsyncOutcomeStream[Any, Any]:
        """As ``stream``, in the running event loop. ``async for``, or ``async with``."""
        self._inputs(sources)
        return drive.stream_async(lambda: self._plan(sources, "async", wants_outcomes=True))

    def _inputs(self, sources: Any) -> dict[str, Any]:
        """The tasks by the manager's name."""
        if not isinstance(sources, Mapping):
            raise TypeError(
                f"A graph takes its tasks by manager, {{manager: tasks}}, got {type(sources).__name__}. With one "
                f"source: graph.start({{manager: tasks}})."
            )
        inputs: dict[str, Any] = {}
        for manager, tasks in sources.items():
            name = manager if isinstance(manager, str) else getattr(manager, "name", None)
            known = self._managers.get(name) if isinstance(name, str) else None
            if known is None or (known is not manager and not isinstance(manager, str)):
                raise GraphError(
                    f"The source {manager!r} is no manager of the graph. Connect it, or add it: graph.add(manager)."
                )
            check_iterable(tasks)
            if known.name in inputs:
                raise GraphError(f"{known.name!r} is given tasks twice. Chain them: itertools.chain(a, b).")
            inputs[known.name] = tasks
        return inputs

    def _plan(self, sources: Any, shell: str, *, wants_outcomes: bool) -> Plan:
        """Claim the graph and its managers, and put the run together."""
        inputs = self._inputs(sources)
        names = list(self._managers)
        if not names:
            raise GraphError("The graph has no managers. Connect some, or add one.")
        managers = list(self._managers.values())
        changed = [name for name, manager in self._managers.items() if manager.name != name]
        if changed:
            raise GraphError(
                f"{changed[0]!r} has been renamed since it was connected. Name managers when they are made."
            )
        check_edges(names, self._edges, self._deduplicates(managers))
        check_reached(names, self._edges, inputs)
        if not self._claim.acquire(blocking=False):
            raise RunInProgress(f"{self!r} is already running. Wait for its end, or close its stream.")
        claimed: list[Part] = []
        try:
            for manager in managers:
                core = inside(manager)
                if not core.claim():
                    raise GraphError(
                        f"{manager!r} is already running, by itself or in another graph. Wait for the end of that run, "
                        f"or use a second manager."
                    )
                claimed.append(Part(manager=manager, core=core))
            self._summary = None
            plan, self._live = launch(
                self.name,
                self._options,
                self._staged,
                claimed,
                list(self._edges),
                inputs,
                shell,
                wants_outcomes,
                self._finished,
            )
        except BaseException:
            for part in claimed:
                part.core.stage = None
                part.core.release()
            self._claim.release()
            raise
        return plan

    def _finished(self, summary: RunSummary | None) -> None:
        self._summary = summary
        if self._live is not None:
            self._live = self._live.over()
        self._claim.release()

    # ------------------------------------------------------------------ looking

    @property
    def managers(self) -> tuple[Manager, ...]:
        """The managers, in the order in which they were connected."""
        return tuple(self._managers.values())

    @property
    def summary(self) -> RunSummary | None:
        """The account of the last run, with one for each manager in ``stages``; None before its end."""
        return self._summary

    def status(self) -> GraphStatus:
        """How far the graph has come; may be asked from any thread."""
        names = list(self._managers)
        follow = following(names, self._edges)
        by_layer = layers(follow)
        layer_of = {name: at for at, layer in enumerate(by_layer) for name in layer}
        running, live = self._claim.locked(), self._live
        counts = {} if live is None else live.counts()
        return GraphStatus(
            name=self.name,
            running=running,
            seconds=0.0 if live is None else live.seconds(),
            stages=tuple(self._status_of(name, layer_of[name], running, live, counts) for name in names),
            layers=tuple(map(tuple, by_layer)),
            is_dag=all(len(part) == 1 and part[0] not in follow[part[0]] for part in components(follow)),
        )

    @staticmethod
    def _status_of(
        name: str, layer: int, running: bool, live: Live | None, counts_of: Mapping[str, Counts]
    ) -> StageStatus:
        counts = counts_of.get(name, Counts())
        stage = live.stages.get(name) if running and live is not None else None
        pending = counts.pending + (sum(map(len, stage.inputs)) if stage is not None else 0)
        rate = live.meters[name].rate() if live is not None and name in live.meters else None
        left = (pending + counts.running) / rate if rate and running else None
        return StageStatus(
            name=name,
            layer=layer,
            pending=pending,
            running=counts.running,
            done=counts.settled,
            failed=counts.failed,
            rate=rate,
            seconds_left=left,
        )

    def story(self, task: Any) -> str:
        """The family tree of *task*, a task of a source: what came of it, a line a task, with what became of each.

        Of the present run, or of the last one; only its last tasks are remembered.
        """
        return "The graph has not run yet." if self._live is None else self._live.lineage.story(task)

    def to_mermaid(self) -> str:
        """The graph as a Mermaid flowchart; during and after a run with the tasks of each manager and edge."""
        live = self._live
        if live is None:
            return mermaid(list(self._managers), self._edges)
        return mermaid(list(self._managers), self._edges, live.counts(), live.passed())

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """What a notebook shows: the drawing."""
        text = self.to_mermaid()
        return {
            "text/vnd.mermaid": text,
            "text/markdown": f"```mermaid\n{text}```\n",
            "text/plain": repr(self),
        }

    def __repr__(self) -> str:
        state = "running" if self._claim.locked() else "idle"
        return f"<TaskGraph({self.name}) {state}: {len(self._managers)} managers, {len(self._edges)} edges>"


def _all_of(shape: str, groups: Iterable[Any]) -> list[Manager]:
    """The managers of all *groups*."""
    found: list[Manager] = []
    for group in groups:
        if not isinstance(group, list | tuple):
            raise TypeError(
                f"{shape} takes lists of managers, got {type(group).__name__}. Put it in a list: [manager]."
            )
        found += group
    return found
