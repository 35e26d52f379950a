"""The batches that are with a pool: each is one future, and ends exactly once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor as Pool
from concurrent.futures import Future
from contextvars import Context
from time import perf_counter

import celestialflow_core.executors.worker as stub
from celestialflow_core._call import Calls
from celestialflow_core.executors._pools import ask_to_cancel

__all__ = ["Batch", "Flight"]

# A batch hands back what it has not begun after this long, so that calls that turn slow spread over the workers.
BUDGET = 0.25


class Batch:
    """Calls that travel together.

    Attributes:
        calls: The calls; none in a batch that only shows whether a worker can start.
        reruns: How often they had been started before.
        alone: Sent by the inquiry, which judges the failure itself.
        sent: When.
        failure: What the pool said, if the batch as a whole came to nothing.
        refused: It has surely not been started: the pool did not take it, or cancelled it.
        claimed: Somebody is dealing with its end.
        done: And has dealt with it.
        shipment: What was sent.
    """

    __slots__ = ("alone", "calls", "claimed", "done", "failure", "refused", "reruns", "sent", "shipment")

    def __init__(self, calls: Calls, reruns: int = 0, alone: bool = False) -> None:
        self.calls = calls
        self.reruns = reruns
        self.alone = alone
        self.sent = perf_counter()
        self.failure: BaseException | None = None
        self.refused = False
        self.claimed = False
        self.done = False
        self.shipment: stub.Shipment | None = None

    def empty(self) -> None:
        """Take the calls out of what was sent; a batch that has begun, or has left this process, is not changed."""
        if self.shipment is not None:
            self.shipment.args = ()


class Flight:
    """Sends batches, and calls *arrived* or *failed* once for each, in whatever thread the pool uses for that.

    A batch stays in flight until that call has returned, so that whoever has seen `wait_empty` has seen all results.

    Args:
        arrived: Takes a batch and what the stub made of it.
        failed: Takes a batch whose ``failure`` is set.
    """

    def __init__(
        self, arrived: Callable[[Batch, stub.Returned], None], failed: Callable[[Batch, BaseException], None]
    ) -> None:
        self._arrived = arrived
        self._failed = failed
        self._batches: dict[Future[stub.Returned], Batch] = {}
        self.changed = threading.Condition(threading.RLock())
        """Held to read or change what is in flight and what waits; notified at each end of a batch, and by `stop`."""
        self.stopping = False

    def launch(self, pool: Pool | None, function: stub.FunctionRef, batch: Batch, context: Context) -> None:
        """Send *batch* to *pool*; a refusal is its failure."""
        batch.shipment = shipment = stub.Shipment(batch.calls.ids, batch.calls.args, context)
        try:
            if pool is None:
                raise RuntimeError("the pool is closed")
            future = pool.submit(stub.run_batch, function, shipment, BUDGET)
        except Exception as error:  # a pool's refusal; what it raises is its own affair
            batch.refused = True
            self._conclude(None, batch, error)
            return
        with self.changed:
            self._batches[future] = batch
            stopping = self.stopping
        future.add_done_callback(self._done)
        if stopping:
            ask_to_cancel(future)
            batch.empty()

    def _done(self, future: Future[stub.Returned]) -> None:
        with self.changed:
            batch = self._batches.get(future)
            if batch is None or batch.claimed:
                return
            batch.claimed = True
        if future.cancelled():
            batch.refused = True
            self._conclude(future, batch, RuntimeError("the pool cancelled it"))
        else:
            self._conclude(future, batch, future.exception())

    def _conclude(self, future: Future[stub.Returned] | None, batch: Batch, error: BaseException | None) -> None:
        batch.failure = error
        try:
            if error is not None:
                self._failed(batch, error)
            elif future is not None:
                self._arrived(batch, future.result())
        finally:
            with self.changed:
                if future is not None:
                    self._batches.pop(future, None)
                batch.done = True
                self.changed.notify_all()

    def wait_for(self, condition: Callable[[], bool], seconds: float | None = None) -> bool:
        """Wait until *condition* holds, the flight stops, or *seconds* are over; whether it holds."""
        with self.changed:
            self.changed.wait_for(lambda: self.stopping or condition(), seconds)
            return condition()

    def wait_empty(self, seconds: float) -> bool:
        """Whether all has ended, also while stopping, within *seconds*."""
        with self.changed:
            return self.changed.wait_for(lambda: not self._batches, max(0.0, seconds))

    def is_empty(self) -> bool:
        """Whether nothing is in flight."""
        return not self._batches

    def forget(self) -> list[Batch]:
        """Give up on all that is in flight: its end will not be heard."""
        with self.changed:
            lost = [batch for batch in self._batches.values() if not batch.claimed]
            for batch in lost:
                batch.claimed = True
            self._batches.clear()
        return lost

    def empty(self) -> None:
        """See to it that no batch which still lies in this process runs a call, also where it cannot be cancelled."""
        with self.changed:
            for batch in self._batches.values():
                batch.empty()

    def cancel(self) -> None:
        """Ask the pool to cancel all that it has not started."""
        with self.changed:
            futures = list(self._batches)
        for future in futures:
            ask_to_cancel(future)

    def close(self) -> bool:
        """Begin to stop: all who wait here go home. False if that had been said before."""
        with self.changed:
            if self.stopping:
                return False
            self.stopping = True
            self.changed.notify_all()
        return True
