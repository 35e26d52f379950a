"""A Dask cluster as a `ClusterExecutor` sees it.

    open     a client of our own; a roster of the workers
    enlist   a task pinned to the worker, whose result, a seat with the station in it, stays in the worker's memory
    send     operator.call(seat, parcel), pinned to the same worker, which Dask runs after the seat is there
    left     the worker's batches end, and are cancelled, so that Dask runs them nowhere else

To scheduler and workers all of this is `pickle.loads` and `operator.call` with bytes: nothing of ours has to be
installed there, and nothing of the user's is unpickled anywhere but in the worker.
"""

from __future__ import annotations

import asyncio
import operator
import pickle
import sys
import threading
import warnings
from collections.abc import Callable, Hashable, Mapping
from itertools import count
from typing import Any
from uuid import uuid4

import cloudpickle
import dask.config
from distributed import Future

import celestialflow_dask._seat as seat
from celestialflow_core.errors import CelestialFlowError
from celestialflow_core.executors import WorkerLeft
from celestialflow_dask._connection import Connection
from celestialflow_dask._desk import Desk, Done, Flight, WorkerLost
from celestialflow_dask._options import Options
from celestialflow_dask._recruiting import Recruiting
from celestialflow_dask._roster import Roster, WorkerId

__all__ = ["ConnectionLost", "DaskCluster"]

# For Dask's own pickling too, which goes by this.
cloudpickle.register_pickle_by_value(seat)

LARGE = 1 << 20
"""Bytes from which Dask may warn that a task is large; what it advises then is not for those who send calls."""
_SETTINGS = threading.Lock()


class ConnectionLost(CelestialFlowError, ConnectionError):
    """The scheduler has gone away in the middle of a run, which ends by this."""


class DaskCluster:
    """Implements `celestialflow_core.executors.cluster.Cluster`.

    Args:
        options: Which cluster, and how much of it.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._connection: Connection | None = None

    def open(self, station: bytes, changed: Callable[[], None], *, kills: bool) -> None:
        """Connect, and see who is there.

        Raises:
            WorkerSetupError: Nobody answers, or the cluster on this machine does not start.
            ValueError: Calls have a time limit, and there are workers that cannot be ended; or the client is unusable.
        """
        connection = Connection(self._options)
        try:
            self._begin(connection.client, station, changed, kills)
        except BaseException:
            connection.close(0)
            raise
        self._connection = connection

    def _begin(self, client: Any, station: bytes, changed: Callable[[], None], kills: bool) -> None:
        self._client = client
        self._station = station
        self._changed = changed
        self._desks: dict[WorkerId, Desk] = {}
        self._gone: ConnectionLost | None = None
        self._name = f"celestialflow-{uuid4().hex}"
        self._numbers = count()
        limit, resources = self._options.worker_limit, self._options.resources
        self._roster = Roster(client, resources, limit, kills, changed, self._left, self._lost)
        self._recruiting = Recruiting(client, limit)
        client.sync(self._roster.look)
        if self._roster.unfit:
            raise ValueError(
                f"task_timeout does not work with the Dask worker at {self._roster.unfit[0]}: to end a stuck call its "
                f"process is ended, so it needs a nanny, and no more than one thread (dask worker --nthreads 1). Start "
                f"workers so, or leave task_timeout out."
            )
        if self._roster.lacking:
            warnings.warn(
                f"No Dask worker has the resources {dict(resources or {})} yet; tasks wait for one that has "
                f"(dask worker --resources).",
                stacklevel=2,
            )
        self._watching = asyncio.run_coroutine_threadsafe(self._roster.watch(), client.loop.asyncio_loop)

    def workers(self) -> Mapping[Hashable, int]:
        """The workers that may be used.

        Raises:
            ConnectionLost: The scheduler has gone away.
        """
        if self._gone is not None:
            raise self._gone
        return {worker: member.places for worker, member in self._roster.members.items()}

    def enlist(self, worker: WorkerId, index: int) -> None:
        """Have a seat taken at *worker*."""
        name = f"{self._name}-seat-{next(self._numbers)}"
        taking = cloudpickle.dumps(seat.Taking(name, self._station, index, worker[1]))
        self._desks[worker] = desk = Desk(self._submit(name, worker, pickle.loads, taking, size=len(taking)))
        if worker not in self._roster.members:
            desk.close(_left(worker, False))

    def send(self, worker: WorkerId, parcel: bytes, done: Done) -> None:
        """Run *parcel* in the seat at *worker*."""
        self._call(worker, parcel, done, self._options.resources)

    def dismiss(self, worker: WorkerId, done: Done) -> None:
        """Run the tear-down in the seat at *worker*."""
        self._call(worker, b"", done, None)

    def recall(self, worker: WorkerId) -> None:
        """Cancel what has not begun: a worker begins in the order of sending, so that is all but the first few."""
        desk = self._desks.get(worker)
        member = self._roster.members.get(worker)
        if desk is None or member is None:
            return
        waiting = list(desk.flights.values())[member.places :]
        for flight in waiting:
            desk.end(flight, asyncio.CancelledError("It had not begun when the run was stopped."))
        self._cancel([flight.future for flight in waiting])

    def kill(self, worker: WorkerId) -> None:
        """Have the nanny end the process of *worker*, and with it only a call of ours; else leave it as it is."""
        member = self._roster.members.get(worker)
        if member is not None and member.killable:
            self._client.loop.add_callback(self._kill, worker[0])

    def want(self, calls: int) -> None:
        """Ask for workers while calls wait."""
        self._recruiting.want(calls, sum(member.places for member in self._roster.members.values()))

    def close(self, grace: float) -> None:
        """Cancel what is in flight and disconnect; end the cluster if it is ours."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        self._watching.cancel()
        for desk in list(self._desks.values()):
            desk.close(_left(("", ""), True))
        self._desks.clear()
        connection.close(grace)

    def _call(self, worker: WorkerId, parcel: bytes, done: Done, resources: Mapping[str, float] | None) -> None:
        desk = self._desks[worker]
        key = f"{self._name}-{next(self._numbers)}"
        future = self._submit(key, worker, operator.call, desk.seat, parcel, resources=resources, size=len(parcel))
        flight = Flight(future, done)
        desk.add(flight)
        self._client.loop.add_callback(self._collect, desk, flight)

    def _submit(
        self,
        key: str,
        worker: WorkerId,
        func: Callable[..., Any],
        *args: Any,
        size: int,
        resources: Mapping[str, float] | None = None,
    ) -> Future:
        """A task for one worker; no other may take it, also when that one dies."""
        options: dict[str, Any] = {"key": key, "workers": [worker[0]], "allow_other_workers": False, "pure": False}
        if resources is not None:
            options["resources"] = dict(resources)
        # Without fifo_timeout=0 tasks that come within a tenth of a second are of one age, and begin in any order.
        if size < LARGE:
            return self._client.submit(func, *args, **options, fifo_timeout=0)
        with _SETTINGS, dask.config.set({"distributed.admin.large-graph-warning-threshold": sys.maxsize}):
            return self._client.submit(func, *args, **options, fifo_timeout=0)

    # -- in the client's loop

    async def _collect(self, desk: Desk, flight: Flight) -> None:
        """Wait for what comes of a batch."""
        try:
            answer = await self._client.gather(flight.future, asynchronous=True)
        except (Exception, asyncio.CancelledError) as error:  # whatever Dask says became of it
            if self._client.status != "running":
                self._lost()
            answer = error
        desk.end(flight, answer)

    def _left(self, worker: WorkerId, expected: bool) -> None:
        """A worker has left the cluster, in good order or not."""
        desk = self._desks.pop(worker, None)
        if desk is not None:
            self._cancel(desk.close(_left(worker, expected)))

    def _lost(self) -> None:
        """The scheduler has gone away, and with it all that it knew of this run."""
        if self._gone is not None:
            return
        self._gone = ConnectionLost(
            "The Dask scheduler has gone away in the middle of the run. Tasks whose results had not come back by then "
            "have none; start the run again when the cluster is back."
        )
        # First this, so that the batches are not held to have ended their workers.
        self._changed()
        for desk in list(self._desks.values()):
            desk.close(self._gone)

    async def _kill(self, address: str) -> None:
        try:
            await self._client.run(seat.end_worker, workers=[address], nanny=True, on_error="ignore", asynchronous=True)
        except OSError:  # it has ended by itself, or the scheduler has gone away, which is seen elsewhere
            pass

    def _cancel(self, futures: list[Future]) -> None:
        if futures and self._gone is None:
            self._client.loop.add_callback(self._client.cancel, futures, asynchronous=True, force=True)


def _left(worker: WorkerId, expected: bool) -> ConnectionError:
    if expected:
        return WorkerLeft(f"The Dask worker at {worker[0]} has left the cluster as it was told to.")
    return WorkerLost(f"The Dask worker at {worker[0]} has left the cluster.")
