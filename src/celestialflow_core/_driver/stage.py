"""One manager in a run: its engine, its executor and its user's customs, bound together.

    tasks --admit--> engine --fill--> executor --> results --settle--> Settled --flush--> account, observers, hooks

A stage decides nothing about when: the run calls it, with the moment. Batches go through as columns; a task is looked
at on its own only where a hook, an error or a duplicate wants it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import repeat
from typing import Any, TypeAlias

import attrs

from celestialflow_core._call import Calls, Successes
from celestialflow_core._driver.account import Account
from celestialflow_core._driver.admission import admit
from celestialflow_core._driver.channel import Channel
from celestialflow_core._driver.conduct import odd_slots
from celestialflow_core._driver.customs import Customs
from celestialflow_core._driver.exceptions import annotate, forget_locals
from celestialflow_core._driver.exit import Flushed, Outlet
from celestialflow_core._driver.gathered import Gathered
from celestialflow_core._driver.load import Load
from celestialflow_core._driver.storage import Stored
from celestialflow_core._driver.workers import Workers
from celestialflow_core._engine.machine import Engine, IdSource
from celestialflow_core._observe.interface import Observer, RunInfo, Settled
from celestialflow_core._outcome import Counts, Outcome, Status
from celestialflow_core._policies import RetryPolicy, Stop
from celestialflow_core.executors.interface import AsyncExecutor, Executor, Work

__all__ = ["Kin", "Stage"]

AHEAD = 1000  # tasks of a run that resumes: a store is asked for many at a time, and most may never run
PATIENCE = 0.001  # seconds
HOOKS = {"error": "on_error", "duplicate": "on_duplicate"}  # of other outcomes no hook is told

Kin: TypeAlias = "tuple[int, int, Any] | None"
"""Where a task came from: its parent's id, its root's, and its place in a family; None for a task of the source."""


@attrs.define(eq=False)
class Stage:
    """What one manager brings to a run.

    Attributes:
        name: The manager's.
        info: What observers are told of it.
        engine: Its tasks.
        ids: Numbers the tasks of the whole run.
        load: Counts what the whole run holds.
        workers: Its executor, and whether that stays warm.
        make_work: Gives what the executor is to do.
        customs: Its overrides and hooks.
        retry: When a failed attempt is tried again.
        stop: Its rule that ends the run early, or None.
        account: Keeps results, errors and figures.
        observers: Log, progress.
        random: Gives a number in [0, 1) for the jitter of each retry.
        outlet: Takes what has settled.
        warn: Logs a warning.
        place: Which stage of the run it is.
        inputs: Where tasks come from that other stages made.
        open_sources: How many sources may still give it tasks.
        judge: Says what is to come of a result, where that depends on the result; what it raises is the task's error.
        verdicts: What it said of results that have not been handed on.
        genealogist: Told of new tasks and where they came from, or None.
        traces: Whether somebody will ask where a task came from.
        stored: What an earlier run has stored of its tasks, where the run has sinks.
        skipped: How many tasks were not for this run.
        begun: False while its tasks have to wait for other stages to end.
        retrying: False once the run is ending.
        strayed: Whether its executor has delivered what no call of the run waits for.
        fatal: What the executor said that ends the run, or None.
        rest: What of a part was not looked at, since a hook let a KeyboardInterrupt out.
        keys: What identifies the tasks that have not been handed on, where that is not the task itself.
        kin: Where these came from, where the run traces that.
        forfeited: The calls whose result was lost when a Ctrl-C came out of the hook that was given it.
        gathered: What has settled since the last flush.
        executor: Runs its calls.
        inline: Whether that is done while they are submitted.
    """

    name: str
    info: RunInfo
    engine: Engine[Any, Outcome[Any, Any]]
    ids: IdSource
    load: Load
    workers: Workers
    make_work: Callable[[], Work]
    customs: Customs
    retry: RetryPolicy
    stop: Stop | None
    account: Account
    observers: Sequence[Observer]
    random: Callable[[], float]
    outlet: Outlet
    warn: Callable[[str], None]
    place: int = 0
    inputs: list[Channel] = attrs.field(factory=list)
    open_sources: int = 0
    judge: Callable[[Any], Any] | None = None
    verdicts: dict[int, Any] = attrs.field(factory=dict)
    genealogist: Callable[[Stage, Sequence[int], Sequence[Any], Sequence[Any] | None], None] | None = None
    traces: bool = False
    stored: Stored | None = None
    skipped: int = 0
    begun: bool = True
    retrying: bool = True
    strayed: bool = False
    fatal: BaseException | None = None
    rest: Successes | None = None
    keys: dict[int, Any] = attrs.field(factory=dict)
    kin: dict[int, Kin] = attrs.field(factory=dict)
    forfeited: set[int] = attrs.field(factory=set)
    gathered: Gathered = attrs.field(factory=Gathered)
    executor: Executor | AsyncExecutor = attrs.field(init=False)
    inline: bool = attrs.field(init=False)
    _seen_errors: list[BaseException] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.executor = self.workers.executor
        self.inline = "inline" in self.executor.capabilities

    # ------------------------------------------------------------------ in

    def number(self, tasks: Sequence[Any], kin: Sequence[Any] | None) -> range:
        """Ids for new *tasks*, which come from *kin*."""
        ids = self.ids.take(len(tasks))
        if self.genealogist is not None:
            self.genealogist(self, ids, tasks, kin)
        if self.traces and kin is not None:
            self.kin.update(zip(ids, kin, strict=True))
        return ids

    def draw(self, now: float, room: int) -> None:
        """Take in tasks that other stages made, as many as the executor wants.

        Args:
            now: The moment.
            room: How many more tasks the run may hold. When there is none, this stage may still have as many as the
                executor runs at a time, so that no stage waits for another for ever.
        """
        inputs = self.inputs
        for _ in range(len(inputs)):
            channel = inputs[0]
            wanted = self.appetite(room, channel.unbounded) if len(channel) else 0
            if wanted > 0:
                kin, tasks = channel.take(wanted)
                admit(self, tasks, now, kin)
            inputs.append(inputs.pop(0))

    def appetite(self, room: int, unbounded: bool = False) -> int:
        """How many more tasks this stage would take, when the run has *room* for so many more."""
        engine, slots = self.engine, self.slots
        if self.stored is not None and self.stored.resume:
            slots = max(slots, AHEAD)
        wanted = slots - engine.running - engine.ready
        if room <= 0 and not unbounded:
            wanted = min(wanted, slots - engine.in_flight - self.outlet.held())
        return wanted

    @property
    def slots(self) -> int:
        """How many calls its executor wants to have."""
        slots = self.executor.slots
        if type(slots) is int and slots > 0:
            return slots
        return odd_slots(self.info.mode, slots, self.engine.running)

    @property
    def patience(self) -> float:
        """For how many seconds its source may be pulled at a time: a run that resumes asks its store by the batch."""
        return PATIENCE if self.stored is not None and self.stored.resume else 0.0

    @property
    def idle(self) -> bool:
        """True if it has no task, has handed on all that settled, and nothing is left for it elsewhere."""
        return not (self.open_sources or self.engine.in_flight or self.gathered or any(map(len, self.inputs)))

    @property
    def quiet(self) -> bool:
        """True if there is nothing to do until the executor delivers something, or another stage or a source does."""
        engine = self.engine
        return not (
            engine.ready
            or engine.waiting
            or (self.inline and engine.running)
            or any(map(len, self.inputs))
            or self.gathered.others
        )

    @property
    def must_pump(self) -> bool:
        """True while an inline executor has calls that it will only go on with in another ``submit``."""
        return self.inline and self.engine.running > 0

    def fill(self, now: float) -> None:
        """Hand ready tasks to the executor, as many as it wants."""
        engine = self.engine
        calls = self._calls(now) if engine.ready else None
        if calls:
            self.executor.submit(calls)
        elif self.inline and engine.running:
            self.executor.submit(())

    def _calls(self, now: float) -> Calls:
        """The next calls, for as many ready tasks as the executor wants."""
        ids, tasks = self.engine.submit(self.slots - self.engine.running, now)
        if self.customs.args is None:
            return Calls(ids, singles=tasks)
        return Calls(*self._args_of(ids, tasks, now))

    def _args_of(self, ids: Sequence[int], tasks: Sequence[Any], now: float) -> tuple[list[int], list[Any]]:
        make = self.customs.args
        assert make is not None
        good: list[int] = []
        args: list[Any] = []
        for id, task in zip(ids, tasks, strict=True):
            try:
                args.append(make(task))
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                self.fail(id, error, now)
            else:
                good.append(id)
        return good, args

    # ------------------------------------------------------------------ out

    def fail(
        self,
        id: int,
        error: BaseException,
        now: float,
        seconds: float | None = None,
        worker: int | None = None,
        traceback: str | None = None,
        output: str | None = None,
    ) -> None:
        """Settle a running task as failed."""
        task, attempts = self.engine.fail(id, now)
        annotate(error, task, attempts, self.retry.max_retries + 1, whole=self.customs.args is None)
        self.note(self.error(id, task, error, attempts, seconds, worker, traceback, output))

    def error(
        self,
        id: int,
        task: Any,
        error: BaseException,
        attempts: int,
        seconds: float | None = None,
        worker: int | None = None,
        traceback: str | None = None,
        output: str | None = None,
    ) -> Outcome[Any, Any]:
        """The outcome of a task that failed; with the traceback as text, where somebody will see it."""
        if traceback is None and (self.outlet.wants_outcomes or self.stored or self.customs.listens("on_error")):
            from celestialflow_core.executors.tracebacks import traceback_text

            traceback = traceback_text(error)
        return self.outcome(
            id,
            task,
            "error",
            self.keys.pop(id, task),
            error=error,
            attempts=attempts,
            seconds=seconds,
            worker=worker,
            traceback=traceback,
            output=output,
        )

    def outcome(self, id: int, task: Any, status: Status, key: Any, **rest: Any) -> Outcome[Any, Any]:
        """The outcome of a task that is no success."""
        parent, root, _ = self.kin.get(id) or (None, id, None)
        return Outcome(id, task, status, key=key, parent=parent, root=root, stage=self.name, **rest)

    def note(self, outcome: Outcome[Any, Any]) -> None:
        """Hand *outcome* on with the next flush."""
        self.gathered.others.append(outcome)

    def cancel(self, now: float, *, running: bool) -> None:
        """Settle as cancelled what has not started, or with ``running=True`` all that is left."""
        for channel in self.inputs:
            kin, tasks = channel.take(len(channel))
            if tasks:  # none of them begins, so nobody asks for their keys
                self.engine.admit(self.number(tasks, kin), tasks, None, now)
        for id, task, attempts in self.engine.cancel(now, running=running):
            self.note(self.outcome(id, task, "cancelled", self.keys.pop(id, task), attempts=attempts))

    # ------------------------------------------------------------------ on

    def flush(self, now: float) -> bool:
        """Hand on what has settled since the last flush: keep it, show it, and tell the hooks; False if nothing had."""
        gathered = self.gathered
        if not gathered:
            return False
        self.gathered = Gathered()
        self.clear_frames()
        batch, others = gathered.settled(), gathered.others
        self.account.add(batch, others)
        for observer in self.observers:
            observer.settled(batch)
        kin = kin_of_others = None
        if self.traces:
            kin = list(map(self.kin.pop, batch.ids, repeat(None)))
            kin_of_others = [self.kin.pop(outcome.id, None) for outcome in others]
        outcomes: list[Outcome[Any, Any]] = []
        if self.outlet.wants_successes or self.customs.wants_successes or self.stored is not None:
            outcomes = self._successes(batch, kin)
        elif self.keys:
            for id in batch.ids:
                self.keys.pop(id, None)
        flushed = Flushed(self, batch, kin, outcomes, others, kin_of_others)
        if self.stored is None:
            self._hand_on(flushed)
            return True
        failed = [outcome for outcome in others if outcome.status == "error" and outcome.key is not None]
        self.stored.storage.add([*outcomes, *failed], partial(self._hand_on, flushed), now)
        return True

    def _hand_on(self, flushed: Flushed) -> None:
        """Let what has settled go on: to the consumer, to other stages, to the hooks."""
        self.load.settled += len(flushed.batch.ids) + len(flushed.others)
        try:
            self.outlet.pass_on(flushed)
        finally:
            self._tell(flushed.outcomes, flushed.others)

    def _tell(self, outcomes: Sequence[Outcome[Any, Any]], others: Sequence[Outcome[Any, Any]]) -> None:
        """Tell the hooks."""
        if self.customs.wants_successes:
            for outcome in outcomes:
                self.customs.tell("on_success", outcome)
        for outcome in others:
            if outcome.error is not None:
                self._seen_errors.append(outcome.error)
            hook = HOOKS.get(outcome.status)
            if hook is not None:
                self.customs.tell(hook, outcome)
        if not self.outlet.wants_outcomes:
            self.clear_frames()

    def clear_frames(self) -> None:
        """Let go of the local variables of frames in which errors were raised, once everybody has seen the error.

        Hooks, and the consumer of a stream until it asks for the next outcome, find them whole.
        """
        errors, self._seen_errors = self._seen_errors, []
        for error in errors:
            forget_locals(error)

    def _successes(self, batch: Settled, kin: Sequence[Kin] | None) -> list[Outcome[Any, Any]]:
        keys, tries, name = self.keys, batch.tries, self.name
        rows = zip(batch.ids, batch.tasks, batch.values, batch.seconds, batch.workers, strict=True)
        if not tries and kin is None:
            known = map(keys.pop, batch.ids, batch.tasks) if keys else iter(batch.tasks)
            return [
                Outcome(id, task, "success", value, None, 1, seconds, worker, key, None, None, None, None, id, name)
                for (id, task, value, seconds, worker), key in zip(rows, known, strict=True)
            ]
        origins = [
            (None, id, None) if at is None else at for id, at in zip(batch.ids, kin or repeat(None), strict=False)
        ]
        return [
            Outcome(
                *(id, task, "success", value, None, tries.get(id, 1), seconds, worker, keys.pop(id, task)),
                *(None, None, None, parent, root, name),
            )
            for (id, task, value, seconds, worker), (parent, root, _) in zip(rows, origins, strict=True)
        ]

    def counts(self) -> Counts:
        """Where the tasks are now; may be asked from any thread."""
        engine = self.engine
        return Counts(
            taken=engine.admitted,
            pending=engine.ready + engine.waiting,
            running=engine.running,
            succeeded=engine.succeeded,
            failed=engine.failed,
            duplicates=engine.duplicates,
            restored=engine.restored,
            cancelled=engine.cancelled,
            retries=engine.retries,
        )
