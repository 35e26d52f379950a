"""One manager in a run: its engine, its executor and its user's customs, bound together.

    tasks --admit--> engine --fill--> executor --> results --settle--> Settled --flush--> account, observers, hooks

A stage decides nothing about when: the run calls it, with the moment. Batches go through as columns; a task is looked
at on its own only where a hook, an error or a duplicate wants it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any, TypeAlias

import attrs

from celestialflow_core._call import Calls, Result, Successes
from celestialflow_core._driver.account import Account
from celestialflow_core._driver.channel import Channel
from celestialflow_core._driver.customs import Customs
from celestialflow_core._driver.exceptions import annotate, forget_locals
from celestialflow_core._driver.exit import Outlet
from celestialflow_core._driver.gathered import Gathered
from celestialflow_core._driver.load import Load
from celestialflow_core._driver.workers import Workers
from celestialflow_core._engine.machine import Engine, IdSource
from celestialflow_core._keys import key_of
from celestialflow_core._observe.interface import Observer, RunInfo, Settled
from celestialflow_core._outcome import Counts, Outcome, Status
from celestialflow_core._policies import RetryPolicy, Stop
from celestialflow_core.errors import TaskAbandoned, WorkerCrashed
from celestialflow_core.executors.interface import AsyncExecutor, Executor, Work

__all__ = ["Kin", "Stage"]

DEADLY = 2  # a call that has ended so many workers is not tried again, whoever asks for it
FATAL = -1  # the id of a result that speaks for the whole executor


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
        place: Which stage of the run it is.
        inputs: Where tasks come from that other stages made.
        open_sources: How many sources may still give it tasks.
        judge: Says what is to come of a result, where that depends on the result; what it raises is the task's error.
        verdicts: What it said of results that have not been handed on.
        genealogist: Told of new tasks and where they came from, or None.
        traces: Whether somebody will ask where a task came from.
        begun: False while its tasks have to wait for other stages to end.
        retrying: False once the run is ending.
        fatal: What the executor said that ends the run, or None.
        rest: What of a part was not looked at, since a hook let a KeyboardInterrupt out.
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
    place: int = 0
    inputs: list[Channel] = attrs.field(factory=list)
    open_sources: int = 0
    judge: Callable[[Any], Any] | None = None
    verdicts: dict[int, Any] = attrs.field(factory=dict)
    genealogist: Callable[[Stage, Sequence[int], Sequence[Any], Sequence[Any] | None], None] | None = None
    traces: bool = False
    begun: bool = True
    retrying: bool = True
    fatal: BaseException | None = None
    rest: Successes | None = None
    _inline: bool = False
    _keys: dict[int, Any] = attrs.field(factory=dict)
    _kin: dict[int, Kin] = attrs.field(factory=dict)
    _forfeited: set[int] = attrs.field(factory=set)
    _seen_errors: list[BaseException] = attrs.field(factory=list)
    _gathered: Gathered = attrs.field(factory=Gathered)
    executor: Executor | AsyncExecutor = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.executor = self.workers.executor
        self._inline = "inline" in self.executor.capabilities

    # ------------------------------------------------------------------ in

    def admit(self, tasks: Sequence[Any], now: float, kin: Sequence[Any] | None = None) -> None:
        """Take *tasks* into the engine; what has no usable key fails at once.

        Args:
            tasks: The tasks.
            now: The moment.
            kin: Where each came from, if not from the source: a `Kin`, or only the parent's id in a run that does not
                trace its tasks.
        """
        ids = self._number(tasks, kin)
        engine = self.engine
        if not engine.deduplicate:
            engine.admit(ids, tasks, None, now)
            return
        if self.customs.key is None:
            try:
                duplicates = engine.admit(ids, tasks, tasks, now)
            except BaseException:  # a task that cannot be hashed or compared: find out which, one by one
                pass
            else:
                for id, task, first in duplicates:
                    self._note(self._outcome(id, task, "duplicate", task, original=first))
                return
        for at, id in enumerate(ids):
            try:
                self._admit_one(id, tasks[at], now)
            except KeyboardInterrupt:  # in the key hook; what has been taken is counted all the same
                engine.admit(ids[at:], tasks[at:], None, now)
                raise

    def _number(self, tasks: Sequence[Any], kin: Sequence[Any] | None) -> range:
        """Ids for new *tasks*, which come from *kin*."""
        ids = self.ids.take(len(tasks))
        if self.genealogist is not None:
            self.genealogist(self, ids, tasks, kin)
        if self.traces and kin is not None:
            self._kin.update(zip(ids, kin, strict=True))
        return ids

    def refuse(self, task: Any, error: BaseException, kin: Any, now: float) -> None:
        """Take in a task that fails at once, with *error*: what should have made it of a result has failed."""
        id = self._number([task], [kin])[0]
        self.load.stirred.add(self.place)
        self.engine.refuse(id, now)
        self._note(self._error(id, task, error, attempts=0))

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
                self.admit(tasks, now, kin)
            inputs.append(inputs.pop(0))

    def appetite(self, room: int, unbounded: bool = False) -> int:
        """How many more tasks this stage would take, when the run has *room* for so many more."""
        engine, slots = self.engine, self.executor.slots
        wanted = slots - engine.running - engine.ready
        if room <= 0 and not unbounded:
            wanted = min(wanted, slots - engine.in_flight - self.outlet.held())
        return wanted

    @property
    def idle(self) -> bool:
        """True if it has no task, has handed on all that settled, and nothing is left for it elsewhere."""
        return not (self.open_sources or self.engine.in_flight or self._gathered or any(map(len, self.inputs)))

    def _admit_one(self, id: int, task: Any, now: float) -> None:
        try:
            key = self.customs.key(task) if self.customs.key is not None else None
            key = key_of(task if key is None else key)
            duplicates = self.engine.admit((id,), (task,), (key,), now)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            error.add_note("This came from the task's key. The task_key hook can give another one.")
            self.engine.refuse(id, now)
            self._note(self._error(id, task, error, attempts=0))
            return
        for id, task, first in duplicates:
            self._note(self._outcome(id, task, "duplicate", key, original=first))
        if not duplicates and key is not task:
            self._keys[id] = key

    @property
    def quiet(self) -> bool:
        """True if there is nothing to do until the executor delivers something, or another stage or a source does."""
        engine = self.engine
        return not (
            engine.ready
            or engine.waiting
            or (self._inline and engine.running)
            or any(map(len, self.inputs))
            or self._gathered.others
        )

    @property
    def must_pump(self) -> bool:
        """True while an inline executor has calls that it will only go on with in another ``submit``."""
        return self._inline and self.engine.running > 0

    def fill(self, now: float) -> None:
        """Hand ready tasks to the executor, as many as it wants."""
        engine = self.engine
        calls = self._calls(now) if engine.ready else None
        if calls:
            self.executor.submit(calls)
        elif self._inline and engine.running:
            self.executor.submit(())

    def _calls(self, now: float) -> Calls:
        """The next calls, for as many ready tasks as the executor wants."""
        ids, tasks = self.engine.submit(self.executor.slots - self.engine.running, now)
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
                self._fail(id, error, now)
            else:
                good.append(id)
        return good, args

    # ------------------------------------------------------------------ out

    def settle(self, part: Successes | Result, now: float) -> None:
        """Take in what the executor delivered: a run of successes, or another result."""
        if isinstance(part, Result):
            self._settle_one(part, now)
        elif self.customs.process is None and self.judge is None:
            self._succeed(part.ids, part.values, part.seconds, part.workers, now)
        else:
            self._process(part, now)

    def _succeed(
        self,
        ids: Sequence[int],
        values: Sequence[Any],
        seconds: Sequence[float | None],
        workers: Sequence[int | None],
        now: float,
    ) -> None:
        known, tasks, tries = self.engine.succeed(ids, now)
        if len(known) != len(ids):  # some were late: settled before, or never ours
            # Of a call that was delivered twice the first delivery counts, so later ones are looked up first.
            position = {ids[at]: at for at in reversed(range(len(ids)))}
            at = [position[id] for id in known]
            values = [values[i] for i in at]
            seconds = [seconds[i] for i in at]
            workers = [workers[i] for i in at]
        gathered = self._gathered
        if known:
            gathered.runs.append((known, tasks, values, seconds, workers))
        if tries:
            gathered.tries.update(tries)

    def _process(self, part: Successes, now: float) -> None:
        process, judge = self.customs.process, self.judge
        engine = self.engine
        seen = set(self._forfeited)  # an executor may deliver a call twice, also in one batch
        ids: list[int] = []
        values: list[Any] = []
        at: list[int] = []
        try:
            for index, id in enumerate(part.ids):
                if not engine.is_running(id) or id in seen:
                    engine.late += 1
                    continue
                seen.add(id)
                value = part.values[index]
                try:
                    if process is not None:
                        value = process(engine.task(id), value)
                    if judge is not None:
                        self.verdicts[id] = judge(value)
                except KeyboardInterrupt:
                    self._forfeited.add(id)  # a second delivery must not stand in for the one that was lost
                    self.rest = part[index + 1 :]
                    raise
                except BaseException as error:
                    self._fail(id, error, now, part.seconds[index], part.workers[index])
                else:
                    ids.append(id)
                    values.append(value)
                    at.append(index)
        finally:
            self._succeed(ids, values, [part.seconds[i] for i in at], [part.workers[i] for i in at], now)

    def _settle_one(self, result: Result, now: float) -> None:
        if result.id == FATAL:
            self.fatal = self.fatal or result.error
            return
        self.account.reruns += result.reruns
        engine, error = self.engine, result.error
        if not engine.is_running(result.id):
            engine.late += 1
            return
        if error is None:
            self.settle(Successes((result.id,), (result.value,), (result.seconds,), (result.worker,)), now)
            return
        task, attempt = engine.task(result.id), engine.attempt(result.id)
        if isinstance(error, TaskAbandoned):
            self.account.abandoned += 1
        elif isinstance(error, WorkerCrashed):
            self.account.crashes += 1
            error.attempt = (attempt, self.retry.max_retries + 1)
        try:
            delay = self._delay(task, error, attempt)
        except KeyboardInterrupt:
            self._fail(result.id, error, now, result.seconds, result.worker, result.traceback, result.output)
            raise
        except BaseException as hook_error:
            hook_error.__cause__ = hook_error.__cause__ or error
            self._fail(result.id, hook_error, now, result.seconds, result.worker, result.traceback, result.output)
            return
        if delay is None:
            self._fail(result.id, error, now, result.seconds, result.worker, result.traceback, result.output)
            return
        engine.retry(result.id, delay, now)
        for observer in self.observers:
            observer.retried(task, error, attempt, delay)
        self.customs.tell("on_retry", task, error, attempt, delay)

    def _delay(self, task: Any, error: BaseException, attempt: int) -> float | None:
        """Seconds until the next attempt, or None if there is none."""
        if attempt > self.retry.max_retries or not self.retrying:
            return None
        if isinstance(error, WorkerCrashed) and error.crashes >= DEADLY:
            return None
        if not self.customs.decides_retries:
            return self.retry.backoff.delay(attempt, self.random()) if self.retry.wants(error) else None
        verdict = self.customs.should_retry(task, error, attempt)
        if not (self.retry.wants(error) if verdict is None else verdict):
            return None
        delay = self.customs.retry_delay(task, error, attempt)
        return self.retry.backoff.delay(attempt, self.random()) if delay is None else delay

    def _fail(
        self,
        id: int,
        error: BaseException,
        now: float,
        seconds: float | None = None,
        worker: int | None = None,
        traceback: str | None = None,
        output: str | None = None,
    ) -> None:
        task, attempts = self.engine.fail(id, now)
        annotate(error, task, attempts, self.retry.max_retries + 1)
        self._note(self._error(id, task, error, attempts, seconds, worker, traceback, output))

    def _error(
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
        if traceback is None and (self.outlet.wants_outcomes or self.customs.listens("on_error")):
            from celestialflow_core.executors.tracebacks import traceback_text

            traceback = traceback_text(error)
        return self._outcome(
            id,
            task,
            "error",
            self._keys.pop(id, task),
            error=error,
            attempts=attempts,
            seconds=seconds,
            worker=worker,
            traceback=traceback,
            output=output,
        )

    def _outcome(self, id: int, task: Any, status: Status, key: Any, **rest: Any) -> Outcome[Any, Any]:
        parent, root, _ = self._kin.get(id) or (None, id, None)
        return Outcome(id, task, status, key=key, parent=parent, root=root, stage=self.name, **rest)

    def _note(self, outcome: Outcome[Any, Any]) -> None:
        self._gathered.others.append(outcome)

    def cancel(self, now: float, *, running: bool) -> None:
        """Settle as cancelled what has not started, or with ``running=True`` all that is left."""
        for channel in self.inputs:
            kin, tasks = channel.take(len(channel))
            if tasks:  # none of them begins, so nobody asks for their keys
                self.engine.admit(self._number(tasks, kin), tasks, None, now)
        for id, task, attempts in self.engine.cancel(now, running=running):
            self._note(self._outcome(id, task, "cancelled", self._keys.pop(id, task), attempts=attempts))

    # ------------------------------------------------------------------ on

    def flush(self) -> bool:
        """Hand on what has settled since the last flush: keep it, show it, and tell the hooks; False if nothing had."""
        gathered = self._gathered
        if not gathered:
            return False
        self._gathered = Gathered()
        self.clear_frames()
        batch, others = gathered.settled(), gathered.others
        self.load.settled += len(batch.ids) + len(others)
        self.account.add(batch, others)
        for observer in self.observers:
            observer.settled(batch)
        kin = kin_of_others = None
        if self.traces:
            kin = list(map(self._kin.pop, batch.ids, repeat(None)))
            kin_of_others = [self._kin.pop(outcome.id, None) for outcome in others]
        outcomes: list[Outcome[Any, Any]] = []
        if self.outlet.wants_successes or self.customs.wants_successes:
            outcomes = self._successes(batch, kin)
        elif self._keys:
            for id in batch.ids:
                self._keys.pop(id, None)
        try:
            self.outlet.pass_on(self, batch, kin, outcomes, others, kin_of_others)
        finally:
            self._tell(outcomes, others)
        return True

    def _tell(self, outcomes: Sequence[Outcome[Any, Any]], others: Sequence[Outcome[Any, Any]]) -> None:
        """Tell the hooks."""
        if self.customs.wants_successes:
            for outcome in outcomes:
                self.customs.tell("on_success", outcome)
        for outcome in others:
            if outcome.error is not None:
                self._seen_errors.append(outcome.error)
            if outcome.status != "cancelled":
                self.customs.tell("on_error" if outcome.status == "error" else "on_duplicate", outcome)
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
        keys, tries, name = self._keys, batch.tries, self.name
        rows = zip(batch.ids, batch.tasks, batch.values, batch.seconds, batch.workers, strict=True)
        if not keys and not tries and kin is None:
            return [
                Outcome(id, task, "success", value, None, 1, seconds, worker, task, None, None, None, None, id, name)
                for id, task, value, seconds, worker in rows
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
            cancelled=engine.cancelled,
            retries=engine.retries,
        )
