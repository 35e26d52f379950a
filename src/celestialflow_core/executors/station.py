"""What a worker of a cluster holds for one run: the function, the set-up and the time limit.

    pack(work) --> bytes --> pickle.loads(bytes)(index) --> a Station in the worker
                                                              run(parcel) -> bytes     a batch, in any thread
                                                              leave() -> str           the tear-down

Nothing but bytes goes either way, so that the cluster's own pickling can neither fail on a value nor see one. Pickled
by value, a station needs cloudpickle alone where it arrives.

With a time limit the calls run in a thread of the station's own, and the thread that was given the batch looks on: a
batch whose call is stuck comes back at once, with all that had finished. The worker has to be ended then.
"""

from __future__ import annotations

import pickle
import sys
import threading
from collections.abc import Callable, Sequence
from contextvars import Context
from functools import partial
from queue import Empty, SimpleQueue
from time import perf_counter
from traceback import format_stack
from types import GeneratorType
from typing import Any

import cloudpickle

from celestialflow_core.executors._packing import dump, load
from celestialflow_core.executors.tracebacks import reason_of, traceback_text
from celestialflow_core.executors.worker import (
    TIMED_OUT,
    FunctionRef,
    Problem,
    Returned,
    Shipment,
    Watch,
    arrived,
    here,
    own_modules,
    run_batch,
)

__all__ = ["Station", "pack", "parcel", "unpack"]

_REGISTRY = threading.Lock()


def pack(function: FunctionRef, setup: Callable[[], Any] | None, limit: float | None) -> bytes:
    """A station for *function*, to be unpickled in each worker and called with the worker's index.

    Args:
        function: The function.
        setup: Run before the first call in each place of a worker, or None.
        limit: The seconds that a call may run, or None.

    Raises:
        Exception: What the pickling of the function or of the set-up raises.
    """
    blob = function.pack()
    make = partial(Station, function.digest, blob, None if setup is None else dump(setup), limit)
    modules = (*own_modules(), sys.modules[__name__])
    with _REGISTRY:
        known = cloudpickle.list_registry_pickle_by_value()
        for module in modules:
            cloudpickle.register_pickle_by_value(module)
        try:
            return dump(make)
        finally:
            for module in modules:
                if module.__name__ not in known:
                    cloudpickle.unregister_pickle_by_value(module)


def parcel(ids: Sequence[int], frames: Sequence[Any], budget: float) -> bytes:
    """A batch for `Station.run`.

    Args:
        ids: The calls' ids.
        frames: Their arguments, each as `worker.freeze` gives them.
        budget: After so many seconds the calls that have not begun are handed back.
    """
    return pickle.dumps((ids, frames, budget))


def unpack(data: bytes) -> Returned:
    """What `Station.run` gave; its values are unpickled."""
    returned = arrived(*pickle.loads(data))
    returned.unpack()
    return returned


class Station:
    """One run in one worker.

    Args:
        digest, function: The function, pickled.
        setup: The set-up, pickled.
        limit: The seconds that a call may run.
        index: The worker's; of a worker that runs several calls at a time, that of its first place.
    """

    def __init__(self, digest: str, function: bytes, setup: bytes | None, limit: float | None, index: int) -> None:
        self._function = FunctionRef.arrived(digest, function)
        self._setup = setup
        self._limit = limit
        self._index = index
        self._places: dict[int, _Place] = {}
        self._lock = threading.Lock()

    def run(self, data: bytes) -> bytes:
        """Run a `parcel`, and give what came of it, for `unpack`. Never raises; may be called by several threads."""
        ids, frames, budget = pickle.loads(data)
        place = self._place()
        shipment = Shipment(ids, frames)
        if self._limit is None:
            returned = place.run(shipment, budget, Watch(Returned(here())))
        else:
            returned = place.run_watched(shipment, budget, self._limit)
        return pickle.dumps(returned.columns())

    def leave(self) -> str:
        """Run the tear-down; gives the tracebacks of what went wrong there, or an empty text."""
        with self._lock:
            places = list(self._places.values())
            self._places.clear()
        return "\n".join(filter(None, (place.leave() for place in places)))

    def _place(self) -> _Place:
        thread = threading.get_ident()
        with self._lock:
            place = self._places.get(thread)
            if place is None:
                place = self._places[thread] = _Place(self._function, self._setup, self._index + len(self._places))
            return place


class _Place:
    """Where calls run one at a time, in a context of its own; set up before the first."""

    def __init__(self, function: FunctionRef, setup: bytes | None, index: int) -> None:
        self._function = function
        self._setup = setup
        self._index = index
        self._context = Context()
        self._problem: Problem | None = None
        self._entered = False
        self._rest: Any = None
        self._stuck = False
        self._jobs: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._ended: SimpleQueue[Any] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def run(self, shipment: Shipment, budget: float, watch: Watch) -> Returned:
        """Run a batch in the calling thread."""
        if not self._entered:
            self._entered = True
            self._enter()
        if self._problem is not None:
            watch.returned.problem = self._problem
            return watch.returned
        shipment.context = self._context
        return run_batch(self._function, shipment, budget, watch)

    def run_watched(self, shipment: Shipment, budget: float, limit: float) -> Returned:
        """Run a batch in a thread of the place's own; give up on it when a call has run for *limit* seconds."""
        watch = Watch(Returned(here()))
        if self._stuck:
            watch.returned.unstarted = list(shipment.ids)
            return watch.returned
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="celestialflow-calls", daemon=True)
            self._thread.start()
        self._jobs.put(partial(self.run, shipment, budget, watch))
        while True:
            position, since = watch.position, watch.since
            left = limit - (perf_counter() - since) if since else limit
            if left <= 0 and watch.position == position:
                self._stuck = watch.given_up = True
                return self._without(watch, shipment.ids, position, limit)
            try:
                ended: Returned = self._ended.get(timeout=max(left, 0.001))
            except Empty:
                continue
            return ended

    def _without(self, watch: Watch, ids: Sequence[int], position: int, limit: float) -> Returned:
        """What came of a batch before the call at *position*, which is stuck. The batch's thread may still write."""
        seen, given = watch.returned, Returned(here())
        stuck = ids[position]
        rows = list(zip(list(seen.ids), list(seen.values), list(seen.seconds), strict=False))
        for id, value, seconds in rows:
            if id != stuck:
                given.ids.append(id)
                given.values.append(value)
                given.seconds.append(seconds)
        given.failures = [failure for failure in list(seen.failures) if failure[0] != stuck]
        frame = sys._current_frames().get(self._thread.ident or 0) if self._thread is not None else None
        stack = "".join(format_stack(frame)[-15:]) if frame is not None else None
        given.failures.append((stuck, limit, TIMED_OUT, (limit, stack)))
        given.unstarted = list(ids[position + 1 :])
        return given

    def leave(self) -> str:
        """Run the rest of a generator; gives the traceback of what it raised."""
        if self._thread is None:
            return self._leave()
        if self._stuck:
            return ""
        self._jobs.put(self._leave)
        self._jobs.put(None)
        text: str = self._ended.get()
        self._thread.join()
        return text

    def _work(self) -> None:
        for job in iter(self._jobs.get, None):
            self._ended.put(job())

    def _enter(self) -> None:
        try:
            # A worker that has no celestialflow_core has no function that could ask for its worker either.
            from celestialflow_core.executors.current import CURRENT_WORKER, Worker
        except ImportError:
            worker = None
        else:
            worker = Worker(self._index)
            self._context.run(CURRENT_WORKER.set, worker)
        if self._setup is None:
            return
        try:
            state = self._context.run(load(self._setup))
            if isinstance(state, GeneratorType):
                self._rest = state
                state = self._context.run(next, state)
        except BaseException as error:
            what = "yielded nothing" if isinstance(error, StopIteration) else f"raised {reason_of(error)}"
            reason = f"worker_setup {what} in worker {self._index}; no task was run there."
            self._problem = ("setup", reason, traceback_text(error, skip=1))
            return
        if worker is not None:
            worker.state = state

    def _leave(self) -> str:
        rest, self._rest = self._rest, None
        if rest is None:
            return ""
        try:
            self._context.run(next, rest, None)
        except BaseException as error:
            return traceback_text(error, skip=1)
        return ""
