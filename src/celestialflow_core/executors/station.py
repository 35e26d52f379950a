"""What a worker of a cluster holds for one run: the function, the set-up and the time limit.

    pack(work) --> bytes --> pickle.loads(bytes)(index) --> a Station in the worker
                                                              run(parcel) -> bytes     a batch, in any thread
                                                              leave() -> str           the tear-down

Nothing but bytes goes either way, so that the cluster's own pickling can neither fail on a value nor see one. The code
of the station goes along, so it needs cloudpickle alone where it arrives.

Calls run in threads of the station's own, and the thread that was given the batch looks on. A batch comes back when
its budget is over, whatever its calls do: without a slow one, which is collected later, so that neither what had
finished nor what had not begun waits for it. A call that exceeds the time limit is given up; the worker has to be ended
then.
"""

from __future__ import annotations

import hashlib
import inspect
import pickle
import sys
import threading
from collections.abc import Callable, Sequence
from contextvars import copy_context
from functools import cache, partial
from queue import Empty, SimpleQueue
from time import perf_counter
from traceback import format_stack
from types import GeneratorType, ModuleType
from typing import Any
from uuid import uuid4

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

__all__ = ["Station", "collection", "pack", "parcel", "unpack"]

_REGISTRY = threading.Lock()
# A batch that keeps to its budget comes back by itself a little later than that.
SLACK = 0.05
LOOK = 0.05


def pack(function: FunctionRef, setup: Callable[[], Any] | None, limit: float | None) -> bytes:
    """A station for *function*, to be unpickled in each worker and called with the worker's index.

    Args:
        function: The function.
        setup: Run before the first call in each place of a worker, or None.
        limit: The seconds that a call may run, or None.

    Raises:
        Exception: What the pickling of the function or of the set-up raises.
    """
    make = partial(Station, function.pack(), None if setup is None else dump(setup), limit)
    by_name = pickle.dumps(make)
    modules = _modules()
    with _REGISTRY:
        known = cloudpickle.list_registry_pickle_by_value()
        for module in modules:
            cloudpickle.register_pickle_by_value(module)
        try:
            return dump(partial(_arrive, fingerprint(), by_name, dump(make)))
        finally:
            for module in modules:
                if module.__name__ not in known:
                    cloudpickle.unregister_pickle_by_value(module)


def _arrive(packed_by: str, by_name: bytes, by_value: bytes, index: int) -> Any:
    """Make a station of whoever unpickles this: from its own installation, if that has the very same code.

    Code that travels by value must not come back to where it is from, where it would replace the methods of classes.
    """
    import pickle

    try:
        from celestialflow_core.executors.station import fingerprint as own
    except ImportError:
        return pickle.loads(by_value)(index)
    return pickle.loads(by_name if own() == packed_by else by_value)(index)


@cache
def fingerprint() -> str:
    """Tells one release of this code from another, by its text; one without a text from all others."""
    try:
        return hashlib.sha256("".join(map(inspect.getsource, _modules())).encode()).hexdigest()
    except OSError:
        return uuid4().hex


def _modules() -> tuple[ModuleType, ...]:
    return (*own_modules(), sys.modules[__name__])


def parcel(ids: Sequence[int], frames: Sequence[Any], budget: float, places: int = 1) -> bytes:
    """A batch for `Station.run`.

    Args:
        ids: The calls' ids.
        frames: Their arguments, each as `worker.freeze` gives them.
        budget: After so many seconds the batch comes back, with what had finished.
        places: How many batches the worker may run at a time.
    """
    return pickle.dumps((ids, frames, budget, places))


def collection(id: int) -> bytes:
    """A parcel with which `Station.run` waits for the call *id*, which an earlier batch left running."""
    return pickle.dumps(id)


def unpack(data: bytes) -> Returned:
    """What `Station.run` gave; its values are unpickled."""
    returned = arrived(*pickle.loads(data))
    returned.unpack()
    return returned


class Station:
    """One run in one worker.

    Args:
        function: The function, pickled.
        setup: The set-up, pickled.
        limit: The seconds that a call may run.
        index: The worker's; of a worker that runs several calls at a time, that of its first place.
    """

    def __init__(self, function: bytes, setup: bytes | None, limit: float | None, index: int) -> None:
        self._function = FunctionRef.arrived(hashlib.sha256(function).hexdigest(), function)
        self._setup = setup
        self._limit = limit
        self._index = index
        self._places: list[_Place] = []
        self._lock = threading.Condition()
        self._left_running: dict[int, _Place] = {}

    def run(self, data: bytes) -> bytes:
        """Run a `parcel`, or wait for a `collection`, and give what came of it, for `unpack`. Never raises.

        May be called by as many threads at a time as the worker has places.
        """
        content = pickle.loads(data)
        if isinstance(content, int):
            returned = self._left_running.pop(content).wait(None, self._limit)
        else:
            ids, frames, budget, places = content
            place = self._take_place(places, budget)
            if place is None:
                returned = Returned(here())
                returned.unstarted = list(ids)
            else:
                place.begin(self._function, Shipment(ids, frames), budget)
                returned = place.wait(budget, self._limit)
                if returned.running is not None:
                    self._left_running[returned.running[0]] = place
        return pickle.dumps(returned.columns())

    def leave(self) -> str:
        """Run the tear-down; gives the tracebacks of what went wrong there, or an empty text."""
        with self._lock:
            places = self._places[:]
            self._places.clear()
        return "\n".join(filter(None, (place.leave() for place in places)))

    def _take_place(self, places: int, seconds: float) -> _Place | None:
        """A place where nothing runs, if there is one within *seconds*."""
        end = perf_counter() + seconds
        with self._lock:
            while True:
                for place in self._places:
                    if place.take():
                        return place
                if len(self._places) < places:
                    place = _Place(self._setup, self._index + len(self._places), self._lock)
                    self._places.append(place)
                    place.take()
                    return place
                if not self._lock.wait(end - perf_counter()):
                    return None

    def __del__(self) -> None:
        for place in self._places:
            place.end()


class _Place:
    """A thread in which calls run one at a time, in a context of its own that is set up before the first.

    Args:
        setup: The set-up, pickled.
        index: What `current_worker` says.
        freed: Notified when another batch may begin.
    """

    def __init__(self, setup: bytes | None, index: int, freed: threading.Condition) -> None:
        self._setup = setup
        self._index = index
        self._freed = freed
        self._context = copy_context()  # the cluster's own: it may tell a task where it runs
        self._problem: Problem | None = None
        self._rest: Any = None
        self._busy = False
        self._ids: Sequence[int] = ()
        self._slow = -1  # the call that was left running
        self._watch = Watch(Returned(here()))
        self._jobs: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._ended: SimpleQueue[Any] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="celestialflow-calls", daemon=True)
        self._thread.start()

    def take(self) -> bool:
        """Whether nothing ran here; then it is the caller's. Called under the station's lock."""
        taken, self._busy = not self._busy, True
        return taken

    def begin(self, function: FunctionRef, shipment: Shipment, budget: float) -> None:
        """Begin a batch."""
        self._ids = shipment.ids
        self._watch = Watch(Returned(here()))
        self._jobs.put(partial(self._run, function, shipment, budget, self._watch))

    def wait(self, budget: float | None, limit: float | None) -> Returned:
        """Wait for the batch. It comes back without a call that runs longer than that.

        Args:
            budget: For how many seconds to wait at the most; None, for the call that was left running alone.
            limit: For how many seconds a call may run.
        """
        watch, end = self._watch, None
        while True:
            position, since = watch.position, watch.since
            now = perf_counter()
            if budget is not None and since and end is None:
                end = now + budget + SLACK
            waits = [] if end is None else [end - now]
            if limit is not None and since:
                waits.append(since + limit - now)
            if not since:
                waits.append(LOOK)  # it is being set up, which is nobody's time
            left = min(waits, default=None)
            if left is not None and left <= 0 and watch.position == position:
                return self._without(watch, limit, collecting=budget is None)
            try:
                ended: Returned = self._ended.get(timeout=None if left is None else max(left, 0.001))
            except Empty:
                continue
            if budget is None:
                ended = self._only(ended)
            with self._freed:
                self._busy = False
                self._freed.notify()
            return ended

    def _only(self, ended: Returned) -> Returned:
        """What came of the call that was left running; the others have been given."""
        only, id = Returned(ended.worker), self._slow
        for row in zip(ended.ids, ended.values, ended.seconds, strict=True):
            if row[0] == id:
                _append(only, *row)
        only.failures = [failure for failure in ended.failures if failure[0] == id]
        only.unstarted = [each for each in ended.unstarted if each == id]
        return only

    def _without(self, watch: Watch, limit: float | None, collecting: bool) -> Returned:
        """What came of a batch before the present call, unless that was given. The batch's thread may still write."""
        watch.given_up = True
        position = watch.position
        seconds = perf_counter() - watch.since
        seen, given = watch.returned, Returned(here())
        self._slow = slow = self._ids[position]
        if not collecting:
            known = set(self._ids[:position])
            for row in zip(list(seen.ids), list(seen.values), list(seen.seconds), strict=False):
                if row[0] in known:
                    _append(given, *row)
            given.failures = [failure for failure in list(seen.failures) if failure[0] in known]
            given.unstarted = list(self._ids[position + 1 :])
        if limit is None or seconds < limit:
            given.running = (slow, seconds)
            return given
        frame = sys._current_frames().get(self._thread.ident or 0)
        stack = "".join(format_stack(frame)[-15:]) if frame is not None else None
        given.failures.append((slow, seconds, TIMED_OUT, (limit, stack)))
        return given

    def leave(self) -> str:
        """Run the rest of a generator; gives the traceback of what it raised."""
        if self._busy:
            self.end()
            return ""
        self._jobs.put(self._leave)
        self.end()
        text: str = self._ended.get()
        self._thread.join()
        return text

    def end(self) -> None:
        """Let the thread go, when it has done what it has to do."""
        self._jobs.put(None)

    # -- the place's own thread --------------------------------------------------------------------------------------

    def _work(self) -> None:
        self._enter()
        for job in iter(self._jobs.get, None):
            self._ended.put(job())

    def _run(self, function: FunctionRef, shipment: Shipment, budget: float, watch: Watch) -> Returned:
        if self._problem is not None:
            watch.returned.problem = self._problem
            return watch.returned
        shipment.context = self._context
        return run_batch(function, shipment, budget, watch)

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


def _append(returned: Returned, id: int, value: Any, seconds: float) -> None:
    returned.ids.append(id)
    returned.values.append(value)
    returned.seconds.append(seconds)
