"""Finds out which call broke a pool, and replaces the pool. Only for pools that are ours, made by a factory.

a batch failed --> wait until the rest of the flight has ended --> while there are suspects:
                                                                      if the pool is broken, make one that works
                                                                      send one suspect alone; who fails is charged
               <-- what was submitted meanwhile is sent
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from concurrent.futures import Executor as Pool

from celestialflow_core._call import Call, Calls, Result
from celestialflow_core.errors import CelestialFlowError, WorkerCrashed, WorkerSetupError
from celestialflow_core.executors._flight import Batch, Flight
from celestialflow_core.executors._pools import Closing, exit_of, processes_of
from celestialflow_core.executors.interface import describe
from celestialflow_core.executors.tracebacks import reason_of

__all__ = ["Inquiry", "made"]

# Pools in a row that break on an empty batch, before their workers are held unable to start.
ATTEMPTS_TO_START = 3
# How long a pool that broke may take to say so to all its futures, and to end.
SETTLING = 10.0


def made(make: Callable[[], Pool]) -> Pool:
    """A pool from the user's function.

    Raises:
        WorkerSetupError: It raised, or gave something else.
    """
    try:
        pool: object = make()
    except Exception as error:  # the user's function
        raise WorkerSetupError(f"The function that makes the pool raised {reason_of(error)}.") from error
    if not isinstance(pool, Pool):
        raise WorkerSetupError(
            f"The function that makes the pool gave {pool!r:.100}, which is no concurrent.futures.Executor."
        )
    return pool


class Inquiry:
    """Keeps a pool that can be made anew.

    Args:
        make: Makes a pool.
        flight: The batches that are with the pool.
        launch: Sends a batch to the present pool.
        send: Takes calls that had to wait, and how often they had been started.
        charge: Delivers the result of a call that was found guilty.
        end: Ends the run.
    """

    def __init__(
        self,
        make: Callable[[], Pool],
        flight: Flight,
        launch: Callable[[Batch], None],
        send: Callable[[Calls, int], None],
        charge: Callable[[list[Result]], None],
        end: Callable[[CelestialFlowError], None],
    ) -> None:
        self._make = make
        self._flight = flight
        self._launch = launch
        self._send = send
        self._charge = charge
        self._end = end
        self._suspects: deque[tuple[Call, int]] = deque()
        self._waiting: deque[tuple[Calls, int]] = deque()
        self._thread: threading.Thread | None = None
        self._broken = False
        self.pool: Pool | None = made(make)
        """The present pool."""

    # -- called by the executor, from any thread ---------------------------------------------------------------------

    def takes(self, calls: Calls, reruns: int) -> bool:
        """Whether *calls* have to wait for the end of an inquiry; then they are kept here."""
        with self._flight.changed:
            if self._thread is None and not self._broken:
                return False
            self._waiting.append((calls, reruns))
            self._begin()
        return True

    def report(self, batch: Batch, error: BaseException) -> None:
        """The pool failed *batch* as a whole. Each of its calls is a suspect, if it can have been started at all."""
        with self._flight.changed:
            if batch.refused:
                self._broken = True
                self._waiting.append((batch.calls, batch.reruns))
            else:
                self._broken = self._broken or isinstance(error, BrokenExecutor)
                self._suspects.extend((call, batch.reruns + 1) for call in batch.calls)
            self._begin()

    def join(self, seconds: float) -> None:
        """Wait for the end of an inquiry that has been told to stop."""
        thread = self._thread
        if thread is not None:
            thread.join(seconds)

    def _begin(self) -> None:
        if self._thread is None and not self._flight.stopping:
            self._thread = threading.Thread(target=self._inquire, name="celestialflow-inquiry", daemon=True)
            self._thread.start()

    # -- the inquiry's own thread ------------------------------------------------------------------------------------

    def _inquire(self) -> None:
        self._settle()
        while True:
            with self._flight.changed:
                if self._flight.stopping:
                    return
                if not self._suspects and not (self._broken and self._waiting):
                    # Said under the lock: from here on calls are sent at once, or begin another inquiry.
                    self._thread = None
                    waiting = list(self._waiting)
                    self._waiting.clear()
                    break
            if self._broken and not self._renew():
                return
            with self._flight.changed:
                suspect = self._suspects.popleft() if self._suspects else None
            if suspect is not None:
                self._try_alone(*suspect)
        for calls, reruns in waiting:
            self._send(calls, reruns)

    def _settle(self) -> None:
        """Wait until nothing is in flight. A broken pool that does not say so in time has lost the rest."""
        self._flight.wait_for(lambda: self._flight.is_empty() or self._broken)
        if self._flight.wait_for(self._flight.is_empty, SETTLING) or self._flight.stopping:
            return
        with self._flight.changed:
            for batch in self._flight.forget():
                self._suspects.extend((call, batch.reruns + 1) for call in batch.calls)

    def _ended(self, batch: Batch) -> bool:
        """Wait for the end of *batch*; False if the executor's came first."""
        return self._flight.wait_for(lambda: batch.done) and not self._flight.stopping

    def _try_alone(self, call: Call, reruns: int) -> None:
        pool = self.pool
        batch = Batch(Calls([call.id], [call.args]), reruns, alone=True)
        self._launch(batch)
        # Noted before they die: a pool that breaks forgets its processes.
        processes = [] if pool is None else processes_of(pool)
        if not self._ended(batch) or batch.failure is None:
            return
        if batch.refused:
            # Not the call's doing: the pool broke in between. Where that goes on, `_renew` ends the run.
            with self._flight.changed:
                self._broken = True
                self._suspects.appendleft((call, reruns))
            return
        exitcode = None
        if isinstance(batch.failure, BrokenExecutor) and pool is not None:
            self._broken = True
            Closing(pool).finish(SETTLING)
            exitcode = exit_of(processes)
        note = f"It was the only call in the pool, which said: {reason_of(batch.failure)}."
        crash = WorkerCrashed(describe(call.args), exitcode=exitcode, note=note)
        crash.__cause__ = batch.failure
        self._charge([Result(call.id, error=crash, reruns=reruns)])

    def _renew(self) -> bool:
        """Make a pool whose workers are seen to start. False: there is none, and the run is over."""
        reason = ""
        for _ in range(ATTEMPTS_TO_START):
            if self.pool is not None:
                Closing(self.pool).finish(SETTLING)
            try:
                pool = made(self._make)
            except WorkerSetupError as error:
                self._end(error)
                return False
            with self._flight.changed:
                stopping = self._flight.stopping
                if not stopping:
                    self.pool = pool
            if stopping:
                # `stop` looks after the pool that it saw; this one is known to nobody else.
                Closing(pool).finish(SETTLING)
                return False
            probe = Batch(Calls([], []), alone=True)
            self._launch(probe)
            if not self._ended(probe):
                return False
            if probe.failure is None:
                self._broken = False
                return True
            reason = reason_of(probe.failure)
        self._end(
            WorkerSetupError(
                f"The pool was made {ATTEMPTS_TO_START} times and broke each time before it had run a call: {reason}. "
                f"See to its initializer, and to what its workers import."
            )
        )
        return False
