"""Whole runs of random graphs, in which one integer decides everything, against a naive breadth-first model.

The seed decides about the graph (chains, fans, diamonds, cycles; each, when, route, gather, failures with edges of
their own), about its tasks and what becomes of them (`graph_script`), about the order in which calls finish and how
results are batched (`scripted`), and about how the run is driven and ends: to its end, by a stop rule, by an executor
that gives up, by a source that raises, by Ctrl-C in any function of the user's or between them, by a consumer that
leaves. What a run may not do, whatever the seed: lose a task, count one twice, give another value than the model's,
send a result along an edge that does not take it, gather what does not belong together, hold more than it may, stand
still, or leave something running.

A failure names its seed, and the command that runs that seed alone.
"""

from __future__ import annotations

import asyncio
import functools
import random
import signal
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any, cast

import pytest
from tests.simulation.graph_script import (
    NOTHING,
    THING,
    EdgeScript,
    Key,
    Model,
    NoArguments,
    Row,
    Spoiled,
    draw_script,
)
from tests.simulation.scripted import WorldExecutor, seeds

from celestialflow_core import (
    Backoff,
    Outcome,
    RunSummary,
    Stop,
    TaskGraph,
    TaskManager,
    TooManyErrors,
    WorkerSetupError,
    hookimpl,
)
from celestialflow_core._driver.run import Run
from celestialflow_core._driver.stage import Stage
from celestialflow_core.executors import Call, Result
from celestialflow_core.graph import Family, _launch

SEEDS = 1000
SOAK = 20_000
WAYS = ["start", "start", "stream", "stream", "left", "consumer error", "start_async", "stream_async", "left async"]
ENDINGS = (LookupError, TooManyErrors, WorkerSetupError, KeyboardInterrupt)


class ConsumerError(Exception):
    """What the consumer of a stream raises."""


class StageExecutor(WorldExecutor):
    """The executor of one stage; Ctrl-C may be pressed while it takes calls."""

    def __init__(self, world: GraphWorld, stage: int, dice: random.Random, gives_up_at: int | None) -> None:
        self.world = world
        self.stage = stage
        inline = world.inline or dice.random() < 0.7
        super().__init__(dice, self, inline=inline, gives_up_at=gives_up_at, most_slots=world.most_slots)
        self.pace = dice.choice([1, 1, 1, 5, 20])  # how often it is asked until it answers
        if world.script.crowded:
            self.pace = 20 if stage else 1

    def answer(self, call: Call, task: Any, attempt: int) -> Result:
        """What the script says."""
        return self.world.script.answer(self.stage, call, task, attempt)

    def submit(self, calls: Sequence[Call]) -> None:
        """As ever, in the thread of the run."""
        self.world.press()
        if calls and self.world.staged and not self.world.script.gathers:  # a join waits for what comes later, too
            self.world.look_before(self.stage)
        super().submit(calls)

    def _answer_some(self) -> None:
        if not self.inline or self.dice.random() * self.pace < 1:
            super()._answer_some()


class StageManager(TaskManager[Any, Any]):
    """The manager of one stage, without overrides."""

    world: GraphWorld
    stage: int


class Arguing(StageManager):
    """One with get_args."""

    def get_args(self, task: Any) -> Any:
        """The task; or an error."""
        self.world.tick()
        key = self.world.script.key_of(task)
        if self.world.script.no_arguments(self.stage, key):
            raise NoArguments(key)
        return [task]


class Processing(StageManager):
    """One with process_result."""

    def process_result(self, task: Any, result: Any) -> Any:
        """What the executor packed; or an error."""
        self.world.tick()
        key = self.world.script.key_of(task)
        if self.world.script.spoiled(self.stage, key):
            raise Spoiled(key)
        (value,) = result
        return value


class Both(Arguing, Processing):
    """One with both."""


KINDS = {(False, False): StageManager, (True, False): Arguing, (False, True): Processing, (True, True): Both}


class Told:
    """A plugin of one stage that keeps what it is told."""

    def __init__(self, world: GraphWorld) -> None:
        self.world = world
        self.outcomes: dict[str, list[Outcome[Any, Any]]] = {"success": [], "error": [], "duplicate": []}
        self.retries = self.finishes = 0

    @hookimpl
    def on_success(self, outcome: Any) -> None:
        """Noted."""
        self.outcomes["success"].append(outcome)
        self.world.tick()

    @hookimpl
    def on_error(self, outcome: Any) -> None:
        """Noted."""
        self.outcomes["error"].append(outcome)
        self.world.tick()

    @hookimpl
    def on_duplicate(self, outcome: Any) -> None:
        """Noted."""
        self.outcomes["duplicate"].append(outcome)
        self.world.tick()

    @hookimpl
    def on_retry(self) -> None:
        """Noted."""
        self.retries += 1

    @hookimpl
    def on_finish(self) -> None:
        """Noted."""
        self.finishes += 1


class CheckedRun(Run):
    """A run that is looked at after each round."""

    def __init__(self, world: GraphWorld, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.world = world
        world.driver = self

    def advance(self) -> float | None:
        """One round."""
        wait = super().advance()
        self.world.look(wait)
        return wait

    def take(self, stage: Stage, tasks: Sequence[Any]) -> None:
        """Tasks of a source."""
        self.world.look_at_room(len(tasks))
        super().take(stage, tasks)


class GraphWorld:
    """One run, all of which follows from *seed* (but, where an executor has a thread, not how the two interleave)."""

    def __init__(self, seed: int) -> None:
        dice = random.Random(seed)
        self.dice = random.Random(seed + 1)  # for what may be done a different number of times
        self.script, self.model = draw_script(dice)
        script = self.script
        number = len(script.stages)
        self.inline = dice.random() < 0.5
        self.observed = dice.random() < (0.9 if script.gathers else 0.5)
        self.how = dice.choice(WAYS)
        self.staged = dice.random() < 0.2
        self.most_slots = 2 if script.crowded or dice.random() < 0.3 else 8
        self.max_in_flight = dice.choice([5, 15] if script.crowded else [1, 2, 5, 30, None])
        ends_early = dice.random() < 0.4
        self.leaves_after = dice.randint(0, 20)
        self.interrupts_at = dice.randint(1, dice.choice([5, 30, 100])) if ends_early and dice.random() < 0.4 else None
        self.presses_at = dice.randint(1, 30) if ends_early and dice.random() < 0.15 else None
        stops: list[Stop | None] = [
            Stop(errors=dice.randint(1, 9), when=dice.choice(["soon", "now"])),
            Stop(consecutive=dice.randint(1, 4)),
            Stop(successes=dice.randint(1, 30)),
            Stop(fraction=0.2, minimum=9),
        ]
        self.stop = dice.choice(stops) if ends_early and dice.random() < 0.15 else None
        self.stops = [dice.choice(stops) if ends_early and dice.random() < 0.1 else None for _ in range(number)]
        self.fails_at = {
            stage: dice.randint(0, len(keys)) if ends_early and dice.random() < 0.15 else None
            for stage, keys in script.roots.items()
        }
        self.source_form = {stage: dice.choice(["list", "generator", "async"]) for stage in script.roots}
        self.executors = [
            StageExecutor(
                *(self, stage, random.Random(seed + 2 + stage)),
                gives_up_at=dice.randint(1, 30) if ends_early and dice.random() < 0.05 else None,
            )
            for stage in range(number)
        ]
        self.told = [Told(self) for _ in range(number)]
        self.managers = [self._manager(dice, stage) for stage in range(number)]
        self.graph = TaskGraph(
            "world",
            max_in_flight=None if self.staged else self.max_in_flight,
            schedule="staged" if self.staged else "streaming",
            stop=self.stop,
            log_dir=None,
            log_level="CRITICAL",
        )
        self.graph.add(*self.managers)
        script.tick = self.tick
        for edge in script.edges:
            self._connect(edge)
        self.pulled: dict[int, list[Any]] = {stage: [] for stage in script.roots}
        self.streamed: list[Outcome[Any, Any]] = []
        self.raised: BaseException | None = None
        self.interrupted = self.pressed = False
        self.ticks = self.presses = 0
        self.problem: AssertionError | None = None
        self.thread = threading.get_ident()
        self.driver: CheckedRun

    # ------------------------------------------------------------------ what the user gives

    def _manager(self, dice: random.Random, stage: int) -> Any:
        script = self.script.stages[stage]
        kind = KINDS[script.get_args, script.process_result]
        manager = kind(
            abs,
            self.executors[stage],
            name=f"s{stage}",
            max_retries=script.max_retries,
            enable_duplicate_check=script.deduplicate,
            enable_success_cache=dice.random() < 0.8,
            enable_error_cache=dice.random() < 0.8,
            retry_exceptions=self.script.retryable,
            backoff=Backoff(initial=dice.choice([0, 0, 0.001])),
            stop=self.stops[stage],
            plugins=[self.told[stage]] if self.observed else [],
            log_dir=None,
            log_level="CRITICAL",
        )
        manager.world, manager.stage = self, stage
        return manager

    def _connect(self, edge: EdgeScript) -> None:
        def when(value: Any) -> int:
            self.tick()
            return 7 if self.script.when(edge, self.script.key_of(value)) else 0

        def route(value: Any) -> Any:
            self.tick()
            lane = self.script.route(edge, self.script.key_of(value))
            if lane is None:
                return None
            if lane == len(edge.targets):
                return "nobody"
            return targets[lane] if lane % 2 else targets[lane].name

        targets = [self.managers[target] for target in edge.targets]
        self.graph.connect(
            self.managers[edge.source],
            targets[0] if len(targets) == 1 else targets,
            each=edge.each,
            when=when if edge.when else None,
            route=route if edge.route else None,
            gather=edge.gather,
            on="error" if edge.error else "success",
        )

    def sources(self, asynchronous: bool) -> dict[Any, Any]:
        """The tasks: lists, generators, and where they may be, async generators."""
        found: dict[Any, Any] = {}
        for stage in self.script.roots:
            manager: Any = self.managers[stage]
            form = self.source_form[stage]
            if form == "list" and self.fails_at[stage] is None:
                found[manager] = self.pulled[stage] = [self._root(key) for key in self.script.roots[stage]]
            elif form == "async" and asynchronous:
                found[manager.name] = self._slowly(stage)
            else:
                found[manager] = self._generated(stage, ticks=True)
        return found

    def _root(self, key: Key) -> Any:
        return self.script.make(key)

    def _generated(self, stage: int, ticks: bool) -> Iterator[Any]:
        for at, key in enumerate(self.script.roots[stage]):
            if ticks:
                self.tick()
            if at == self.fails_at[stage]:
                raise LookupError("the source is dry")
            self.pulled[stage].append(self._root(key))
            yield self.pulled[stage][-1]
        if self.fails_at[stage] == len(self.script.roots[stage]):
            raise LookupError("the source is dry")

    async def _slowly(self, stage: int) -> AsyncIterator[Any]:
        for task in self._generated(stage, ticks=False):
            if self.dice.random() < 0.2:
                await asyncio.sleep(0)
            yield task

    def tick(self) -> None:
        """Called by everything that the user gives: it runs in the thread of the run, and here Ctrl-C may come."""
        if threading.get_ident() != self.thread:
            self.problem = AssertionError("something of the user's ran in another thread")
        self.ticks += 1
        if self.ticks == self.interrupts_at:
            self.interrupted = True
            raise KeyboardInterrupt

    def press(self) -> None:
        """Ctrl-C, for real, in the middle of the driver."""
        self.presses += 1
        if self.presses == self.presses_at and "async" not in self.how and threading.get_ident() == self.thread:
            self.pressed = True
            signal.raise_signal(signal.SIGINT)

    # ------------------------------------------------------------------ while it runs

    def look(self, wait: float | None) -> None:
        """After a round: every engine is consistent, the run does not stand still, and it holds no more than it may."""
        try:
            self._look(wait)
        except AssertionError as error:
            self.problem = self.problem or error
            raise

    def _look(self, wait: float | None) -> None:
        run = self.driver
        small = sum(stage.engine.admitted for stage in run.stages) < 40
        for stage in run.stages:
            if small or self.dice.random() < 0.1:
                stage.engine.check()
        if wait is None and not run.finished:
            moving = any(stage.engine.running or (stage.open_sources and run.wants(stage)) for stage in run.stages)
            assert moving, f"the run stands still: {self._where()}"
        if self.script.acyclic and not self.script.gathers and not self.staged and self.max_in_flight:
            # Of each edge a stage takes as many tasks at a time as it could run; duplicates among them settle at once.
            edges = Counter(target for edge in self.script.edges for target in edge.targets)
            most = self.max_in_flight
            most += sum(executor.slots * max(1, edges[stage]) for stage, executor in enumerate(self.executors))
            alive = self._alive()
            assert alive <= most, f"{alive} tasks are alive, and {most} may be: {self._where()}"
        if self.dice.random() < 0.02:
            status = self.graph.status()
            assert sum(stage.done for stage in status.stages) == sum(
                stage.engine.admitted - stage.engine.in_flight for stage in run.stages
            )
            assert self.graph.to_mermaid()
            for pulled in self.pulled.values():
                assert self.graph.story(pulled[0] if pulled else None)

    def look_at_room(self, new: int) -> None:
        """A source is only asked for what the run has room for."""
        if self.max_in_flight and not self.script.gathers and not self.staged and self.driver.ending is None:
            alive = self._alive()
            if alive + new > self.max_in_flight:
                self.problem = AssertionError(f"{new} more tasks were taken, {alive} are alive: {self._where()}")

    def look_before(self, begun: int) -> None:
        """When a stage of a staged graph begins, all before it have ended."""
        after = self.script.reachable(begun)
        for stage in self.driver.stages:
            other = int(stage.name[1:])
            if other not in after and begun in self.script.reachable(other):
                left = stage.engine.in_flight + stage.open_sources + sum(map(len, stage.inputs))
                ways = [way for each in self.driver.stages for way in cast(Any, each.outlet)._ways]
                left += sum(len(way.springs) for way in ways if stage in way.targets)
                if left and self.driver.ending is None:
                    self.problem = AssertionError(f"s{begun} has begun before the end of {stage.name}: {self._where()}")

    def _alive(self) -> int:
        """Tasks in the engines, settled ones of which something has not been taken, items that wait, outcomes."""
        run = self.driver
        alive = len(run.outcomes)
        for stage in run.stages:
            alive += stage.engine.in_flight
            junction: Any = stage.outlet
            parents: set[int] = set()
            items: set[int] = set()
            for way in (*junction._ways, *junction._errors):
                parents |= {spring.id for spring in way.springs}
                for channel in way.channels:
                    for kin, task in channel._queue:
                        if way.edge.each:
                            items.add(id(task))
                        else:
                            parents.add(kin[0] if isinstance(kin, tuple) else kin)
            alive += len(parents) + len(items)
        return alive

    def _where(self) -> str:
        return "; ".join(
            f"{stage.name}: {stage.engine.ready} ready, {stage.engine.running} running, {stage.engine.waiting} wait, "
            f"{[len(channel) for channel in stage.inputs]} before, {stage.outlet.held()} held, begun={stage.begun}"
            for stage in self.driver.stages
        )

    # ------------------------------------------------------------------ the run

    def run(self) -> None:
        """Let it happen, and compare."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_launch, "Run", functools.partial(CheckedRun, self))
            try:
                self._consume()
            except (*ENDINGS, ConsumerError) as error:
                self.raised = error
        if self.problem is not None:
            raise self.problem
        self._check()

    def _consume(self) -> None:
        if self.how == "start":
            self.graph.start(self.sources(False))
        elif "async" in self.how:
            loop = asyncio.new_event_loop()  # as asyncio.run, which would take Ctrl-C for its own
            try:
                loop.run_until_complete(self._consume_async())
                loop.run_until_complete(loop.shutdown_asyncgens())
            finally:
                loop.close()
        else:
            with self.graph.stream(self.sources(False)) as outcomes:
                for outcome in outcomes:
                    self.streamed.append(outcome)
                    if self.how in ("left", "consumer error") and len(self.streamed) > self.leaves_after:
                        if self.how == "left":
                            break
                        raise ConsumerError

    async def _consume_async(self) -> None:
        if self.how == "start_async":
            await self.graph.start_async(self.sources(True))
            return
        async with self.graph.stream_async(self.sources(True)) as outcomes:
            async for outcome in outcomes:
                self.streamed.append(outcome)
                if self.how == "left async" and len(self.streamed) > self.leaves_after:
                    break

    # ------------------------------------------------------------------ the verdict

    def _check(self) -> None:
        summary: Any = self.graph.summary
        for stage, pulled in self.pulled.items():
            took = self.driver_took(stage)
            whole = self.source_form[stage] == "list" and self.fails_at[stage] is None
            ahead = self.source_form[stage] == "async" and self.driver.ending is not None  # one task is asked for
            assert len(pulled) - took in ((0, 1) if ahead else range(len(pulled) + 1) if whole else (0,))
            del pulled[took:]
        self._check_that_all_is_over(summary)
        self._check_counts(summary)
        self._check_why_it_ended(summary)
        self._check_hooks(summary)
        self._check_streamed()
        if summary.stopped is None:
            self._check_whole_run(summary)
        if self.observed and not self.interrupted:
            self._check_families()

    def driver_took(self, stage: int) -> int:
        """How many tasks a stage got from its source."""
        journal = self.graph._live.lineage._batches  # type: ignore[union-attr]
        return sum(len(ids) for name, ids, parents, _ in journal if name == f"s{stage}" and not parents)

    def _check_that_all_is_over(self, summary: RunSummary) -> None:
        for executor in self.executors:
            assert executor.problems == []
            assert (executor.started, executor.stopped >= 1, executor.waiting) == (1, True, [])
        for stage in self.driver.stages:
            assert stage.engine.in_flight == 0
            stage.engine.check()
            assert not any(map(len, stage.inputs)), "something is left before a stage"
            assert stage.outlet.held() == 0
            assert (stage.kin, stage.keys, stage.verdicts) == ({}, {}, {}), "something is remembered of settled tasks"
        assert not self.graph.status().running
        assert summary.stages == tuple(manager.summary for manager in self.managers)

    def _check_counts(self, summary: RunSummary) -> None:
        """The counts add up, and all that was delivered is in them, whatever came after it."""
        for stage, of_stage in enumerate(summary.stages):
            settled = of_stage.succeeded + of_stage.failed + of_stage.duplicates + of_stage.cancelled
            assert of_stage.total == settled
            assert sum(group.count for group in of_stage.errors) == of_stage.failed
            succeeded = self.executors[stage].succeeded
            good = sum(self.script.fate(stage, self.script.tried[id]).value is not None for id in succeeded)
            assert of_stage.succeeded in ((good, good - 1) if self.interrupted else (good,))
        for figure in ("total", "succeeded", "failed", "duplicates", "cancelled", "retries", "crashes", "abandoned"):
            assert getattr(summary, figure) == sum(getattr(of_stage, figure) for of_stage in summary.stages), figure
        for stage, passed in self._arrived().items():
            assert summary.stages[stage].total >= passed

    def _arrived(self) -> Counter[int]:
        """How many tasks came to each stage from sources, and along edges."""
        arrived = Counter({stage: len(pulled) for stage, pulled in self.pulled.items()})
        for edge, lanes in zip(self.script.edges, self._passed(), strict=True):
            for target, passed in zip(edge.targets, lanes, strict=True):
                arrived[target] += passed
        return arrived

    def _passed(self) -> list[list[int]]:
        live: Any = self.graph._live
        passed: list[list[int]] = live.passed()
        return passed

    def _check_why_it_ended(self, summary: RunSummary) -> None:
        raised, expected = self.raised, set[type[BaseException]]()
        if any(at is not None and len(self.pulled[stage]) == at for stage, at in self.fails_at.items()):
            expected.add(LookupError)
        if any(executor.gave_up for executor in self.executors):
            expected.add(WorkerSetupError)
        if self.stop is not None or any(self.stops):
            expected.add(TooManyErrors)
        if self.interrupted or self.pressed:
            expected.add(KeyboardInterrupt)
        if self.how == "consumer error":
            expected.add(ConsumerError)
        assert raised is None or type(raised) in expected, repr(raised)
        if isinstance(raised, TooManyErrors):
            assert raised.summary is summary
            assert summary.failed >= 1
        if self.pressed and not isinstance(raised, ConsumerError):
            assert isinstance(raised, KeyboardInterrupt) or summary.stopped is not None
        if summary.stopped is None:
            assert summary.cancelled == 0
            assert raised is None or isinstance(raised, LookupError | ConsumerError)
            for stop, of in zip((self.stop, *self.stops), (summary, *summary.stages), strict=True):
                assert stop is None or stop.errors is None or of.failed < stop.errors
                assert stop is None or stop.successes is None or of.succeeded < stop.successes

    def _check_hooks(self, summary: RunSummary) -> None:
        """What a plugin hears is what happened."""
        for told, of_stage in zip(self.told, summary.stages, strict=True):
            if self.observed and not self.interrupted:
                assert len(told.outcomes["success"]) == of_stage.succeeded
                assert len(told.outcomes["error"]) == of_stage.failed
                assert len(told.outcomes["duplicate"]) == of_stage.duplicates
            if self.observed:
                assert told.retries == of_stage.retries
                assert told.finishes == 1

    def _row(self, outcome: Outcome[Any, Any]) -> Row:
        of = self.script.key_of
        if outcome.status == "success":
            return (of(outcome.task), "success", of(outcome.value), outcome.attempts)
        if outcome.status == "error":
            return (of(outcome.task), "error", type(outcome.error), outcome.attempts)
        return (of(outcome.task), outcome.status, None, 0)

    def _check_streamed(self) -> None:
        """Each outcome that was given out is the model's, and comes only once."""
        ids = [outcome.id for outcome in self.streamed]
        assert len(set(ids)) == len(ids)
        for outcome in self.streamed:
            if outcome.status in ("success", "error"):
                self._check_fate(outcome)

    def _check_fate(self, outcome: Outcome[Any, Any]) -> None:
        stage = int(str(outcome.stage)[1:])
        row = self._row(outcome)
        if row in self.model.outcomes[stage]:
            return
        # A retry that is no longer made, since the run is ending, leaves the error of that attempt.
        fate = self.script.fate(stage, row[0])
        assert (row[1], self.driver.ending is not None) == ("error", True)
        assert outcome.attempts < fate.attempts

    def _check_whole_run(self, summary: RunSummary) -> None:
        """Nothing ended the run early: the account is exactly the model's."""
        of = self.script.key_of
        model = self.model
        if any(at is not None for at in self.fails_at.values()):
            model = Model(self.script, {stage: [of(task) for task in tasks] for stage, tasks in self.pulled.items()})
        for stage, at in self.fails_at.items():
            assert len(self.pulled[stage]) == (len(self.script.roots[stage]) if at is None else at)
        assert self._passed() == model.passed
        for stage, of_stage in enumerate(summary.stages):
            rows = model.outcomes[stage]
            counts = Counter[str]()
            for row, count in rows.items():
                counts[row[1]] += count
            assert of_stage.total == rows.total()
            assert of_stage.succeeded == counts["success"]
            assert of_stage.failed == counts["error"]
            assert of_stage.duplicates == counts["duplicate"]
            assert of_stage.retries == model.retries[stage]
            self._check_dicts(stage, rows)
            if self.observed:
                told = self.told[stage].outcomes
                assert Counter(self._row(outcome) for outcomes in told.values() for outcome in outcomes) == rows
        if self.how in ("stream", "stream_async"):
            leaving = [Counter[Row]() for _ in summary.stages]
            for outcome in self.streamed:
                leaving[int(str(outcome.stage)[1:])][self._row(outcome)] += 1
            assert leaving == model.leaving

    def _check_dicts(self, stage: int, rows: Counter[Row]) -> None:
        of, manager = self.script.key_of, self.managers[stage]
        values, kinds = Counter[Any](), Counter[Any]()
        for (key, status, detail, _), count in rows.items():
            if status != "duplicate":
                (values if status == "success" else kinds)[key, detail] += count
        if manager._core.options.enable_success_cache:
            assert Counter((of(task), of(value)) for task, value in manager.get_success_pairs()) == values
        if manager._core.options.enable_error_cache:
            found = Counter((of(task), type(error)) for task, error in manager.get_error_pairs())
            if self.script.stages[stage].deduplicate:
                # A task that was refused, as an item, is not known again: of its errors the last is in the dict.
                assert {key for key, _ in found} == {key for key, _ in kinds}
                assert set(found) <= set(kinds)
            else:
                assert found == kinds

    # ------------------------------------------------------------------ families

    def _check_families(self) -> None:
        """Whose child each task is, and that each family is what the documentation says, in its order."""
        outcomes = [o for told in self.told for some in told.outcomes.values() for o in some]
        by_id = {outcome.id: outcome for outcome in outcomes}
        complete = self.driver.ending is None
        children: dict[int, Counter[Any]] = {}
        for outcome in outcomes:
            if outcome.parent is None:
                assert outcome.root == outcome.id
                continue
            parent = by_id[outcome.parent]
            assert outcome.root == parent.root
            children.setdefault(parent.id, Counter())[outcome.stage, self.script.key_of(outcome.task)] += 1
        for outcome in outcomes:
            expected = Counter((f"s{child.target}", child.key) for child in self._offspring(outcome).children)
            came = children.get(outcome.id, Counter())
            assert came == expected if complete else came <= expected
        families = [outcome.task for outcome in outcomes if isinstance(outcome.task, Family)]
        if families:
            leaves = self._leaves(outcomes, by_id)
            for family in families:
                assert by_id[family.root.id] is family.root
                found, expected = [leaf.id for leaf in family.leaves], leaves.get(family.root.id, [])
                assert found == expected or (self.script.twins and sorted(found) == sorted(expected))

    def _offspring(self, outcome: Outcome[Any, Any]) -> Any:
        stage, key = int(str(outcome.stage)[1:]), self.script.key_of(outcome.task)
        if outcome.status == "duplicate":
            return NOTHING
        return self.script.offspring(stage, key, self.script.key_of(outcome.value) if outcome.ok else None)

    def _leaves(self, outcomes: Iterable[Any], by_id: dict[int, Any]) -> dict[int, list[int]]:
        """The ids of the leaves of each family, by that of its root, in order."""
        places: dict[int, tuple[int | None, tuple[Any, ...]]] = {}
        free: dict[int, list[Any]] = {}

        def place(outcome: Any) -> tuple[int | None, tuple[Any, ...]]:
            """The root of its family, and the path from there."""
            if outcome.id not in places:
                if outcome.parent is None:
                    places[outcome.id] = (None, ())
                else:
                    parent = by_id[outcome.parent]
                    family, path = place(parent)
                    after = self._offspring(parent)
                    if after.gathered and not isinstance(outcome.task, Family):
                        family, path = parent.id, ()
                    places[outcome.id] = (family, (*path, slot(outcome, after, parent)))
            return places[outcome.id]

        def slot(outcome: Any, after: Any, parent: Any) -> tuple[int, int, int]:
            """Which child it is; of twins along several edges the first that is left."""
            left = free.setdefault(parent.id, list(after.children))
            key, at = self.script.key_of(outcome.task), getattr(outcome.task, "at", 0)
            refused = outcome.status == "error" and outcome.attempts == 0
            for child in left:
                same = (f"s{child.target}", child.key, child.refused is not None) == (outcome.stage, key, refused)
                if same and (key[0] != THING or child.slot[2] == at):
                    left.remove(child)
                    found: tuple[int, int, int] = child.slot
                    return found
            raise AssertionError(f"{outcome!r} is no child of {parent!r}")

        rows: dict[int, list[tuple[Any, int]]] = {}
        for outcome in outcomes:
            family, path = place(outcome)
            if family is not None and not self._offspring(outcome).taken:
                rows.setdefault(family, []).append((path, outcome.id))
        return {family: [id for _, id in sorted(found)] for family, found in rows.items()}


def simulate(seed: int) -> None:
    """Run the world of *seed*.

    Raises:
        AssertionError: It does not agree with the model; the message says how to run it again.
    """
    world = GraphWorld(seed)
    try:
        world.run()
    except (Exception, KeyboardInterrupt) as error:
        raise AssertionError(
            f"Graph world {seed} ({world.how}, {len(world.managers)} stages, {world.model.total} tasks, "
            f"inline={world.inline}, staged={world.staged}): {type(error).__name__}: {error}\n"
            f"Run it again with: SEED={seed} python -m pytest tests/simulation/test_graph_world.py"
        ) from error


@pytest.mark.parametrize("block", range(10))
def test_graph_world_agrees_with_the_model(block: int) -> None:
    """A thousand worlds, in blocks of a hundred."""
    for seed in seeds(block * SEEDS // 10, SEEDS // 10):
        simulate(seed)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_many_graph_worlds_agree_with_the_model() -> None:
    """Twenty thousand more: ``pytest -m soak tests/simulation``."""
    for seed in seeds(SEEDS, SOAK):
        simulate(seed)
