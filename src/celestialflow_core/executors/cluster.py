"""Runs calls on a cluster: `ClusterExecutor` does all that is the same on every one, a `Cluster` is what differs.

    submit(calls) --> own thread: a post for each worker, batches of a few milliseconds --> cluster.send(worker, bytes)
                                                                                                      |
    deliver(results) <--- own thread: results, suspects, time limits <------ done(bytes or error) <---+
                                                                                 Station.run in the worker

To add a cluster, write a class with the methods of `Cluster`, and a factory that gives ``ClusterExecutor(it)``. The
executor calls it from one thread at a time, so that it needs no lock against us.

What a worker takes along when it dies runs again, one call at a time on a worker of its own: who is lost alone is
charged with `WorkerCrashed`. The innocent have been started up to twice; their results say so.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from time import monotonic
from typing import Any, Protocol

import celestialflow_core.executors.station as station
import celestialflow_core.executors.worker as stub
from celestialflow_core._call import Call, Calls
from celestialflow_core.errors import NotPicklable
from celestialflow_core.executors._crew import WorkerLeft
from celestialflow_core.executors._foreman import Foreman
from celestialflow_core.executors._verdicts import function_not_picklable
from celestialflow_core.executors.interface import Deliver, Work
from celestialflow_core.executors.tracebacks import reason_of

__all__ = ["Cluster", "ClusterExecutor", "WorkerLeft"]


class Cluster(Protocol):
    """What a `ClusterExecutor` needs of a system whose workers are elsewhere. ``open`` and ``close`` are called in the
    thread of whoever starts and stops the run; all others in one thread, that of the executor.
    """

    def open(self, station: bytes, changed: Callable[[], None], *, kills: bool) -> None:
        """Connect to the cluster, or start one. No worker need be there when it returns.

        Args:
            station: ``pickle.loads(station)(index)`` makes a `Station` in a worker, which needs cloudpickle for that.
            changed: To be called, from any thread, when `workers` would answer differently.
            kills: Whether calls have a time limit, so that `kill` must be able to end what is stuck.

        Raises:
            WorkerSetupError: There is no cluster.
            ValueError: It cannot end calls, and should.
        """
        ...

    def workers(self) -> Mapping[Hashable, int]:
        """The workers that are there, and how many calls each may run at a time. A worker that starts again is another.

        Asked about once a second and after ``changed``, so it should know the answer.

        Raises:
            CelestialFlowError: The cluster is gone for good; it ends the run.
        """
        ...

    def enlist(self, worker: Any, index: int) -> None:
        """Have a station made at *worker*, before its first batch. Does not wait for it."""
        ...

    def send(self, worker: Any, parcel: bytes, done: Callable[[bytes | BaseException], None]) -> None:
        """Have ``station.run(parcel)`` called at *worker*, in one of as many threads as it has places. Never
        blocks for long.

        Args:
            worker: Where, and nowhere else.
            parcel: What to run. Parcels begin in the order in which they are sent.
            done: To be called once, from any thread, with what ``run`` gave, or with the error by which the cluster
                says that the worker is gone, or could not; a `WorkerLeft` if it left as it was told to.
        """
        ...

    def recall(self, worker: Any) -> None:
        """Drop what was sent to *worker* and has not begun, where that can be done. Its ``done`` is called."""
        ...

    def dismiss(self, worker: Any, done: Callable[[str | BaseException], None]) -> None:
        """Have ``station.leave()`` called at *worker*, after all that was sent there; ``done`` gets what it gave."""
        ...

    def kill(self, worker: Any) -> None:
        """End the process of *worker* now, also where it is stuck, and without waiting for it.

        At the end of a run it is asked for what does not end by itself; a cluster of the user's may decline that.
        """
        ...

    def want(self, calls: int) -> None:
        """That so many calls wait for a worker, for a cluster that grows when it is asked. About once a second."""
        ...

    def close(self, grace: float) -> None:
        """Leave nothing behind: what is the cluster's own is ended, within about *grace* seconds if it listens; what
        was there before `open` stays as it was.
        """
        ...


class ClusterExecutor:
    """An executor over a cluster.

    Args:
        cluster: The cluster.
        worker_limit: How many workers are expected, for a cluster that has none yet: so many are given work at once.
        wait_for_workers: The seconds for which a run with calls to do goes on without any worker; None: for ever.
    """

    capabilities: frozenset[str] = frozenset({"timeout", "setup"})

    def __init__(
        self, cluster: Cluster, worker_limit: int | None = None, *, wait_for_workers: float | None = 60.0
    ) -> None:
        if wait_for_workers is not None and not (
            isinstance(wait_for_workers, int | float)
            and not isinstance(wait_for_workers, bool)
            and wait_for_workers > 0
        ):
            raise ValueError(
                f"wait_for_workers must be a number of seconds above 0, or None for no limit, got "
                f"{wait_for_workers!r:.100}."
            )
        self._cluster = cluster
        self._expected = worker_limit or 2
        self._patience = wait_for_workers
        self._foreman: Foreman | None = None
        self._closing = threading.Lock()

    @property
    def slots(self) -> int:
        """How many calls it wants in flight: some at each worker, and some that wait here."""
        return self._expected if self._foreman is None else self._foreman.slots

    def start(self, work: Work, deliver: Deliver) -> None:
        """Connect to the cluster. No worker is waited for.

        Raises:
            WorkerSetupError: There is no cluster.
            NotPicklable: The function, or the set-up, cannot be sent to it.
            ValueError: There is a time limit, and the cluster cannot end a call.
        """
        function = stub.FunctionRef(work.func)
        try:
            function.pack()
        except Exception as error:  # raised by pickling the user's objects
            raise function_not_picklable(reason_of(error)) from error
        try:
            packed = station.pack(function, work.setup, work.timeout)
        except Exception as error:  # the same
            advice = "Let it make what it needs itself, in the worker."
            raise NotPicklable("worker_setup", reason_of(error), advice) from error
        foreman = Foreman(self._cluster, work, deliver, self._expected, self._patience)
        self._cluster.open(packed, foreman.look_soon, kills=work.timeout is not None)
        self._foreman = foreman
        foreman.start()

    def submit(self, calls: Sequence[Call]) -> None:
        """Queue *calls*."""
        if self._foreman is not None:
            self._foreman.tell(partial(self._foreman.take, Calls.of(calls)))

    def stop(self, grace: float) -> None:
        """Drop what waits, give what runs *grace* seconds, run the tear-downs, and let go of the cluster."""
        foreman, deadline = self._foreman, monotonic() + max(0.0, grace)
        if foreman is None:
            return
        foreman.stop(deadline)
        with self._closing:
            if self._foreman is foreman:
                self._foreman = None
                self._cluster.close(max(0.0, deadline - monotonic()))
