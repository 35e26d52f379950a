"""The worker process: what runs in the fresh interpreter.

Two threads. The main thread runs the calls, so that a task may use signals and whatever else wants the main thread.
The listener reads the connection: it queues leases, hands back calls that have not started, and while work is queued
looks every few milliseconds whether finished results wait to be sent. The end of the stream means that the parent is
gone, and ends the worker, whatever runs.

A result is pickled when its call ends, in the main thread, as part of the call: so a call that fails, hangs or dies
while its result is pickled is the one that is charged, and a task that returns the same list each time returns what
was in it then. What waits to be sent is plain data.

This module and what it imports at the top need the standard library alone.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import sys
import threading
import time
from array import array
from collections import deque
from itertools import repeat
from mmap import mmap
from queue import SimpleQueue
from types import GeneratorType
from typing import Any

import celestialflow_core.executors.process._parcels as parcels
import celestialflow_core.executors.process.failures as failures
import celestialflow_core.executors.process.marks as marks
import celestialflow_core.executors.process.stacks as stacks
import celestialflow_core.executors.process.wire as wire
from celestialflow_core.executors.process.classes import hold_classes
from celestialflow_core.executors.process.marks import Marker
from celestialflow_core.executors.process.memory import ENDED, SINCE, STARTED, lines, stack_start
from celestialflow_core.executors.process.pickling import ATOMS, decode
from celestialflow_core.executors.tracebacks import traceback_text

__all__ = ["CONNECTION_LOST", "NO_THREAD", "main"]

CONNECTION_LOST = 83
"""The exit status of a worker whose task has closed the connection."""

NO_THREAD = 84
"""The exit status of a worker for whose second thread the system had no room."""

_PATIENCE = 0.005  # seconds that a finished result may wait while later calls run
_GATHERING = 0.001  # seconds of work below which results wait for those of the next lease

_noticed: list[Marker | None] = []
"""What has to be seen to when a call has ended: marks in streams that it wrote to, None in a process that it forked."""


class Lease:
    """Calls that this worker has. Both threads pop from ``items``, from either end; that is atomic."""

    __slots__ = ("count", "framed", "items", "spread")

    def __init__(self, items: deque[Any], framed: bool, spread: bool) -> None:
        self.items = items
        self.count = len(items)
        self.framed = framed
        self.spread = spread
        """False where the items are the only argument of each call; else they are tuples, or become tuples."""


def main(connection: int, memory: int, slot: int, index: int, parent: int) -> None:
    """Serve as worker *index*.

    Args:
        connection: The descriptor of our end of the connection.
        memory: The descriptor of the shared memory.
        slot: Our place in it.
        index: Which worker we are.
        parent: The process id of the parent.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    _die_with(parent)
    hold_classes()
    os.register_at_fork(before=_flush_streams, after_in_child=lambda: _noticed.append(None))
    first = wire.receive(connection)
    if first is None or first[2] is None:
        os._exit(0)
    counts, times = lines(mmap(memory, 0), slot)
    stacks.answer_from_now_on(memory, stack_start(slot))
    os.close(memory)
    preamble = decode(first[2])
    marks.install(preamble["token"], counts, _noticed)
    _Worker(connection, counts, times, index, preamble).serve()


class _Worker:
    def __init__(
        self,
        connection: int,
        counts: memoryview[int],
        times: memoryview[float],
        index: int,
        preamble: dict[str, Any],
    ) -> None:
        self._connection = connection
        self._identity = os.getpid(), os.fstat(connection).st_ino
        self._counts, self._times = counts, times
        self._index = index
        self._preamble = preamble
        # Leases, definitions of classes, and at the end None.
        self._queue: SimpleQueue[Lease | bytearray | None] = SimpleQueue()
        self._live: deque[Lease] = deque()  # the listener's: leases that may hold calls that have not started
        self._received = self._finished = 0  # leases; the first written by the listener, the second by the main thread
        self._sending = threading.Lock()
        self._values: list[Any] = []
        self._seconds: list[float] = []
        self._sent_at = 0.0
        self._func: Any = None
        self._rest: Any = None

    def serve(self) -> None:
        """Set up, run leases until told to end, tear down, and leave."""
        try:
            threading.Thread(target=self._listen, name="celestialflow-listener", daemon=True).start()
        except RuntimeError:
            os._exit(NO_THREAD)
        self._set_up()
        while True:
            lease = self._queue.get()
            if lease is None:
                break
            if isinstance(lease, bytearray):
                self._define(lease)
                continue
            self._run(lease)
            self._finished += 1
            del lease
            # Small leases in a row: their results go in one message, or the parent drowns in them.
            if self._queue.empty() or time.monotonic() - self._sent_at > _GATHERING:
                self._flush()
            if self._queue.empty():
                _flush_streams()
        self._tear_down()
        _flush_streams()
        # Not sys.exit: it would wait for every thread that a task has left running.
        os._exit(0)

    # ------------------------------------------------------------------ begin and end
    def _set_up(self) -> None:
        preamble = self._preamble
        sys.argv[:] = preamble["argv"]
        try:
            os.chdir(preamble["cwd"])
        except OSError:
            pass  # it is gone, or there was none: the worker has the parent's present one
        try:
            self._func = decode(preamble["func"])
            setup = preamble["setup"] and decode(preamble["setup"])
        except BaseException as error:
            if isinstance(error, ModuleNotFoundError):
                reason = f"A worker process cannot import {error.name!r}, which the function needs."
            else:
                reason = f"The function cannot be loaded in a worker process: {failures.reason_of(error)}."
            self._give_up(reason, error)
            return
        from celestialflow_core.executors.current import CURRENT_WORKER, Worker

        worker = Worker(self._index, preamble["env"])
        CURRENT_WORKER.set(worker)
        if setup:
            try:
                worker.state = setup()
                if isinstance(worker.state, GeneratorType):
                    self._rest = worker.state
                    worker.state = next(self._rest)
            except BaseException as error:
                what = "yielded nothing" if isinstance(error, StopIteration) else f"raised {failures.reason_of(error)}"
                self._give_up(f"worker_setup {what} in worker {self._index}; no task was run there.", error)
        _attend()
        self._send(wire.READY)

    def _give_up(self, reason: str, error: BaseException) -> None:
        self._send(wire.SETUP_FAILED, 0, [pickle.dumps((reason, traceback_text(error, skip=1)))])
        _flush_streams()
        os._exit(1)

    def _tear_down(self) -> None:
        if self._rest is None:
            return
        try:
            next(self._rest, None)
        except BaseException as error:  # every outcome is delivered already: stderr is all that is left to tell
            print(f"The tear-down of worker_setup raised:\n{traceback_text(error)}", file=sys.stderr)

    # ------------------------------------------------------------------ the main thread
    def _define(self, definitions: bytearray) -> None:
        """Make the classes known that the next leases need."""
        try:
            decode(definitions)
        except BaseException as error:  # each call that needs one of the classes then fails by itself; this says why
            print(f"A class could not be rebuilt in a worker:\n{traceback_text(error)}", file=sys.stderr)

    def _run(self, lease: Lease) -> None:
        """Run the calls of *lease*, as far as the listener does not take them away."""
        func, framed, spread, items = self._func, lease.framed, lease.spread, lease.items
        counts, times, clock = self._counts, self._times, time.monotonic
        unpacked, packed = parcels.unpacked, parcels.packed
        add_value, add_seconds = self._values.append, self._seconds.append
        started = counts[STARTED]
        now = clock()
        due = now + _PATIENCE
        try:
            # The cheapest loop that pops: popleft is atomic, so a call is either run here or handed back.
            for args in map(deque.popleft, repeat(items)):
                started += 1
                times[SINCE] = now
                counts[STARTED] = started
                try:
                    if framed:
                        args = unpacked(args)
                    value = func(*args) if spread else func(args)
                    if type(value) not in ATOMS:
                        value = packed(value)
                except BaseException as error:
                    if _noticed:
                        _attend()
                    value = parcels.error_frame(error)
                if _noticed:
                    _attend()
                args = None
                add_value(value)
                value = None
                end = clock()
                add_seconds(end - now)
                counts[ENDED] = started
                now = end
                if end > due:
                    self._flush()
                    due = clock() + _PATIENCE
        except IndexError:
            return  # the lease is empty

    def _flush(self) -> None:
        """Send every result that has not been sent. From either thread; runs no code of the user's."""
        with self._sending:
            count = len(self._seconds)  # the main thread adds the seconds last
            if not count:
                return
            values, seconds = self._values[:count], self._seconds[:count]
            del self._values[:count], self._seconds[:count]
            sent = 0
            for kind, some, body in parcels.results(values):
                took = array("d", seconds[sent : sent + some]).tobytes()
                self._write(wire.message(kind, some, [took, *body]), count)
                sent += some
            self._sent_at = time.monotonic()

    def _send(self, kind: int, count: int = 0, body: list[bytes] | None = None) -> None:
        with self._sending:
            self._write(wire.message(kind, count, body or []), 0)

    def _write(self, buffers: list[wire.Buffer], results: int) -> None:
        # A copy that a task has forked must not write, and neither must we if the task has closed our descriptor and
        # the number belongs to somebody else by now.
        try:
            if os.getpid() != self._identity[0]:
                os._exit(0)
            if os.fstat(self._connection).st_ino != self._identity[1]:
                raise OSError("the descriptor is another file by now")
            wire.send(self._connection, buffers)
        except OSError:
            if results == 1:
                # One call's result is all that is lost, so that call did it: have it charged.
                self._counts[ENDED] = self._counts[STARTED] - 1
            os._exit(CONNECTION_LOST)

    # ------------------------------------------------------------------ the listener
    def _listen(self) -> None:
        # The stack that is asked for is the main thread's.
        signal.pthread_sigmask(signal.SIG_BLOCK, {stacks.ASK_FOR_STACK})
        try:
            self._serve_connection()
        except BaseException as error:  # no memory left, or a task has changed what this needs: nobody would hear us
            os.write(2, traceback_text(error).encode("utf-8", "replace"))
            os._exit(1)

    def _serve_connection(self) -> None:
        poller = select.poll()
        poller.register(self._connection, select.POLLIN)
        while True:
            if self._must_watch() and not poller.poll(_PATIENCE * 1000):
                self._flush()
                continue
            try:
                received = wire.receive(self._connection)
            except OSError:
                return  # the task has closed the connection; the main thread finds out when it sends
            if received is None:
                os._exit(0)
            kind, count, body = received
            if kind == wire.FRAMED_LEASE or (kind == wire.PLAIN_LEASE and body is None):
                self._enqueue(parcels.framed_items(count, body), True, True)
            elif kind == wire.PLAIN_LEASE and body is not None:
                self._enqueue_plain(count, body)
            elif kind == wire.DEFINE and body is not None:
                self._queue.put(body)
            elif kind == wire.HAND_BACK:
                self._hand_back(count)
            elif kind == wire.EXIT:
                self._queue.put(None)
            # A large argument must not live in this frame until the next message comes.
            del received, body

    def _must_watch(self) -> bool:
        """Whether a finished result may have to wait behind a call that runs."""
        unfinished = self._received - self._finished
        return unfinished > 1 or (unfinished == 1 and (self._live[-1].count > 1 or bool(self._seconds)))

    def _enqueue_plain(self, count: int, body: bytearray) -> None:
        try:
            items, spread = parcels.plain_items(count, body)
        except MemoryError:
            self._enqueue(parcels.framed_items(count, None), True, True)
        else:
            self._enqueue(items, False, spread)

    def _enqueue(self, items: deque[Any], framed: bool, spread: bool) -> None:
        while self._live and not self._live[0].items:
            self._live.popleft()
        lease = Lease(items, framed, spread)
        self._live.append(lease)
        self._received += 1
        self._queue.put(lease)

    def _hand_back(self, wanted: int) -> None:
        given = 0
        for lease in reversed(self._live):
            while given < wanted and lease.items:
                try:
                    lease.items.pop()
                except IndexError:
                    break  # the main thread was faster
                given += 1
        self._send(wire.HANDED_BACK, given)


def _attend() -> None:
    """Mark the end of what the call wrote; or end the process, if it is a copy that came back from the call."""
    _flush_streams()
    if None in _noticed:
        os._exit(0)
    while _noticed:
        marker = _noticed.pop()
        if marker is not None:
            marker.end()


def _flush_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass  # None, closed, or nobody reads it: what the task does with its streams is its own affair


def _die_with(parent: int) -> None:
    """Have the kernel end this process when the thread that spawned it ends (Linux)."""
    try:
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # 1 is PR_SET_PDEATHSIG
    except (ImportError, OSError, AttributeError):
        return  # no such thing here; the end of the stream remains
    if os.getppid() != parent:
        os._exit(0)  # the parent died before the signal was set
