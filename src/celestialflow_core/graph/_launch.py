"""Puts the run of a graph together: each manager becomes a stage, each edge channels, and all of it one plan."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any

import attrs

from celestialflow_core._driver.channel import Channel
from celestialflow_core._driver.exit import Exit
from celestialflow_core._driver.load import Load
from celestialflow_core._driver.plan import Input, Plan
from celestialflow_core._driver.run import Run
from celestialflow_core._driver.stage import Stage
from celestialflow_core._driver.storage import Stored
from celestialflow_core._engine.machine import IdSource
from celestialflow_core._manager.core import Core
from celestialflow_core._manager.launch import Setting, in_flight_limit, make_stage, summary_of
from celestialflow_core._manager.options import Options
from celestialflow_core._manager.storing import make_storage
from celestialflow_core._observe.interface import Observer, RunInfo
from celestialflow_core._observe.log import RunLog
from celestialflow_core._outcome import Counts, RunSummary
from celestialflow_core.graph._check import following
from celestialflow_core.graph._edge import Edge
from celestialflow_core.graph._family import is_stale, key_of_outcome
from celestialflow_core.graph._junction import Junction
from celestialflow_core.graph._lineage import Lineage
from celestialflow_core.graph._schedule import Schedule
from celestialflow_core.graph._status import Meter
from celestialflow_core.graph._summary import added_up
from celestialflow_core.graph._topology import components, reachable
from celestialflow_core.graph._way import Way
from celestialflow_core.plugins import installed

__all__ = ["Live", "Part", "launch"]


@attrs.frozen(kw_only=True, eq=False)
class Part:
    """One manager of a graph: itself, and its inside, which has been claimed for the run."""

    manager: Any
    core: Core


@attrs.frozen(kw_only=True, eq=False)
class Live:
    """What can be seen of a run while it lasts, and after it.

    Attributes:
        began: When it began.
        stages: By name, in the order in which they stand in the graph; none once it is over.
        ways: Each edge; none once it is over.
        meters: The speed of each stage.
        lineage: The last tasks.
        last: Once it is over, the seconds that it took, what had passed, and where the tasks had been.
    """

    began: float
    stages: Mapping[str, Stage]
    ways: Sequence[Way]
    meters: Mapping[str, Meter]
    lineage: Lineage
    last: tuple[float, list[list[int]], Mapping[str, Counts]] | None = None

    def seconds(self) -> float:
        """How long the run has lasted."""
        return monotonic() - self.began if self.last is None else self.last[0]

    def passed(self) -> list[list[int]]:
        """How many tasks have gone along each edge, to each of its targets."""
        return (
            [[channel.passed for channel in way.channels] for way in self.ways] if self.last is None else self.last[1]
        )

    def counts(self) -> Mapping[str, Counts]:
        """Where the tasks of each stage are."""
        return {name: stage.counts() for name, stage in self.stages.items()} if self.last is None else self.last[2]

    def over(self) -> Live:
        """What is kept when the run is over: no task, no executor."""
        return attrs.evolve(self, stages={}, ways=(), last=(self.seconds(), self.passed(), self.counts()))


def launch(
    name: str,
    options: Options,
    staged: bool,
    parts: Sequence[Part],
    edges: Sequence[Edge],
    inputs: Mapping[str, Any],
    shell: str,
    wants_outcomes: bool,
    finished: Any,
) -> tuple[Plan, Live]:
    """The plan of one run of a graph.

    Args:
        name: The graph's.
        options: Those that hold for the whole graph.
        staged: Whether a stage begins only when all before it have ended.
        parts: The managers.
        edges: How they are connected.
        inputs: The tasks for the sources, by the manager's name.
        shell: "sync" or "async": who drives the run.
        wants_outcomes: Whether the outcomes are consumed.
        finished: Called with the summary, or None, when all is over.
    """
    names = [part.manager.name for part in parts]
    order = components(following(names, edges))
    cycle_of = {name: at for at, component in enumerate(order) for name in component}
    families = any(edge.gather for edge in edges)
    # Where no manager writes lines there is nothing to open a file for.
    silent = all(part.core.options.log_dir is None for part in parts)
    log = RunLog(options.log_level, None if silent else options.log_dir)
    exit = Exit(wants_outcomes)
    ids = IdSource()
    load = Load(ids)
    storage = make_storage(
        options.sinks,
        installed(),
        name=name,
        stages=tuple(names),
        version=options.version,
        target=None,
        resume=options.resume,
    )
    meters = {name: Meter() for name in names}
    junctions = {name: Junction(exit, families) for name in names}

    def stage_of(part: Part) -> Stage:
        manager, core = part.manager, part.core
        observers: list[Observer] = [meters[manager.name]]
        if core.options.log_dir is not None:
            observers.insert(0, log.part())
        setting = Setting(
            ids=ids,
            load=load,
            outlet=junctions[manager.name],
            observers=tuple(observers),
            warn=log.warning,
            show_progress=options.show_progress,
            desc=manager.name,
            stored=None if storage is None else Stored(storage, f"@{manager.name}", options.resume, is_stale=is_stale),
        )
        stage = make_stage(core, manager, core.overrides(manager), core.workers_for(manager.func, shell), setting)
        core.stage = stage
        return stage

    by_name = {part.manager.name: stage_of(part) for part in parts}
    lineage = Lineage()
    traces = wants_outcomes or families or any(edge.on == "error" for edge in edges)
    traces = traces or any(stage.customs.sees_outcomes for stage in by_name.values())
    ways = [_way(edge, by_name, cycle_of, load, traces) for edge in edges]
    for way in ways:
        junctions[way.edge.source.name].connect(way)
    for name_, stage in by_name.items():
        stage.genealogist = lineage.add
        stage.traces = traces
        if junctions[name_].judges:
            stage.judge = junctions[name_].judge
    for edge in edges:
        if edge.gather or edge.on == "error":
            for target in edge.targets:
                by_name[target.name].customs.key_by_default(key_of_outcome)

    stages = [by_name[name] for component in order for name in component]
    workers = sum(stage.info.workers or 1 for stage in stages)
    run = Run(
        stages,
        exit,
        load,
        # Between stages that wait for one another everything is kept: nothing can be bounded.
        max_in_flight=sys.maxsize if staged else options.max_in_flight or in_flight_limit(workers),
        stop=options.stop,
        grace=options.grace,
        schedule=_schedule(names, edges, by_name, junctions, ways, staged),
        storage=storage,
    )
    live = Live(began=run.began, stages=by_name, ways=ways, meters=meters, lineage=lineage)
    summaries: dict[str | None, RunSummary] = {}

    def whole() -> RunSummary:
        stopped = run.ending.reason if run.ending is not None else None
        in_order = tuple(summaries[name] for name in names)
        summaries[None] = added_up(name, monotonic() - run.began, stopped, in_order)
        return summaries[None]

    def summarise() -> RunSummary:
        for part in parts:
            part.core.summary = summaries[part.manager.name] = summary_of(by_name[part.manager.name], run)
        return whole()

    def conclude() -> RunSummary:
        summarise()
        for part in parts:
            overrides = part.core.overrides(part.manager)
            summary = part.core.handle_results(summaries[part.manager.name], overrides)
            part.core.summary = summaries[part.manager.name] = summary
        return whole()

    def done() -> None:
        for part in parts:
            part.core.done(by_name[part.manager.name])
        finished(summaries.get(None))

    plan = Plan(
        run=run,
        inputs=[Input(stage=by_name[name], tasks=tasks, total=None) for name, tasks in inputs.items()],
        grace=options.grace,
        summarise=summarise,
        conclude=conclude,
        summary_of=lambda stage: summaries.get(None if stage is None else stage.name),
        done=done,
        info=RunInfo(name=name, mode="graph", workers=workers, max_info=50),
        observers=(log,),
    )
    return plan, live


def _way(edge: Edge, by_name: Mapping[str, Stage], cycle_of: Mapping[str, int], load: Load, traces: bool) -> Way:
    """The running side of *edge*."""
    targets = [by_name[target.name] for target in edge.targets]
    channels = [Channel(cycle_of[edge.source.name] == cycle_of[stage.name], load) for stage in targets]
    for stage, channel in zip(targets, channels, strict=True):
        stage.inputs.append(channel)
    return Way(edge, targets, channels, load, traces)


def _schedule(
    names: Sequence[str],
    edges: Sequence[Edge],
    by_name: Mapping[str, Stage],
    junctions: Mapping[str, Junction],
    ways: Sequence[Way],
    staged: bool,
) -> Schedule | None:
    """What the graph does between the rounds of its run, if it does anything."""
    springs = [(junctions[way.edge.source.name], way) for way in ways if way.edge.each]
    if not staged:
        return Schedule(springs, {}, {}, []) if springs else None
    follow = {name: list(others) for name, others in following(names, edges).items()}
    for edge in edges:  # what is gathered is complete only when all that comes of it has ended
        if edge.gather:
            own = [other for other in edges if other.source is edge.source and not other.gather]
            below = reachable([target.name for other in own for target in other.targets], following(names, edges))
            for target in edge.targets:
                for name in below - {target.name, edge.source.name}:
                    follow[name].append(target.name)
    component_of = {name: set(component) for component in components(follow) for name in component}
    before = {
        name: [
            by_name[other] for other in names if other not in component_of[name] and name in reachable([other], follow)
        ]
        for name in names
    }
    into = {name: [way for way in ways if way.edge.each and by_name[name] in way.targets] for name in names}
    return Schedule(springs, before, into, [by_name[name] for name in names if before[name]])
