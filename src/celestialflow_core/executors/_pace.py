"""How large the batches for a pool are, learnt from those that came back."""

from __future__ import annotations

import celestialflow_core.executors.worker as stub
from celestialflow_core.executors.lease import LeaseSizer

__all__ = ["Pace"]

LEASES_PER_WORKER = 2
LARGEST_LEASE = 512
# A trip that seems to take longer was a wait for something else; a lease worth ten of it must stay below the budget.
LONGEST_TRIP = 0.02
WORKERS_KNOWN = 1024


class Pace:
    """Sizes batches, and gives workers their index by order of appearance. The caller holds a lock.

    Args:
        workers: How many workers there are thought to be.
    """

    def __init__(self, workers: int) -> None:
        self._sizer = LeaseSizer(maximum=LARGEST_LEASE)
        self._seen: dict[tuple[str, int, int], tuple[int, float]] = {}
        self._workers = workers

    @property
    def size(self) -> int:
        """How many calls the next batch should have."""
        return self._sizer.size

    @property
    def per_call(self) -> float:
        """How long a call is thought to take, in seconds."""
        return self._sizer.per_call or 0.0

    @property
    def slots(self) -> int:
        """How many calls should be in flight."""
        return self._workers * LEASES_PER_WORKER * self._sizer.size

    def learn(self, returned: stub.Returned, sent: float, now: float) -> int | None:
        """Learn from a batch that was *sent* and has come back *now*; gives the index of its worker.

        None after the first thousand: a pool that makes a process for each call has no workers worth counting.
        """
        calls = len(returned.ids) + len(returned.failures)
        seconds = sum(returned.seconds) + sum(failure[1] for failure in returned.failures)
        index, last = self._seen.get(returned.worker, (None, None))
        # What passed since the worker had this batch and nothing else to do, and was not work. Of a worker's first
        # batch it holds the worker's start, so that one says nothing.
        trip = None if last is None else min(max(0.0, now - max(sent, last) - seconds), LONGEST_TRIP)
        if index is None and len(self._seen) < WORKERS_KNOWN:
            index = len(self._seen)
        if index is not None:
            self._seen[returned.worker] = (index, now)
        self._sizer.observe(calls, seconds, trip)
        return index

    def note_slow(self, seconds: float) -> None:
        """A call runs for *seconds* already, or did."""
        self._sizer.observe(1, seconds)
