"""The worker stub: what runs on the far side of a pool that is not ours.

    parent                                          worker
      FunctionRef(func), Shipment(ids, args)  --->    run_batch
                                                        load the function, once a worker
                                                        for each call: load its frame, run it, catch
      Returned: columns of successes, failures  <---    each value and error in a frame of its own

A `Shipment` and a `Returned` hold the real objects. Each splits into frames only when somebody pickles it: on a pool
of threads nothing is copied, and the error that arrives is the very object that was raised. On a pool of processes
the pool's own pickler, whichever it is, sees nothing but bytes and plain values, so that an argument, a result or an
exception that cannot cross is the matter of its own call, and never of its batch.

Standard library and cloudpickle only. A worker that has this package imports the stub by name; for one that has not,
`ship_by_value` sends the code itself.
"""

from __future__ import annotations

import hashlib
import os
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from contextvars import Context
from time import perf_counter
from types import ModuleType
from typing import Any

import cloudpickle

import celestialflow_core.executors._packing as _packing
import celestialflow_core.executors.tracebacks as _tracebacks
from celestialflow_core.executors._packing import PLAIN, dump, load, pack_error
from celestialflow_core.executors.tracebacks import reason_of, traceback_text

__all__ = [
    "Failure",
    "FunctionRef",
    "Problem",
    "Returned",
    "Shipment",
    "Unsent",
    "Watch",
    "arrived",
    "freeze",
    "here",
    "own_modules",
    "run_batch",
    "ship_by_value",
]

FUNCTIONS_KEPT = 16

# What a failure is about. RAISED: the function raised; TIMED_OUT: it did not return; the rest could not cross.
RAISED = "raised"
ARGUMENT_DUMP = "argument, pickling"
ARGUMENT_LOAD = "argument, unpickling"
VALUE_DUMP = "value, pickling"
VALUE_LOAD = "value, unpickling"
TIMED_OUT = "timed out"

Failure = tuple[int, float, str, Any]
"""(id, seconds, kind, detail). Detail: for RAISED the exception, or what `_pack` makes of it; for TIMED_OUT (the limit
in seconds, the stack as text); else (which argument, or None: all or not an argument; why)."""

Problem = tuple[str, str, str]
"""Why the function itself cannot be called: ("pickling", "unpickling" or "setup", the reason, a traceback)."""


class Unsent:
    """Something that could not be pickled or unpickled: which argument (None: all, or not an argument), and why."""

    __slots__ = ("argument", "reason")

    def __init__(self, argument: int | None, reason: str) -> None:
        self.argument = argument
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return Unsent, (self.argument, self.reason)


class FunctionRef:
    """A function on its way to workers: pickled once, unpickled once in each of them."""

    __slots__ = ("blob", "digest", "func", "problem")

    def __init__(self, func: Callable[..., Any]) -> None:
        self.func: Callable[..., Any] | None = func
        self.digest = ""
        self.blob: bytes | None = None
        self.problem: Problem | None = None

    def pack(self) -> bytes:
        """The function pickled; made at the first call. Raises whatever its pickling raises."""
        if self.blob is None:
            blob = dump(self.func)
            self.digest = hashlib.sha256(blob).hexdigest()
            self.blob = blob
        return self.blob

    def resolve(self) -> Callable[..., Any] | None:
        """The function, or None after saying in `problem` why there is none."""
        if self.func is not None or self.problem is not None:
            return self.func
        functions = _functions()
        self.func = functions.get(self.digest)
        if self.func is None:
            try:
                self.func = load(self.blob or b"")
            except BaseException as error:
                self.problem = ("unpickling", reason_of(error), traceback_text(error))
                return None
            if len(functions) >= FUNCTIONS_KEPT:
                functions.pop(next(iter(functions)), None)
            functions[self.digest] = self.func
        return self.func

    def __reduce__(self) -> tuple[Any, ...]:
        try:
            self.pack()
        except BaseException as error:
            self.problem = ("pickling", reason_of(error), "")
        return FunctionRef.arrived, (self.digest, self.blob, self.problem)

    @staticmethod
    def arrived(digest: str, blob: bytes | None, problem: Problem | None = None) -> FunctionRef:
        """The reference on the far side."""
        reference = FunctionRef.__new__(FunctionRef)
        reference.func = None
        reference.digest = digest
        reference.blob = blob
        reference.problem = problem
        return reference


def _functions() -> dict[str, Any]:
    """The functions that this process has unpickled, by digest.

    Not a global of this module: shipped by value, every batch would bring an empty one of its own.
    """
    name = "_celestialflow_functions"
    module = sys.modules.get(name) or sys.modules.setdefault(name, ModuleType(name))
    return module.__dict__.setdefault("functions", {})  # type: ignore[no-any-return]  # a module's dict holds anything


class Shipment:
    """A batch of calls on its way to a worker.

    Args:
        ids: The calls' ids.
        args: Their arguments: tuples; after a trip, also frames (bytes) and what could not be sent (`Unsent`).
        context: Context variables for calls that stay in this process; they do not travel.
    """

    __slots__ = ("args", "context", "ids")

    def __init__(self, ids: Sequence[int], args: Sequence[Any], context: Context | None = None) -> None:
        self.ids = ids
        self.args = args
        self.context = context

    def __reduce__(self) -> tuple[Any, ...]:
        return _shipment_arrived, (list(self.ids), [freeze(args) for args in self.args])


def freeze(args: Any) -> Any:
    """The arguments of one call as they travel: plain ones as they are, a frame, or an `Unsent`."""
    if isinstance(args, (bytes, Unsent)) or (type(args) is tuple and all(type(arg) in PLAIN for arg in args)):
        return args
    try:
        return dump(args)
    except BaseException as error:
        reason = reason_of(error)
    for position, arg in enumerate(args):
        try:
            dump(arg)
        except BaseException as error:
            return Unsent(position, reason_of(error))
    return Unsent(None, reason)


def _shipment_arrived(ids: list[int], args: list[Any]) -> Shipment:
    return Shipment(ids, args)


class Returned:
    """What became of a batch: three columns for the calls that succeeded, and the rest.

    Attributes:
        worker: (host, process id, thread id) of whoever ran it.
        ids, values, seconds: The successes. A value that came as a frame is listed in `framed` until `unpack`.
        failures: The calls that failed.
        unstarted: The ids that were not begun, because the batch had taken longer than its budget.
        running: The id of a call that runs on, and for how many seconds it has, where the batch did not wait for it.
        problem: Why the function cannot be called at all; then nothing was run.
    """

    __slots__ = ("failures", "framed", "ids", "problem", "running", "seconds", "unstarted", "values", "worker")

    def __init__(self, worker: tuple[str, int, int]) -> None:
        self.worker = worker
        self.ids: list[int] = []
        self.values: list[Any] = []
        self.seconds: list[float] = []
        self.framed: list[int] = []
        self.failures: list[Failure] = []
        self.unstarted: list[int] = []
        self.running: tuple[int, float] | None = None
        self.problem: Problem | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return arrived, self.columns()

    def columns(self) -> tuple[Any, ...]:
        """All of it in plain types, what is not plain in frames; for `arrived`."""
        # Nothing in the object itself changes: a pool that pickles twice must get the same twice.
        ids: list[int] = []
        values: list[Any] = []
        durations: list[float] = []
        framed: list[int] = []
        failures = [_pack(failure) for failure in self.failures]
        known = set(self.framed)
        for position, (id, value, seconds) in enumerate(zip(self.ids, self.values, self.seconds, strict=True)):
            if position in known:
                framed.append(len(ids))
            elif type(value) not in PLAIN:
                try:
                    value = dump(value)
                except BaseException as error:
                    failures.append((id, seconds, VALUE_DUMP, (None, reason_of(error))))
                    continue
                framed.append(len(ids))
            ids.append(id)
            values.append(value)
            durations.append(seconds)
        rest = (self.unstarted, self.running, self.problem)
        return (self.worker, ids, values, durations, framed, failures, *rest)

    def unpack(self) -> None:
        """Turn frames into values; one that cannot be unpickled becomes a failure."""
        lost: list[int] = []
        for position in self.framed:
            try:
                self.values[position] = load(self.values[position])
            except BaseException as error:
                detail = (None, reason_of(error))
                self.failures.append((self.ids[position], self.seconds[position], VALUE_LOAD, detail))
                lost.append(position)
        for position in reversed(lost):
            del self.ids[position], self.values[position], self.seconds[position]
        self.framed = []


def _pack(failure: Failure) -> Failure:
    id, seconds, kind, detail = failure
    if not isinstance(detail, BaseException):
        return failure
    return id, seconds, kind, (*pack_error(detail), traceback_text(detail))


def arrived(
    worker: tuple[str, int, int],
    ids: list[int],
    values: list[Any],
    seconds: list[float],
    framed: list[int],
    failures: list[Failure],
    unstarted: list[int],
    running: tuple[int, float] | None,
    problem: Problem | None,
) -> Returned:
    """The `Returned` that `Returned.columns` took apart; frames are still to be unpacked."""
    returned = Returned(worker)
    returned.ids, returned.values, returned.seconds, returned.framed = ids, values, seconds, framed
    returned.failures, returned.unstarted = failures, unstarted
    returned.running, returned.problem = running, problem
    return returned


class Watch:
    """Shows another thread where a batch is, and lets that thread end it after the present call.

    Whoever gives up writes that first and reads the position then, and `begin` does it the other way round, so that
    they agree on which call is the last: the one at the position, which may turn out not to have been begun.

    Attributes:
        returned: What has come of the batch by now.
        position: The call that runs; its time is written first, so that whoever reads the position first is not misled.
        since: When it began, by ``perf_counter``; 0.0 before the first.
        given_up: Nobody waits for the rest.
    """

    __slots__ = ("given_up", "position", "returned", "since")

    def __init__(self, returned: Returned) -> None:
        self.returned = returned
        self.position = -1
        self.since = 0.0
        self.given_up = False

    def begin(self, position: int) -> bool:
        """Whether to run the call at *position*, which begins now."""
        self.since = perf_counter()
        self.position = position
        return not self.given_up


def here() -> tuple[str, int, int]:
    """Who runs the calling code: host, process, thread."""
    return (socket.gethostname(), os.getpid(), threading.get_ident())


def run_batch(
    function: FunctionRef, calls: Shipment, budget: float = float("inf"), watch: Watch | None = None
) -> Returned:
    """Run *calls* one after the other; whatever any of them does is reported, and nothing is raised.

    Args:
        function: The function.
        calls: The calls; none, to see whether a worker can start and load the function.
        budget: After so many seconds the calls that have not begun are handed back.
        watch: Where another thread looks on.
    """
    process = os.getpid()
    returned = Returned(here()) if watch is None else watch.returned
    func = function.resolve()
    if func is None:
        returned.problem = function.problem
        return returned
    ids, frames, context = calls.ids, calls.args, calls.context
    begin = before = perf_counter()
    for position, args in enumerate(frames):
        if watch is not None and not watch.begin(position):
            returned.unstarted = list(ids[position:])
            break
        if not isinstance(args, tuple):
            if isinstance(args, Unsent):
                returned.failures.append((ids[position], 0.0, ARGUMENT_DUMP, (args.argument, args.reason)))
                continue
            if isinstance(frames, list):
                frames[position] = None  # so that a large argument is not held twice while the call runs
            try:
                args = load(args)
            except BaseException as error:
                returned.failures.append((ids[position], 0.0, ARGUMENT_LOAD, (None, reason_of(error))))
                continue
        try:
            value = func(*args) if context is None else context.copy().run(func, *args)
        except BaseException as error:
            if os.getpid() != process:
                os._exit(1)
            now = perf_counter()
            # Without our own frame, which refers to the batch, and through it to the error.
            trace = BaseException.__dict__["__traceback__"].__get__(error)
            BaseException.with_traceback(error, trace and trace.tb_next)
            returned.failures.append((ids[position], now - before, RAISED, error))
            del trace
        else:
            if os.getpid() != process:
                # The task forked, and its child came back with it. There must not be two of this worker.
                os._exit(0)
            now = perf_counter()
            returned.ids.append(ids[position])
            returned.values.append(value)
            returned.seconds.append(now - before)
        before = now
        if now - begin > budget:
            returned.unstarted = list(ids[position + 1 :])
            break
    return returned


def own_modules() -> tuple[ModuleType, ...]:
    """The modules that make up the stub."""
    return (_tracebacks, _packing, sys.modules[__name__])


def ship_by_value() -> None:
    """From now on, cloudpickle sends the stub's code with each batch, for workers that cannot import it."""
    for module in own_modules():
        cloudpickle.register_pickle_by_value(module)
