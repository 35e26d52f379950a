"""One call after the other, in the caller's thread.

Calls run inside ``submit``. How many it asks for at a time follows how fast they are: one while each takes longer than
the budget, so that every outcome is seen at once, hundreds where they take a microsecond. A batch that turns slow is
broken off at the budget; the rest runs when the driver comes back with ``submit(())``.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Any

from celestialflow_core._call import Call, Calls, Result, Spread, Successes
from celestialflow_core.executors.frames import without_first_frame
from celestialflow_core.executors.interface import CURRENT_WORKER, Deliver, Work, Worker
from celestialflow_core.executors.setup import Setup

__all__ = ["SerialExecutor"]

BUDGET = 0.005  # seconds between two looks of the driver at what has settled
MOST = 1024  # calls a batch


class SerialExecutor:
    """Runs each call in the thread that submits it.

    Args:
        worker_limit: Accepted for the sake of uniformity; one worker keeps any limit.
    """

    capabilities = frozenset({"setup", "inline"})

    def __init__(self, worker_limit: int | None = None) -> None:
        self.slots = 1
        self.worker_limit = None
        self._worker = Worker(0)
        self._left: tuple[Sequence[int], Sequence[Any]] = ((), ())
        self._setup: Setup | None = None
        self._work: Work | None = None
        self._deliver: Deliver | None = None

    def start(self, work: Work, deliver: Deliver) -> None:
        """Run ``worker_setup``, in the caller's thread."""
        self._work, self._deliver = work, deliver
        setup = Setup(work.setup, self._worker, work.context.copy())
        setup.enter()
        self._setup = setup

    def submit(self, calls: Sequence[Call]) -> None:
        """Run *calls* until the budget is used up; what is left runs at the next ``submit``."""
        assert self._work is not None
        batch = Calls.of(calls)
        ids, args = self._left
        if ids:
            ids, args = [*ids, *batch.ids], [*args, *batch.arguments()]
        else:
            ids, args = batch.ids, batch.arguments()
        if not ids:
            return
        self._left = ((), ())
        token = CURRENT_WORKER.set(self._worker)
        values: list[Any] = []
        seconds: list[float] = []
        errors: dict[int, BaseException] = {}
        try:
            run_calls(self._work.func, args, values, seconds, errors, BUDGET)
        finally:
            # Also when KeyboardInterrupt comes out: what ran is delivered, the interrupted call is left over.
            CURRENT_WORKER.reset(token)
            done = min(len(values), len(seconds))
            self._left = (ids[done:], args[done:])
            self._hand_over(ids, values, seconds, errors, done)
        self.slots = min(2 * self.slots, MOST) if done == len(ids) else max(1, done)

    def _hand_over(
        self,
        ids: Sequence[int],
        values: list[Any],
        seconds: list[float],
        errors: dict[int, BaseException],
        done: int,
    ) -> None:
        assert self._deliver is not None
        begin = 0
        for at, error in errors.items():
            if at >= done:
                break
            if begin < at:
                self._deliver(Successes(ids[begin:at], values[begin:at], seconds[begin:at], [0] * (at - begin)))
            self._deliver([Result(ids[at], None, error, seconds[at], 0)])
            begin = at + 1
        if begin < done:
            self._deliver(Successes(ids[begin:done], values[begin:done], seconds[begin:done], [0] * (done - begin)))

    def stop(self, grace: float) -> None:
        """Drop what is left and run the tear-down of the set-up."""
        self._left = ((), ())
        setup, self._setup = self._setup, None
        if setup is not None:
            setup.leave()


def run_calls(
    func: Any,
    arguments: Sequence[Any],
    values: list[Any],
    seconds: list[float],
    errors: dict[int, BaseException],
    budget: float,
) -> None:
    """Call *func* with each of *arguments*, noting values, durations and errors, until *budget* seconds are over.

    The driver lets a Ctrl-C through while this function is the innermost of ours: it holds the user's function. One
    reading of the clock a call is enough, since one ends where the next begins.
    """
    clock = perf_counter
    note, time = values.append, seconds.append
    before = clock()
    deadline = before + budget
    for argument in arguments:
        try:
            value = func(*argument) if type(argument) is Spread else func(argument)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            errors[len(values)] = without_first_frame(error)
            value = None
        now = clock()
        note(value)
        time(now - before)
        before = now
        if now > deadline:
            return
