"""Calls on threads.

    submit --> SimpleQueue of ids --> N threads --> Outbox --> driver

Both queues are C-level: a call costs about 0.2 us of hand-over, and a call that blocks holds up no other, since
threads take calls one by one. Threads are daemons, so that one that hangs cannot hold the exit of the program, and are
started as calls come. A time limit is kept by a watching thread, which abandons the late one and starts another.
"""

from __future__ import annotations

import sys
import threading
import traceback
import warnings
from collections import deque
from collections.abc import Sequence
from contextvars import Context
from queue import Empty, SimpleQueue
from time import monotonic, perf_counter
from typing import Any

from celestialflow_core._call import Call, Calls, Result, Spread, args_of
from celestialflow_core.errors import TaskAbandoned, WorkerSetupError
from celestialflow_core.executors.frames import without_first_frame
from celestialflow_core.executors.interface import CURRENT_WORKER, Deliver, Work, Worker, describe
from celestialflow_core.executors.outbox import Outbox
from celestialflow_core.executors.setup import Setup

__all__ = ["ThreadExecutor"]

DEFAULT_LIMIT = 32
NO_MORE_THREADS = "The limit on processes and threads is reached (ulimit -u, or the container's pids limit)."
MOST_AHEAD = 2048  # calls that wait in the queue at most


class ThreadExecutor:
    """Runs calls on up to *worker_limit* threads.

    Args:
        worker_limit: The most threads at a time; None for 32.
    """

    capabilities = frozenset({"timeout", "setup"})

    _work: Work
    _outbox: Outbox

    def __init__(self, worker_limit: int | None = None) -> None:
        self.worker_limit = worker_limit or DEFAULT_LIMIT
        self.abandoned = 0
        """How many threads were left behind, still running."""
        self._calls: SimpleQueue[int | None] = SimpleQueue()
        self._arguments: dict[int, Any] = {}
        """Of the calls in the queue. Ids alone in there: a tuple a call is 0.06 us more, for the garbage collector."""
        self._threads: list[_Thread | None] = []
        self._watch: _Watch | None = None
        self._hurry = threading.Event()
        self._started = self._stopping = False

    @property
    def slots(self) -> int:
        """One call a thread, and in the queue twice what the threads finished between two looks of the driver."""
        taken = self._outbox.taken if self._started else 0
        return self.worker_limit + max(self.worker_limit, min(2 * taken, MOST_AHEAD))

    def start(self, work: Work, deliver: Deliver) -> None:
        """Make ready; threads are started when calls come."""
        self._work = work
        self._outbox = Outbox(deliver)
        self._calls = SimpleQueue()
        self._arguments = {}
        self._hurry.clear()
        self._started, self._stopping = True, False
        if work.timeout is not None:
            self._watch = _Watch(self, work.timeout)

    def submit(self, calls: Sequence[Call]) -> None:
        """Queue *calls*, and start threads while there are fewer than allowed and calls that wait."""
        batch = Calls.of(calls)
        self._arguments.update(zip(batch.ids, batch.arguments(), strict=True))
        deque(map(self._calls.put, batch.ids), maxlen=0)
        while len(self._threads) < self.worker_limit and not self._calls.empty():
            if not self._start_thread(len(self._threads)):
                break

    def _start_thread(self, index: int) -> bool:
        watched = self._watch is not None
        thread = _Thread(index, self._work, self._calls, self._arguments, self._outbox, watched)
        try:
            thread.start()
        except RuntimeError as error:
            if any(self._threads):
                self.worker_limit = max(1, len(self._threads))
                warnings.warn(
                    f"Only {self.worker_limit} threads could be started: {error}", RuntimeWarning, stacklevel=3
                )
            else:
                reason = f"No thread could be started: {error}. {NO_MORE_THREADS}"
                self._outbox.put_other(Result(-1, error=WorkerSetupError(reason)))
                self._outbox.announce()
            return False
        if index < len(self._threads):
            self._threads[index] = thread
        else:
            self._threads.append(thread)
        return True

    def replace(self, thread: _Thread) -> None:
        """Leave *thread* behind, and start another in its place; called by the watching thread."""
        self.abandoned += 1
        self._threads[thread.index] = None
        if not self._stopping:
            self._start_thread(thread.index)

    def stop(self, grace: float) -> None:
        """Drop the queue, wait up to *grace* seconds for the calls that run, and leave behind what still runs.

        A second call, from another thread, ends the wait of the first at once if its *grace* is 0.
        """
        if not self._started:
            return
        if grace <= 0:
            self._hurry.set()
        self._stopping = True
        calls = self._calls
        try:
            while True:
                id = calls.get(False)
                if id is not None:
                    self._arguments.pop(id, None)
        except Empty:
            pass
        threads = [thread for thread in self._threads if thread is not None]
        for _ in threads:
            calls.put(None)
        deadline = monotonic() + grace
        for thread in threads:
            while thread.is_alive() and not (thread.busy and (self._hurry.is_set() or monotonic() >= deadline)):
                thread.join(0.02)
            thread.join(0.01)
            if thread.is_alive() and thread.abandon():
                self.abandoned += 1
        self._outbox.closed = True
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.stop()
        self._threads.clear()


class _Thread(threading.Thread):
    """One worker: takes calls from the queue until it takes a None, or is abandoned."""

    def __init__(
        self,
        index: int,
        work: Work,
        calls: SimpleQueue[int | None],
        arguments: dict[int, Any],
        outbox: Outbox,
        watched: bool,
    ) -> None:
        super().__init__(name=f"celestialflow-thread-{index}", daemon=True)
        self.index = index
        self.busy = False
        self.claims: dict[int, tuple[float, Any]] = {}
        """The running call, while a time limit is watched: whoever pops it, this thread or the watch, reports it."""
        self._abandoned = False
        self._work = work
        self._calls = calls
        self._arguments = arguments
        self._outbox = outbox
        self._watched = watched

    def abandon(self) -> bool:
        """From now on nothing that this thread does counts; False if it had been abandoned before."""
        before, self._abandoned = self._abandoned, True
        return not before

    def run(self) -> None:
        worker = Worker(self.index)
        setup = Setup(self._work.setup, worker, self._work.context.copy())
        self.busy = True
        try:
            setup.enter()
        except WorkerSetupError as error:
            self._outbox.put_other(Result(-1, error=error))
            self._outbox.announce()
            return
        except KeyboardInterrupt:
            return
        self.busy = False
        try:
            self._run_calls(worker)
        except BaseException as error:  # no memory for a result, say: without its call the run would wait for ever
            failure = WorkerSetupError(f"Thread {self.index} failed between two calls: {error!r:.500}.")
            failure.__cause__ = error
            self._outbox.put_other(Result(-1, error=failure))
            self._outbox.announce()
        finally:
            self.busy = True
            try:
                setup.leave()
            except Exception as error:
                warnings.warn(f"The tear-down of worker_setup raised {error!r}.", RuntimeWarning, stacklevel=1)

    def _run_calls(self, worker: Worker) -> None:
        work, outbox, watched, index = self._work, self._outbox, self._watched, self.index
        get, take, put, func, clock = self._calls.get, self._arguments.pop, outbox.put, work.func, perf_counter
        context: Context | None = None
        base = work.context
        begin = clock()
        while not self._abandoned:
            try:
                id = get(False)
            except Empty:
                self.busy = False
                id = get()
                begin = clock()
            if id is None:
                return
            self.busy = True
            argument = take(id)
            if work.context is not context:  # the first call, or a new run of a warm pool
                context = work.context
                base = context.copy()
                base.run(CURRENT_WORKER.set, worker)
            if watched:
                self.claims[id] = (monotonic(), argument)
            try:
                # Context.run(func, *arguments) takes 0.07 us longer than with the argument itself.
                run = base.copy().run
                value = run(func, *argument) if type(argument) is Spread else run(func, argument)
            except BaseException as error:
                end = clock()
                if self._may_report(id):
                    outbox.put_other(Result(id, None, without_first_frame(error), end - begin, index))
            else:
                end = clock()
                if (not watched and not self._abandoned) or self._may_report(id):
                    put((id, value, end - begin, index))
                value = None
            if not outbox.announced:
                outbox.announce()
            argument = None
            begin = end  # one reading of the clock a call, unless it had to wait for the next

    def _may_report(self, id: int) -> bool:
        return not self._abandoned and (not self._watched or self.claims.pop(id, None) is not None)


class _Watch:
    """Keeps the time limit: abandons each thread whose call runs longer.

    It needs no signal from the workers: a call that has not started when it looks cannot be late before it looks
    again, one limit later.
    """

    def __init__(self, executor: ThreadExecutor, timeout: float) -> None:
        self._executor = executor
        self._timeout = timeout
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="celestialflow-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        wait = self._timeout
        while not self._end.wait(wait):
            now = monotonic()
            wait = self._timeout
            for thread in list(self._executor._threads):
                if thread is None:
                    continue
                for id, (begin, argument) in list(thread.claims.items()):
                    late = now - begin - self._timeout
                    if late < 0:
                        wait = min(wait, -late)
                    elif thread.claims.pop(id, None) is not None:
                        self._abandon(thread, id, argument, now - begin)
            wait = max(wait, 0.001)

    def _abandon(self, thread: _Thread, id: int, argument: Any, seconds: float) -> None:
        thread.abandon()
        stack = _stack_of(thread)
        self._executor.replace(thread)
        outbox = thread._outbox
        error = TaskAbandoned(describe(args_of(argument)), self._timeout, stack)
        outbox.put_other(Result(id, None, error, seconds, thread.index))
        outbox.announce()


def _stack_of(thread: threading.Thread) -> str | None:
    frame = sys._current_frames().get(thread.ident or 0)
    if frame is None:
        return None
    # The frames of this package below the user's function say nothing to the user.
    frames = [entry for entry in traceback.extract_stack(frame) if entry.filename not in (__file__, threading.__file__)]
    return "".join(traceback.format_list(frames[-20:])) or None
