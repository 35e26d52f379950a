"""Whole runs over a simulated executor, in which one integer decides everything, against a naive sequential model.

The seed decides about tasks, durations (that is, the order in which calls finish), how results are batched, and faults:
errors of several kinds, errors that are worth a retry, overrides that raise, results that come twice, late, or for
calls that nobody made, an executor that gives up, an iterable that raises, a Ctrl-C in an override, stop rules, a
consumer that leaves; in the calling thread or in an event loop. The model takes one task after the other. What a
run may not do, whatever the seed: lose a task, give two outcomes for one, report another value than the model's, call
a hook too often or too seldom, or overfill the executor.

A failure names its seed, and the command that runs that seed alone.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import attrs
import pytest
from tests.simulation.scripted import WorldExecutor, seeds

from celestialflow_core import Backoff, Stop, TaskAbandoned, TaskManager, TooManyErrors, WorkerSetupError, hookimpl
from celestialflow_core.executors import Call, Result

SEEDS = 1000
SOAK = 100_000
FORMS: list[Callable[[int], Any]] = [lambda number: number, lambda number: (number,), lambda number: [number]]


class Spoiled(Exception):
    """What process_result raises."""


class NoArguments(Exception):
    """What get_args raises."""


@attrs.frozen
class Fate:
    """How one task ends in the model: after *attempts*, with a value, or with an error of *kind*."""

    attempts: int
    value: str | None = None
    kind: type[BaseException] | None = None


class Script:
    """What the seed has decided about the tasks: each attempt of each, and from that, its fate."""

    RETRYABLE = (TimeoutError, ConnectionError)
    FINAL = (ValueError, SystemExit, asyncio.CancelledError, TaskAbandoned)

    def __init__(self, dice: random.Random, tasks: int, max_retries: int) -> None:
        bad = dice.choice([0.0, 0.1, 0.5])
        self.attempts: list[list[type[BaseException] | None]] = []
        self.spoiled = {task for task in range(tasks) if dice.random() < bad / 4}
        self.no_arguments = {task for task in range(tasks) if dice.random() < bad / 4}
        self.fates: list[Fate] = []
        for task in range(tasks):
            fails: list[type[BaseException] | None] = []
            while len(fails) <= max_retries and dice.random() < bad:
                fails.append(dice.choice(self.RETRYABLE if dice.random() < 0.7 else self.FINAL))
            self.attempts.append([*fails, *[None] * (max_retries + 1)])
            self.fates.append(self._fate(task, max_retries))

    def _fate(self, task: int, max_retries: int) -> Fate:
        if task in self.no_arguments:
            return Fate(1, kind=NoArguments)
        attempt = 1
        while (error := self.attempts[task][attempt - 1]) is not None:
            if attempt > max_retries or not issubclass(error, self.RETRYABLE) or error is TaskAbandoned:
                return Fate(attempt, kind=error)
            attempt += 1
        return Fate(attempt, kind=Spoiled) if task in self.spoiled else Fate(attempt, value=f"value of {task}")

    def answer(self, call: Call, task: int, attempt: int) -> Result:
        """What the executor says of this attempt."""
        kind = self.attempts[task][attempt - 1]
        if kind is None:
            return Result(call.id, f"value of {task}", None, None if task % 5 == 1 else 0.001 * task, task % 3)
        error = TaskAbandoned("t", 1.0) if kind is TaskAbandoned else kind(f"attempt {attempt} of {task}")
        return Result(call.id, None, error, 0.001, task % 3)


class Told:
    """A plugin that counts what it is told."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    @hookimpl
    def on_success(self) -> None:
        """Noted."""
        self.calls["success"] += 1

    @hookimpl
    def on_error(self) -> None:
        """Noted."""
        self.calls["error"] += 1

    @hookimpl
    def on_duplicate(self) -> None:
        """Noted."""
        self.calls["duplicate"] += 1

    @hookimpl
    def on_retry(self) -> None:
        """Noted."""
        self.calls["retry"] += 1

    @hookimpl
    def on_finish(self) -> None:
        """Noted."""
        self.calls["finish"] += 1


def number_of(task: Any) -> int:
    """The number in a task, which may be the task itself, or in a tuple or a list."""
    return task if isinstance(task, int) else task[0]


class World:
    """One run, all of which follows from *seed* (but, where the executor has a thread, not how the two interleave)."""

    def __init__(self, seed: int) -> None:
        dice = self.dice = random.Random(seed)
        number = dice.choice([0, 1, 5, 40, 120])
        self.distinct = max(1, round(number * dice.choice([0.3, 0.9, 1.0])))
        self.numbers = [dice.randrange(self.distinct) for _ in range(number)]
        self.form = dice.choice(FORMS)
        self.max_retries = dice.randint(0, 3)
        self.script = Script(dice, self.distinct, self.max_retries)
        self.deduplicate = dice.random() < 0.7
        self.one_by_one = dice.random() < 0.6
        self.fails_at = dice.randrange(number + 1) if dice.random() < 0.15 else None
        self.stop = dice.choice(
            [None] * 5
            + [Stop(errors=dice.randint(1, 9), when=dice.choice(["soon", "now"]))]
            + [Stop(consecutive=dice.randint(1, 4)), Stop(successes=dice.randint(1, 20)), Stop(fraction=0.2, minimum=9)]
        )
        self.executor = WorldExecutor(
            random.Random(seed + 1),
            self.script,
            inline=dice.random() < 0.7,
            gives_up_at=dice.randint(1, 60) if dice.random() < 0.1 else None,
        )
        self.interrupts_at = dice.randint(1, 1 + number // 2) if dice.random() < 0.2 else None
        self.how = dice.choice(["start", "stream", "ordered", "left", "start_async", "stream_async"])
        self.leaves_after = dice.randint(0, 20)
        self.max_in_flight = dice.choice([1, 2, 5, 30, None])
        self.pulled: list[Any] = []
        self.ids: list[int] = []
        self.outcomes: list[Any] = []
        self.told = Told()
        self.raised: BaseException | None = None
        self.interrupted = False

    def tasks(self) -> Iterable[Any]:
        """The iterable of the run: a list, which is pulled in chunks, or a generator, which is pulled one by one."""
        if self.fails_at is not None or self.one_by_one:
            return self._generated()
        self.pulled, self.ids = [self.form(number) for number in self.numbers], self.numbers
        return self.pulled

    def _generated(self) -> Iterator[Any]:
        """The iterable of the run; at each pull the engine is checked."""
        for at, number in enumerate(self.numbers):
            if at == self.fails_at:
                raise LookupError("the source is dry")
            stage = self.manager._core.stage
            assert stage is not None
            stage.engine.check()
            self.pulled.append(self.form(number))
            self.ids.append(number)
            yield self.pulled[-1]
        if self.fails_at == len(self.numbers):
            raise LookupError("the source is dry")

    def run(self) -> None:
        """Let it happen, and compare."""
        script, calls = self.script, 0

        class Manager(TaskManager[Any, Any]):
            def get_args(self, task: Any) -> Any:
                if number_of(task) in script.no_arguments:
                    raise NoArguments(task)
                return (number_of(task),)

            def process_result(inner, task: Any, result: Any) -> Any:  # noqa: N805
                nonlocal calls
                calls += 1
                if calls == self.interrupts_at:
                    self.interrupted = True
                    raise KeyboardInterrupt
                if number_of(task) in script.spoiled:
                    raise Spoiled(task)
                return result

        self.manager: Any = Manager(
            abs,
            self.executor,
            max_retries=self.max_retries,
            enable_duplicate_check=self.deduplicate,
            enable_success_cache=True,
            enable_error_cache=True,
            max_in_flight=self.max_in_flight,
            backoff=Backoff(initial=0),
            stop=self.stop,
            plugins=[self.told],
            log_dir=None,
            log_level="CRITICAL",
        )
        try:
            self._consume()
        except (LookupError, TooManyErrors, WorkerSetupError, KeyboardInterrupt) as error:
            self.raised = error
        self._check()

    def _consume(self) -> None:
        if self.how == "start":
            self.manager.start(self.tasks())
            return
        if self.how.endswith("async"):
            loop = asyncio.new_event_loop()  # as asyncio.run, which would take Ctrl-C for its own
            try:
                loop.run_until_complete(self._consume_async())
            finally:
                loop.close()
            return
        with self.manager.stream(self.tasks(), ordered=self.how == "ordered") as outcomes:
            for outcome in outcomes:
                self.outcomes.append(outcome)
                if self.how == "left" and len(self.outcomes) > self.leaves_after:
                    return

    async def _consume_async(self) -> None:
        if self.how == "start_async":
            await self.manager.start_async(self.tasks())
            return
        async with self.manager.stream_async(self.tasks()) as outcomes:
            async for outcome in outcomes:
                self.outcomes.append(outcome)

    # ------------------------------------------------------------------ the verdict

    def _check(self) -> None:
        executor, summary = self.executor, self.manager.summary
        if self.fails_at is None and not self.one_by_one:
            self.pulled, self.ids = self.pulled[: summary.total], self.ids[: summary.total]
        assert executor.problems == []
        assert (executor.started, executor.stopped >= 1) == (1, True)
        statuses = Counter(
            success=summary.succeeded, error=summary.failed, duplicate=summary.duplicates, cancelled=summary.cancelled
        )
        assert summary.total == len(self.pulled) == statuses.total()
        self._check_why_it_ended(summary)
        # What a plugin hears is what happened.
        for status in ("success", "error", "duplicate"):
            assert self.told.calls[status] == statuses[status], status
        assert self.told.calls["retry"] == summary.retries
        assert self.told.calls["finish"] == 1
        self._check_outcomes(statuses)
        # Nothing that was delivered is lost, whatever came after it; but for the one that a Ctrl-C interrupted.
        good = sum(self.ids[id] not in self.script.spoiled for id in executor.succeeded)
        assert summary.succeeded in ((good, good - 1) if self.interrupted else (good,))
        if summary.stopped is None:
            self._check_whole_run(summary)

    def _check_why_it_ended(self, summary: Any) -> None:
        expected: list[type[BaseException]] = []
        if self.fails_at is not None and len(self.pulled) == self.fails_at:
            expected.append(LookupError)
        if self.executor.gave_up:
            expected.append(WorkerSetupError)
        if self.stop is not None:
            expected.append(TooManyErrors)
        if self.interrupted:
            expected.append(KeyboardInterrupt)
        if self.raised is not None:
            assert type(self.raised) in expected
        if isinstance(self.raised, TooManyErrors):
            assert summary.failed >= 1
            assert self.raised.summary is summary
        if summary.stopped is None:
            assert summary.cancelled == 0
            assert self.raised is None or isinstance(self.raised, LookupError)
            if self.stop is not None and self.stop.errors is not None:
                assert summary.failed < self.stop.errors
            if self.stop is not None and self.stop.successes is not None:
                assert summary.succeeded < self.stop.successes

    def _check_outcomes(self, statuses: Counter[str]) -> None:
        """Each outcome that was given out is the model's."""
        seen = [outcome.id for outcome in self.outcomes]
        assert len(set(seen)) == len(seen)
        assert set(seen) <= set(range(len(self.pulled)))
        if self.how == "ordered":
            assert seen == sorted(seen) == list(range(len(seen)))
        if self.how in ("stream", "ordered", "stream_async") and not isinstance(self.raised, KeyboardInterrupt):
            assert len(seen) == len(self.pulled)
            assert Counter(outcome.status for outcome in self.outcomes) == +statuses
        first: dict[int, int] = {}
        for id, number in enumerate(self.ids):
            first.setdefault(number, id)
        for outcome in self.outcomes:
            number = self.ids[outcome.id]
            fate = self.script.fates[number]
            assert outcome.task is self.pulled[outcome.id]
            assert (outcome.status == "duplicate") == (self.deduplicate and first[number] != outcome.id)
            if outcome.status == "duplicate":
                assert outcome.original == first[number]
            elif outcome.status == "success":
                assert (outcome.value, outcome.attempts) == (fate.value, fate.attempts)
            elif outcome.status == "error":
                # A retry that is no longer made, since the run is ending, leaves the error of that attempt.
                assert outcome.attempts <= fate.attempts
                if outcome.attempts == fate.attempts:
                    assert type(outcome.error) is fate.kind

    def _check_whole_run(self, summary: Any) -> None:
        """Nothing ended the run early: the account is exactly the model's."""
        ran = list(dict.fromkeys(self.ids)) if self.deduplicate else self.ids
        fates = [self.script.fates[number] for number in ran]
        assert summary.succeeded == sum(fate.kind is None for fate in fates)
        assert summary.failed == sum(fate.kind is not None for fate in fates)
        assert summary.duplicates == len(self.ids) - len(ran)
        assert summary.retries == sum(fate.attempts - 1 for fate in fates)
        values = Counter((number_of(task), value) for task, value in self.manager.get_success_pairs())
        kinds = Counter((number_of(task), type(error)) for task, error in self.manager.get_error_pairs())
        pairs = list(zip(ran, fates, strict=True))
        assert values == Counter((number, fate.value) for number, fate in pairs if fate.kind is None)
        assert kinds == Counter((number, fate.kind) for number, fate in pairs if fate.kind is not None)
        for number, fate in pairs:
            if fate.kind is None:
                assert self.manager.success_dict[self.form(number)] == fate.value
        assert sum(group.count for group in summary.errors) == summary.failed


def simulate(seed: int) -> None:
    """Run the world of *seed*.

    Raises:
        AssertionError: It does not agree with the model; the message says how to run it again.
    """
    world = World(seed)
    try:
        world.run()
    except Exception as error:
        raise AssertionError(
            f"World {seed} ({world.how}, {len(world.numbers)} tasks, inline={world.executor.inline}): "
            f"{type(error).__name__}: {error}\n"
            f"Run it again with: SEED={seed} python -m pytest tests/simulation/test_world.py"
        ) from error


@pytest.mark.parametrize("block", range(10))
def test_world_agrees_with_the_model(block: int) -> None:
    """A thousand worlds, in blocks of a hundred."""
    for seed in seeds(block * SEEDS // 10, SEEDS // 10):
        simulate(seed)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_many_worlds_agree_with_the_model() -> None:
    """A hundred thousand more: ``pytest -m soak tests/simulation``."""
    for seed in seeds(SEEDS, SOAK):
        simulate(seed)
