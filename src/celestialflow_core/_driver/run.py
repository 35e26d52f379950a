"""A run: from the first task pulled to the last outcome handed over, and every way in which it can end.

`Run` has no loop and never waits, so that one body serves the synchronous and the asynchronous shell. A shell calls
``advance`` until it says ``finished``, waits as long as it is told to, and then calls ``close``::

    advance: take in what was delivered -> wake retries -> fill the executor -> pull a task -> fill
                                                                  |
                    outcomes that wait for the consumer come first, before the iterable is pulled

The end. ``end`` closes the source and cancels what has not started; the executor is then stopped beside the driver,
which goes on taking in results until the executor has nothing left; what is still out after that is cancelled, and
only then is anything raised. All endings are this one, with another grace.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from time import monotonic
from typing import Any

import attrs

from celestialflow_core._call import Delivery, Result, Successes, parts
from celestialflow_core._driver.stage import Stage
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
    """The body of a run of one stage.

    Args:
        stage: The manager's engine, executor and customs.
        stop: The rule that ends the run early, or None.
        grace: Seconds that running calls have when the run is ended from outside.
    """

    def __init__(self, stage: Stage, stop: Stop | None, grace: float) -> None:
        self.stage = stage
        self.ending: Ending | None = None
        self.open = True
        """True while tasks may be pulled."""
        self._stop = stop
        self._grace = grace
        self.inbox: deque[Delivery] = deque()
        """Where the executor's deliveries arrive; set by the shell."""
        self._parts: deque[Successes | Result] = deque()
        self.began = monotonic()

    # ------------------------------------------------------------------ one round

    def advance(self) -> float | None:
        """Do all that can be done without a new task; gives how long to wait for a delivery after it.

        Returns:
            Seconds: 0 where the shell should come back at once (or hand over outcomes, or pull a task first); None
            where nothing but a delivery can change anything.
        """
        now = monotonic()
        self.collect(now)
        if self.ending is not None:
            return 0.0
        stage = self.stage
        engine = stage.engine
        if engine.waiting:
            engine.wake(now)
        stage.fill(now)
        self._ask_stop()  # get_args may have failed tasks
        if self.ending is not None or self.inbox or stage.outcomes or stage.must_pump:
            return 0.0
        due = engine.next_due()
        return None if due is None else max(0.0, due - now)

    @property
    def finished(self) -> bool:
        """True when nothing is left to do, or the run is to be ended."""
        return self.ending is not None or (not self.open and not self.stage.engine.in_flight)

    def wants(self) -> int:
        """How many tasks to pull now; 0 while outcomes wait for the consumer."""
        return self.stage.wanted() if self.open and self.ending is None and not self.stage.outcomes else 0

    def take(self, tasks: Sequence[Any]) -> None:
        """Take in pulled *tasks* and hand them on to the executor."""
        now = monotonic()
        self.stage.admit(tasks, now)
        self.stage.fill(now)
        self.stage.flush()
        self._ask_stop()

    def keep(self, tasks: Sequence[Any]) -> None:
        """Count *tasks* that were pulled at the very moment at which the run was interrupted: none of them begins."""
        self.stage.admit(tasks, monotonic())

    def collect(self, now: float) -> None:
        """Take in all that was delivered."""
        stage, inbox, pending = self.stage, self.inbox, self._parts
        if not inbox and not pending:
            return
        try:
            while True:
                while pending:
                    stage.settle(pending.popleft(), now)
                    self._ask_stop()
                if not inbox:
                    break
                pending.extend(parts(inbox.popleft()))
        except BaseException:
            if stage.rest is not None:
                pending.appendleft(stage.rest)
                stage.rest = None
            raise
        finally:
            stage.flush()
        if stage.fatal is not None and self.ending is None:
            self.end(Ending(reason=_reason(stage.fatal), grace=self._grace, error=stage.fatal))

    def _ask_stop(self) -> None:
        stop = self._stop
        if stop is None or self.ending is not None:
            return
        engine = self.stage.engine
        grace = FOREVER if stop.when == "soon" else 0.0
        rule = stop.broken_by(engine.succeeded, engine.failed, engine.failed_in_a_row)
        if rule is not None:
            self.end(Ending(reason=rule, grace=grace, error=TooManyErrors(rule)))
        elif (rule := stop.satisfied_by(engine.succeeded)) is not None:
            self.end(Ending(reason=rule, grace=grace))

    # ------------------------------------------------------------------ the end

    def end(self, ending: Ending) -> None:
        """Take nothing new, and cancel what has not started. The first ending counts."""
        if self.ending is None:
            self.ending = ending
        self.open = False
        self.stage.retrying = False
        self.stage.cancel(monotonic(), running=False)

    def interrupted(self, error: BaseException) -> None:
        """End because of *error*, which came up in the user's code or from outside, and is raised in the end."""
        self.end(Ending(reason=_reason(error), grace=self._grace, error=error))

    def drop(self) -> None:
        """Nobody will consume what comes: settle all that is left as cancelled, and tell nobody."""
        self.ending = self.ending or Ending(reason="The stream was dropped.", grace=0.0)
        self.open = False
        self.stage.engine.cancel(monotonic(), running=True)

    def settle_rest(self) -> BaseException | None:
        """The executor has stopped: take in what it delivered last, and cancel what it never will.

        Returns:
            What a hook let out meanwhile (KeyboardInterrupt), once everything is settled; or None.
        """
        self.stage.retrying = False
        raised: BaseException | None = None
        while self.inbox or self._parts:
            try:
                self.collect(monotonic())
            except BaseException as error:
                raised = raised or error
        self.stage.cancel(monotonic(), running=True)
        while True:
            try:
                self.stage.flush()
                break
            except BaseException as error:
                raised = raised or error
        if not self.stage.wants_outcomes:
            self.stage.clear_frames()
        return raised


def _reason(error: BaseException) -> str:
    text = str(error).strip().split("\n", 1)[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
