"""A run: from the first task pulled to the last outcome handed over, and every way in which it can end.

A run has one stage or many; many are joined by channels, through which the results of one become tasks of another.
`Run` has no loop and never waits, so that one body serves the synchronous and the asynchronous shell. A shell calls
``advance`` until it says ``finished``, waits as long as it is told to, and then calls ``close``::

    advance: take in what was delivered -> move results on -> wake retries -> fill the executors -> pull a task -> fill
                                                                                   |
                                     outcomes that wait for the consumer come first, before an iterable is pulled

Nothing that moves inside a run ever waits for a place: what has no place stays where it is, and is fetched by the
stage that wants it. So no mixture of stages can come to a stand, and what they hold is bounded by the one rule of
`room`: a source is asked for a task only while the run has room for one.

The end. ``end`` closes the sources and cancels what has not started; the executors are then stopped beside the driver,
which goes on taking in results until they have nothing left; what is still out after that is cancelled, and only then
is anything raised. All endings are this one, with another grace.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any

import attrs

from celestialflow_core._call import Delivery, Result, Successes
from celestialflow_core._driver.admission import admit
from celestialflow_core._driver.conduct import parts_of
from celestialflow_core._driver.exit import Exit
from celestialflow_core._driver.load import Load
from celestialflow_core._driver.settling import settle
from celestialflow_core._driver.stage import Stage
from celestialflow_core._driver.storage import Storage
from celestialflow_core._policies import Stop
from celestialflow_core.errors import TooManyErrors

__all__ = ["Ending", "Run"]

FOREVER = 604_800.0  # seconds; a grace that is no limit, and that every wait can take


@attrs.frozen(kw_only=True)
class Ending:
    """Why and how a run ends before its tasks do.

    Attributes:
        reason: In words, for the summary.
        grace: Seconds that running calls have.
        error: What is raised when all is released, or None.
    """

    reason: str
    grace: float
    error: BaseException | None = None


class Run:
    """The body of a run.

    Args:
        stages: The managers' engines, executors and customs, each after those from which its tasks come.
        exit: Where outcomes leave the run.
        load: Counts what the run holds.
        max_in_flight: The most tasks that the run may hold when it asks a source for another one.
        stop: The rule that ends the run early, or None; a rule of a stage is the stage's.
        grace: Seconds that running calls have when the run is ended from outside.
        schedule: Called before each round of a run of many stages; moves on what no stage fetches by itself, and lets
            stages begin. Given the `room`; True from it asks for another round.
        storage: The sinks, or None.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        exit: Exit,
        load: Load,
        *,
        max_in_flight: int,
        stop: Stop | None,
        grace: float,
        schedule: Callable[[float, int], bool] | None = None,
        storage: Storage | None = None,
    ) -> None:
        self.stages = stages
        self.exit = exit
        self.load = load
        self.open_sources = 0
        """How many sources may still give tasks."""
        self.outcomes = exit.outcomes
        self.ending: Ending | None = None
        self.inbox: deque[tuple[Stage, Delivery]] = deque()
        """Where the deliveries of the executors arrive; set by the shell."""
        self.began = monotonic()
        self._max_in_flight = max_in_flight
        self._stop = stop
        self._grace = grace
        self._schedule = schedule
        self.storage = storage
        for place, stage in enumerate(stages):
            stage.place = place
            for channel in stage.inputs:
                channel.place = place
        self._parts: deque[tuple[Stage, Successes | Result]] = deque()
        self._before = (0, 0)
        self._failed_in_a_row = 0
        self._serial = all("inline" in stage.executor.capabilities for stage in stages)

    # ------------------------------------------------------------------ one round

    def advance(self) -> float | None:
        """Do all that can be done without a new task; gives how long to wait for a delivery after it.

        Returns:
            Seconds: 0 where the shell should come back at once (or hand over outcomes, or pull a task first); None
            where nothing but a delivery can change anything.
        """
        now = monotonic()
        self.collect(now)
        if self._ended():
            return 0.0
        if self.storage is not None and self.storage.due(now):
            self.storage.flush()
        again = False
        if self._schedule is not None and ((room := self.room()) > 0 or not self.outcomes):
            again = self._schedule(now, room)
        room = self.room() if len(self.stages) > 1 else 0
        due: float | None = None
        for place in sorted(self.load.stirred, reverse=True):  # the deepest first
            stage = self.stages[place]
            if stage.quiet:
                self.load.stirred.discard(place)
                continue
            engine = stage.engine
            if engine.waiting:
                engine.wake(now)
            if stage.begun:
                if stage.inputs and (room > 0 or not self.outcomes):
                    stage.draw(now, room)
                stage.fill(now)
            # Duplicates, and what had no usable key or no arguments: the stage has settled tasks without a call, and
            # may want others instead.
            again = stage.flush(now) or again
            self._ask_stop(stage)
            if self._ended():
                return 0.0
            again = again or stage.must_pump
            if engine.waiting:
                next_due = engine.next_due()
                due = next_due if due is None or next_due is None else min(due, next_due)
        if again or self.inbox or self.outcomes:
            return 0.0
        if self.storage is not None and self.storage.waiting:  # before the driver waits, or a source is asked
            self.storage.flush()
            return 0.0
        return None if due is None else max(0.0, due - now)

    def _ended(self) -> bool:
        return self.ending is not None

    @property
    def finished(self) -> bool:
        """True when nothing is left to do, or the run is to be ended."""
        return self.ending is not None or (not self.open_sources and not self.load.held)

    def room(self) -> int:
        """How many more tasks the run may hold. What has settled counts until all that comes of it has been taken."""
        early = self.stages[0].engine.held if len(self.stages) == 1 else 0  # only a manager alone can be ordered
        return self._max_in_flight - self.load.held - early - len(self.outcomes)

    def wants(self, stage: Stage) -> int:
        """How many tasks to pull for *stage* now; 0 while outcomes wait for the consumer.

        Where all stages are serial, what has been taken goes through all of them first.
        """
        if self.ending is not None or self.outcomes or not stage.begun or (self._serial and self.inbox):
            return 0
        room = self.room()
        return max(0, min(room, stage.appetite(room)))

    def take(self, stage: Stage, tasks: Sequence[Any]) -> None:
        """Take in *tasks* that were pulled for *stage*, and hand them on to its executor."""
        now = monotonic()
        admit(stage, tasks, now)
        self.load.stirred.add(stage.place)
        stage.fill(now)
        stage.flush(now)
        self._ask_stop(stage)

    def keep(self, stage: Stage, tasks: Sequence[Any]) -> None:
        """Count *tasks* that were pulled at the very moment at which the run was interrupted: none of them begins."""
        admit(stage, tasks, monotonic())

    def collect(self, now: float) -> None:
        """Take in all that was delivered."""
        inbox, pending = self.inbox, self._parts
        if not inbox and not pending:
            return
        touched: dict[int, Stage] = {}
        try:
            while True:
                while pending:
                    stage, part = pending.popleft()
                    touched[stage.place] = stage
                    self.load.stirred.add(stage.place)
                    settle(stage, part, now)
                    self._ask_stop(stage)
                if not inbox:
                    break
                stage, delivery = inbox.popleft()
                pending.extend((stage, part) for part in parts_of(stage.info.mode, delivery))
        except BaseException:
            for stage in touched.values():
                if stage.rest is not None:
                    pending.appendleft((stage, stage.rest))
                    stage.rest = None
            raise
        finally:
            for stage in touched.values():
                stage.flush(now)
        for stage in touched.values():
            if stage.fatal is not None and self.ending is None:
                if len(self.stages) > 1:
                    stage.fatal.add_note(f"This was in stage {stage.name!r}.")
                self.end(Ending(reason=_reason(stage.fatal), grace=self._grace, error=stage.fatal))

    def _ask_stop(self, stage: Stage) -> None:
        """End the run if a rule says so: that of *stage*, where something has just settled, or that of the run."""
        if self.ending is not None:
            return
        if stage.stop is not None:
            engine = stage.engine
            where = "" if len(self.stages) == 1 else f" in stage {stage.name!r}"
            self._apply(stage.stop, engine.succeeded, engine.failed, engine.failed_in_a_row, where)
        if self._stop is not None and self.ending is None:
            succeeded = failed = 0
            for each in self.stages:
                succeeded += each.engine.succeeded
                failed += each.engine.failed
            (succeeded_before, failed_before), self._before = self._before, (succeeded, failed)
            if succeeded > succeeded_before:
                self._failed_in_a_row = stage.engine.failed_in_a_row
            else:
                self._failed_in_a_row += failed - failed_before
            self._apply(self._stop, succeeded, failed, self._failed_in_a_row, "")

    def _apply(self, stop: Stop, succeeded: int, failed: int, failed_in_a_row: int, where: str) -> None:
        grace = FOREVER if stop.when == "soon" else 0.0
        rule = stop.broken_by(succeeded, failed, failed_in_a_row)
        if rule is not None:
            self.end(Ending(reason=rule + where, grace=grace, error=TooManyErrors(rule + where)))
        elif (rule := stop.satisfied_by(succeeded)) is not None:
            self.end(Ending(reason=rule + where, grace=grace))

    @contextmanager
    def blaming(self, stage: Stage) -> Iterator[None]:
        """Where there are several stages, a note on an error that comes up inside says which one it was."""
        try:
            yield
        except Exception as error:
            if len(self.stages) > 1:
                error.add_note(f"This was in stage {stage.name!r}.")
            raise

    # ------------------------------------------------------------------ the end

    def end(self, ending: Ending) -> None:
        """Take nothing new, and cancel what has not started. The first ending counts."""
        if self.ending is None:
            self.ending = ending
        now = monotonic()
        for stage in self.stages:
            stage.retrying = False
            stage.outlet.close()
            stage.cancel(now, running=False)

    def interrupted(self, error: BaseException) -> None:
        """End because of *error*, which came up in the user's code or from outside, and is raised in the end."""
        self.end(Ending(reason=_reason(error), grace=self._grace, error=error))

    def drop(self) -> None:
        """Nobody will consume what comes: settle all that is left as cancelled, and tell nobody."""
        self.ending = self.ending or Ending(reason="The stream was dropped.", grace=0.0)
        for stage in self.stages:
            stage.outlet.close()
            stage.cancel(monotonic(), running=True)

    def settle_rest(self) -> BaseException | None:
        """The executors have stopped: take in what they delivered last, and cancel what they never will.

        Returns:
            What a hook let out meanwhile (KeyboardInterrupt), once everything is settled; or None.
        """
        raised: BaseException | None = None
        for stage in self.stages:
            stage.retrying = False
        while self.inbox or self._parts:
            try:
                self.collect(monotonic())
            except BaseException as error:
                raised = raised or error
        for stage in self.stages:
            stage.outlet.close()
            stage.cancel(monotonic(), running=True)
            while True:
                try:
                    stage.flush(monotonic())
                    break
                except BaseException as error:
                    raised = raised or error
        while self.storage is not None and self.storage.waiting:
            try:
                self.storage.flush()
            except BaseException as error:
                raised = raised or error
        if not self.exit.wants_outcomes:
            self.clear_frames()
        return raised

    def clear_frames(self) -> None:
        """Let go of the local variables of frames in which errors were raised, once everybody has seen the error."""
        for stage in self.stages:
            stage.clear_frames()


def _reason(error: BaseException) -> str:
    text = str(error).strip().split("\n", 1)[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
