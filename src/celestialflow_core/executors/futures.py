"""Runs calls on any ``concurrent.futures.Executor``: a pool of the standard library, loky, MPI, Dask, Parsl.

    submit(calls) --> batches of a few milliseconds --> pool.submit(run_batch, function, shipment)
                                                              |
    deliver(results) <------- add_done_callback, in whatever thread the pool calls it

A batch that fails as a whole names no culprit. What happens then depends on whose the pool is:

 - given as an object, it is the user's. It is never shut down, and what it lost becomes honest errors;
 - made by a factory, it is ours. It is made anew when it breaks, and the suspects run again, one call in flight at a
   time: who fails alone is charged (`_inquiry`). The innocent among them have run up to twice; their results say so.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor as Pool
from functools import partial
from time import monotonic, perf_counter

import celestialflow_core.executors.worker as stub
from celestialflow_core._call import Call, Calls, Delivery, Result
from celestialflow_core.errors import CelestialFlowError, WorkerCrashed
from celestialflow_core.executors._flight import Batch, Flight
from celestialflow_core.executors._inquiry import SETTLING, Inquiry
from celestialflow_core.executors._pace import Pace
from celestialflow_core.executors._pools import Closing, has_processes
from celestialflow_core.executors._verdicts import function_error, function_not_picklable, results_of
from celestialflow_core.executors.interface import Deliver, Work, describe
from celestialflow_core.executors.tracebacks import reason_of

__all__ = ["FuturesExecutor"]

ADVICE = (
    "The pool was given as an object, so it cannot be replaced; give a function that makes the pool, and one that "
    "breaks is made anew and its calls are run again."
)


class FuturesExecutor:
    """An executor over a pool.

    Args:
        pool: A pool, which is used and never shut down; or a function that makes one, which is called at the start
            and after each break, and whose pools are shut down.
        worker_limit: How many workers the pool has, where it cannot be seen. Two batches are kept with each.
    """

    capabilities: frozenset[str] = frozenset()

    def __init__(self, pool: Pool | Callable[[], Pool], worker_limit: int | None = None) -> None:
        if not isinstance(pool, Pool) and not callable(pool):
            raise TypeError(
                f"pool must be a concurrent.futures.Executor or a function that makes one, got {pool!r:.100}."
            )
        if worker_limit is not None and (not isinstance(worker_limit, int) or worker_limit < 1):
            raise ValueError(
                f"worker_limit must be a positive int or None, got {worker_limit!r:.100}. None asks the pool."
            )
        self._given = pool if isinstance(pool, Pool) else None
        self._make = None if isinstance(pool, Pool) else pool
        self._limit = worker_limit
        # Held while results are delivered and while the executor closes, so that nothing is delivered afterwards.
        self._gate = threading.RLock()
        self._deliver: Deliver | None = None
        self._work = Work(describe)
        self._function = stub.FunctionRef(describe)
        self._flight = self._new_flight()
        self._inquiry: Inquiry | None = None
        self._closing: Closing | None = None
        self._pace = Pace(worker_limit or 1)
        self.slots = self._pace.slots

    # -- the verbs ---------------------------------------------------------------------------------------------------

    def start(self, work: Work, deliver: Deliver) -> None:
        """Make the pool, if it is ours. No worker is waited for.

        Raises:
            WorkerSetupError: The function that makes the pool gave none.
            NotPicklable: The function cannot go to the pool's processes.
        """
        self._work = work
        self._function = stub.FunctionRef(work.func)
        self._flight = flight = self._new_flight()
        self._closing = None
        if self._make is not None:
            launch, send, hand_over, end = (
                partial(verb, flight) for verb in (self._launch, self._send, self._hand_over, self._end)
            )
            self._inquiry = Inquiry(self._make, flight, launch, send, hand_over, end)
        pool = self._pool()
        if pool is not None and has_processes(pool):
            try:
                self._function.pack()
            except Exception as error:  # raised by pickling the user's objects
                if self._make is not None:
                    Closing(pool).finish(SETTLING)
                raise function_not_picklable(reason_of(error)) from error
        self._pace = Pace(self._limit or getattr(pool, "_max_workers", None) or os.cpu_count() or 1)
        self.slots = self._pace.slots
        self._deliver = deliver

    def submit(self, calls: Sequence[Call]) -> None:
        """Send *calls* to the pool in batches. What the pool refuses is delivered as errors, never raised."""
        self._split(self._flight, Calls.of(calls), 0)

    def stop(self, grace: float) -> None:
        """Cancel what waits, give what runs *grace* seconds, and end a pool of our own with all its processes.

        A call that runs on a thread, or in a pool of the user's, cannot be ended: its result is dropped.
        """
        if self._deliver is None:
            return
        deadline = monotonic() + max(0.0, grace)
        self._flight.close()
        pool = self._pool()
        if self._closing is None and self._inquiry is not None and pool is not None:
            self._closing = Closing(pool, idle=self._flight.is_empty())
        self._flight.empty()
        closing = self._closing
        if closing is None or not closing.cancels:
            self._flight.cancel()
        ended = self._flight.wait_empty(deadline - monotonic())
        if closing is not None:
            if not ended:
                closing.kill()
            # Threads cannot be killed: there is no use in waiting for one that runs a call.
            closing.finish(5.0 if ended or closing.can_kill else 0.0)
        if self._inquiry is not None:
            self._inquiry.join(SETTLING)
        with self._gate:
            self._deliver = None
        self._flight.forget()  # what runs on is nobody's any more, and must not be heard by a run that starts next
        # A pool that is shut down closes its pipes when nobody refers to it any more.
        self._inquiry = self._closing = None

    # -- sending -----------------------------------------------------------------------------------------------------
    # Everything from here on is said of one flight, so that what a batch does that ends late, after a stop and another
    # start, is still said of its own.

    def _new_flight(self) -> Flight:
        def arrived(batch: Batch, returned: stub.Returned) -> None:
            self._arrived(flight, batch, returned)

        def failed(batch: Batch, error: BaseException) -> None:
            self._failed(flight, batch, error)

        flight = Flight(arrived, failed)
        return flight

    def _pool(self) -> Pool | None:
        return self._given if self._inquiry is None else self._inquiry.pool

    def _split(self, flight: Flight, calls: Calls, reruns: int) -> None:
        size = self._pace.size
        for begin in range(0, len(calls), size):
            self._send(flight, calls[begin : begin + size], reruns)

    def _send(self, flight: Flight, calls: Calls, reruns: int) -> None:
        if flight.stopping or (self._inquiry is not None and self._inquiry.takes(calls, reruns)):
            return
        self._launch(flight, Batch(calls, reruns))

    def _launch(self, flight: Flight, batch: Batch) -> None:
        flight.launch(self._pool(), self._function, batch, self._work.context)

    # -- receiving: in any thread, also inside of the pool's own -----------------------------------------------------

    def _arrived(self, flight: Flight, batch: Batch, returned: stub.Returned) -> None:
        now = perf_counter()
        if returned.problem is not None:
            self._end(flight, function_error(returned.problem))
            return
        with flight.changed:
            index = self._pace.learn(returned, batch.sent, now)
            self.slots = self._pace.slots
        returned.unpack()
        results = results_of(returned, batch.calls, index, batch.reruns)
        if results:
            self._hand_over(flight, results)
        if returned.unstarted:
            # The batch stopped at its budget, so these are its last calls.
            self._split(flight, batch.calls[len(batch.calls) - len(returned.unstarted) :], batch.reruns)

    def _failed(self, flight: Flight, batch: Batch, error: BaseException) -> None:
        if batch.alone or flight.stopping:
            return
        if self._inquiry is not None:
            self._inquiry.report(batch, error)
            return
        results = []
        for call in batch.calls:
            honest: CelestialFlowError
            if batch.refused:
                honest = CelestialFlowError(f"The pool did not run {describe(call.args)}: {reason_of(error)}. {ADVICE}")
            else:
                named = describe(call.args) if len(batch.calls) == 1 else None
                honest = WorkerCrashed(named, note=f"The pool said: {reason_of(error)}. {ADVICE}")
            honest.__cause__ = error
            results.append(Result(call.id, error=honest, reruns=batch.reruns))
        self._hand_over(flight, results)

    def _hand_over(self, flight: Flight, results: Delivery) -> None:
        with self._gate:
            if self._deliver is not None and flight is self._flight:
                self._deliver(results)

    def _end(self, flight: Flight, error: CelestialFlowError) -> None:
        """End the run, since no call of it can be run. Said once."""
        if flight.close():
            self._hand_over(flight, [Result(-1, error=error)])
