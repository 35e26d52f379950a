"""`TaskGraph`: managers whose results stream into one another."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

from celestialflow_core._driver import drive
from celestialflow_core._driver.stream import OutcomeStream
from celestialflow_core._manager.manager import inside
from celestialflow_core._manager.options import Options
from celestialflow_core._outcome import Counts, RunSummary
from celestialflow_core._policies import Stop
from celestialflow_core.errors import GraphError, RunInProgress
from celestialflow_core.graph import _shapes as shapes
from celestialflow_core.graph._drawing import mermaid
from celestialflow_core.graph._launch import Live, Part, launch
from celestialflow_core.graph._network import Manager, Network
from celestialflow_core.graph._status import GraphStatus, StageStatus

if TYPE_CHECKING:
    from celestialflow_core._driver.aio.stream import AsyncOutcomeStream
    from celestialflow_core._driver.plan import Plan

__all__ = ["TaskGraph"]

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
        options = Options.of(
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
        self._network = Network(options)
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
        self._network.add(managers)
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
        how = {"each": each, "when": when, "route": route, "gather": gather, "on": on}
        self._network.connect(source, targets, how)
        return self

    def _not_running(self) -> None:
        if self._claim.locked():
            raise GraphError(f"{self!r} is running, and cannot be changed before its end.")

    # ------------------------------------------------------------------ ready-made shapes

    def _shape(
        self, managers: Iterable[Manager], pairs: Iterator[tuple[Manager, Manager]], how: dict[str, Any]
    ) -> Self:
        """Put *managers* in and connect the *pairs*: all of it, or nothing."""
        with self._network.as_one_change():
            self.add(*managers)
            for source, target in pairs:
                self.connect(source, target, **how)
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
        self._network.inputs(sources)
        return drive.stream_async(lambda: self._plan(sources, "async", wants_outcomes=True))

    def _plan(self, sources: Any, shell: str, *, wants_outcomes: bool) -> Plan:
        """Claim the graph and its managers, and put the run together."""
        network = self._network
        inputs = network.inputs(sources)
        network.check(inputs)
        if not self._claim.acquire(blocking=False):
            raise RunInProgress(f"{self!r} is already running. Wait for its end, or close its stream.")
        claimed: list[Part] = []
        try:
            for manager in network.managers.values():
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
                network.options,
                self._staged,
                claimed,
                list(network.edges),
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
        return tuple(self._network.managers.values())

    @property
    def summary(self) -> RunSummary | None:
        """The account of the last run, with one for each manager in ``stages``; None before its end."""
        return self._summary

    def status(self) -> GraphStatus:
        """How far the graph has come; may be asked from any thread."""
        by_layer = self._network.layers()
        layer_of = {name: at for at, layer in enumerate(by_layer) for name in layer}
        running, live = self._claim.locked(), self._live
        counts = {} if live is None else live.counts()
        return GraphStatus(
            name=self.name,
            running=running,
            seconds=0.0 if live is None else live.seconds(),
            stages=tuple(
                self._status_of(name, layer_of[name], running, live, counts) for name in self._network.managers
            ),
            layers=tuple(map(tuple, by_layer)),
            is_dag=self._network.is_dag(),
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
            return mermaid(list(self._network.managers), self._network.edges)
        return mermaid(list(self._network.managers), self._network.edges, live.counts(), live.passed())

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """What a notebook shows: the drawing."""
        text = self.to_mermaid()
        return {
            "text/vnd.mermaid": text,
            "text/markdown": f"```mermaid\n{text}```\n",
            "text/plain": repr(self),
        }

    def __repr__(self) -> str:
        network, state = self._network, "running" if self._claim.locked() else "idle"
        return f"<TaskGraph({self.name}) {state}: {len(network.managers)} managers, {len(network.edges)} edges>"


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
