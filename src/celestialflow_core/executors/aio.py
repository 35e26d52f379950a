"""Calls as coroutines, inside the running event loop.

N worker coroutines take calls from one deque; there is no task object a call, which makes a call cost a few hundred
nanoseconds instead of several microseconds. Each worker is an asyncio task with a copy of the caller's context.
"""

from __future__ import annotations

import asyncio
import inspect
import warnings
from collections import deque
from collections.abc import Sequence
from contextvars import Context
from itertools import islice
from time import monotonic, perf_counter
from typing import Any

import attrs

from celestialflow_core._call import Call, Calls, Result, Spread, args_of
from celestialflow_core.errors import TaskAbandoned, TaskTimeout, WorkerSetupError
from celestialflow_core.executors.frames import without_first_frame
from celestialflow_core.executors.interface import CURRENT_WORKER, Deliver, Work, Worker, describe
from celestialflow_core.executors.outbox import Outbox
from celestialflow_core.executors.setup import YieldedNothing, setup_error

__all__ = ["AsyncioExecutor"]

DEFAULT_LIMIT = 50
MOST_AHEAD = 2048  # calls that wait in the deque at most
BREATH = 0.005  # seconds that coroutines which never wait may keep the loop
PATIENCE = 0.5  # seconds that a cancelled coroutine has to end


@attrs.define(eq=False)
class _Running:
    """The call that a worker runs: what the time limit needs to know of it."""

    id: int
    argument: Any
    began: float
    cancelled_at: float | None = None
    given_up: bool = False


_NOTHING = _Running(-1, (), 0.0)
_NO_STATE = object()


class AsyncioExecutor:
    """Awaits each call in one of up to *worker_limit* worker coroutines.

    Args:
        worker_limit: The most calls that run at a time; None for 50.
    """

    capabilities = frozenset({"timeout", "setup"})

    _work: Work
    _outbox: Outbox
    _loop: asyncio.AbstractEventLoop
    _hurry: asyncio.Event

    def __init__(self, worker_limit: int | None = None) -> None:
        self.worker_limit = worker_limit or DEFAULT_LIMIT
        self.abandoned = 0
        """How many coroutines were left behind, since they swallowed their cancellation."""
        self._ids: deque[int] = deque()
        self._arguments: deque[Any] = deque()
        self._parked: deque[tuple[asyncio.Future[None], int]] = deque()
        self._workers: dict[int, asyncio.Task[None]] = {}
        self._running: dict[int, _Running] = {}
        self._left_behind: set[asyncio.Task[None]] = set()
        self._ending = False  # nothing new is started
        self._stopping = False  # what runs is being cancelled
        self._state: Any = None
        self._tear_down: Any = None
        self._context: Context | None = None
        self._ticker: asyncio.TimerHandle | None = None
        self._started = False

    @property
    def slots(self) -> int:
        """One call a worker, and in the deque twice what they finished between two looks of the driver."""
        taken = self._outbox.taken if self._started else 0
        return self.worker_limit + max(self.worker_limit, min(2 * taken, MOST_AHEAD))

    async def start(self, work: Work, deliver: Deliver) -> None:
        """Run ``worker_setup`` once for the loop; it may be a coroutine function or an async generator, too.

        Raises:
            WorkerSetupError: It raised.
        """
        self._loop = asyncio.get_running_loop()
        self._work = work
        self._outbox = Outbox(deliver)
        self._hurry = asyncio.Event()
        self._ending = self._stopping = False
        self._started = True
        if work.setup is not None:
            CURRENT_WORKER.set(Worker(0))
            try:
                self._state = await self._enter(work.setup())
            except (KeyboardInterrupt, asyncio.CancelledError):
                raise
            except BaseException as error:
                raise setup_error(0, error) from error
        if work.timeout is not None:
            self._tick_later(work.timeout)

    async def _enter(self, state: Any) -> Any:
        if inspect.isgenerator(state):
            self._tear_down = state
            state = next(state, _NO_STATE)
        elif inspect.isasyncgen(state):
            self._tear_down = state
            state = await anext(state, _NO_STATE)
        elif inspect.isawaitable(state):
            state = await state
        if state is _NO_STATE:
            raise YieldedNothing
        return state

    def submit(self, calls: Sequence[Call]) -> None:
        """Queue *calls*, wake workers for them, and start workers while there are fewer than allowed."""
        batch = Calls.of(calls)
        # Two queues: a tuple a call would be 0.05 us more, for the garbage collector.
        self._ids.extend(batch.ids)
        self._arguments.extend(batch.arguments())
        if self._work.context is not self._context:  # a new run of a warm pool: its workers have another context
            self._context = self._work.context
            self._dismiss()
        if len(self._workers) < self.worker_limit:
            wanted = len(batch) - len(self._parked)
            free = (index for index in range(self.worker_limit) if index not in self._workers)
            for index in list(islice(free, max(0, wanted))):
                self._start_worker(index)
        self._wake()

    def _wake(self) -> None:
        """Wake two workers, each of which wakes two more while calls wait.

        So all are awake after a few turns of the loop where calls wait for something, and only few of them where the
        first finishes all calls by itself.
        """
        wanted = min(2, len(self._ids))
        while wanted and self._parked:
            parked, _ = self._parked.popleft()
            if not parked.done():
                parked.set_result(None)
                wanted -= 1

    def _dismiss(self) -> None:
        """Let the workers end that have nothing to do."""
        while self._parked:
            parked, index = self._parked.popleft()
            parked.cancel()
            self._workers.pop(index, None)

    def _start_worker(self, index: int) -> None:
        task = self._loop.create_task(
            self._run_calls(index), name=f"celestialflow-async-{index}", context=self._work.context.copy()
        )
        self._workers[index] = task

    async def _run_calls(self, index: int) -> None:
        CURRENT_WORKER.set(Worker(index, state=self._state))
        task = asyncio.current_task()
        func, outbox, clock = self._work.func, self._outbox, perf_counter
        put, watched = outbox.put, self._work.timeout is not None
        next_id, next_argument = self._ids.popleft, self._arguments.popleft
        running = _NOTHING
        begin = clock()
        breathe_at = begin + BREATH
        try:
            while True:
                try:
                    id = next_id()
                except IndexError:
                    if self._ending:
                        return
                    parked = self._loop.create_future()
                    self._parked.append((parked, index))
                    await parked
                    if len(self._ids) > 1:
                        self._wake()
                    begin = clock()
                    breathe_at = begin + BREATH
                    continue
                argument = next_argument()
                if watched:
                    self._running[index] = running = _Running(id, argument, monotonic())
                try:
                    value = await (func(*argument) if type(argument) is Spread else func(argument))
                except BaseException as raised:
                    error = without_first_frame(raised)
                    if isinstance(error, asyncio.CancelledError) and self._cancelled(index):
                        raise
                    if watched and running.cancelled_at is not None:
                        if not self._late(index, running, task, clock() - begin):
                            return
                    else:
                        self._running.pop(index, None)
                        own = not isinstance(error, KeyboardInterrupt)
                        outbox.put_other(Result(id if own else -1, None, error, clock() - begin, index))
                    del error
                    end = clock()
                else:
                    end = clock()
                    if not watched:
                        put((id, value, end - begin, index))
                    elif running.cancelled_at is None:
                        del self._running[index]
                        put((id, value, end - begin, index))
                    elif not self._late(index, running, task, end - begin):
                        return
                    value = None
                argument = None
                if not outbox.announced:
                    outbox.announce()
                begin = end  # one reading of the clock a call: nothing happens between two of them
                if end > breathe_at:
                    await asyncio.sleep(0)
                    begin = clock()
                    breathe_at = begin + BREATH
        except asyncio.CancelledError:
            pass
        except Exception as error:  # no memory for a result, say: without its call the run would wait for ever
            failure = WorkerSetupError(f"Worker {index} failed between two calls: {error!r:.500}.")
            failure.__cause__ = error
            outbox.put_other(Result(-1, error=failure))
            outbox.announce()
        finally:
            if self._workers.get(index) is task:
                del self._workers[index]
            self._left_behind.discard(task)

    def _cancelled(self, index: int) -> bool:
        """True if somebody ends this worker; a CancelledError that is the call's own doing is the call's error."""
        task = asyncio.current_task()
        assert task is not None
        running = self._running.get(index)
        by_the_limit = running is not None and running.cancelled_at is not None
        return self._stopping or task.cancelling() > (1 if by_the_limit else 0)

    def _late(self, index: int, running: _Running, task: asyncio.Task[None] | None, seconds: float) -> bool:
        """Report a call that ended after its limit; False if it has been given up before, and its worker with it."""
        assert self._work.timeout is not None
        if running.given_up:
            return False
        self._running.pop(index, None)
        if task is not None:
            task.uncancel()
        error = TaskTimeout(describe(args_of(running.argument)), self._work.timeout)
        self._outbox.put_other(Result(running.id, None, error, seconds, index))
        return True

    # ------------------------------------------------------------------ the time limit

    def _tick_later(self, delay: float) -> None:
        self._ticker = self._loop.call_later(delay, self._tick, monotonic() + delay)

    def _tick(self, expected: float) -> None:
        """Cancel what is late, and give up what was cancelled long ago.

        A call is judged by the time in which the loop could run it: what this tick itself is late by, because
        something kept the loop, is added to no call's time.
        """
        assert self._work.timeout is not None
        limit, now = self._work.timeout, monotonic()
        stuck = now - expected
        next_look = min(limit, 0.25)
        for index, running in list(self._running.items()):
            if stuck > 0.01:
                running.began += stuck
            if running.cancelled_at is None:
                late = now - running.began - limit
                if late < 0:
                    next_look = min(next_look, -late)
                elif (task := self._workers.get(index)) is not None:
                    running.cancelled_at = now
                    task.cancel()
                    next_look = min(next_look, PATIENCE)
            elif now - running.cancelled_at >= PATIENCE:
                self._give_up(index, running, now)
            else:
                next_look = min(next_look, running.cancelled_at + PATIENCE - now)
        self._tick_later(max(next_look, 0.002))

    def _give_up(self, index: int, running: _Running, now: float) -> None:
        """Leave the worker behind with its call, and start another in its place."""
        assert self._work.timeout is not None
        running.given_up = True
        del self._running[index]
        task = self._workers.pop(index)
        stack = _stack_of(task)
        self._left_behind.add(task)
        self.abandoned += 1
        error = TaskAbandoned(describe(args_of(running.argument)), self._work.timeout, stack)
        self._outbox.put_other(Result(running.id, None, error, now - running.began, index))
        self._outbox.announce()
        if not self._ending:
            self._start_worker(index)

    # ------------------------------------------------------------------ the end

    async def stop(self, grace: float) -> None:
        """Drop the deque, wait up to *grace* seconds for the calls that run, then cancel them.

        A second call ends the wait of the first at once if its *grace* is 0.
        """
        if not self._started:
            return
        self._ending = True
        self._ids.clear()
        self._arguments.clear()
        self._dismiss()
        if grace <= 0:
            self._hurry.set()
        workers = set(self._workers.values())
        if workers:
            hurry = self._loop.create_task(self._hurry.wait())
            waiting = {hurry, *workers}
            deadline = monotonic() + grace
            while waiting - {hurry} and not hurry.done() and (left := deadline - monotonic()) > 0:
                _, waiting = await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            hurry.cancel()
            self._stopping = True
            late = {worker for worker in workers if not worker.done()}
            for worker in late:
                worker.cancel()
            if late:
                _, stubborn = await asyncio.wait(late, timeout=PATIENCE)
                self.abandoned += len(stubborn)
                self._left_behind |= stubborn
        self._stopping = True
        self._outbox.closed = True
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None
        await self._leave()

    async def _leave(self) -> None:
        tear_down, self._tear_down = self._tear_down, None
        try:
            if inspect.isgenerator(tear_down):
                next(tear_down, None)
                tear_down.close()
            elif tear_down is not None:
                await anext(tear_down, None)
                await tear_down.aclose()
        except Exception as error:
            warnings.warn(f"The tear-down of worker_setup raised {error!r}.", RuntimeWarning, stacklevel=1)


def _stack_of(task: asyncio.Task[None]) -> str | None:
    import io

    out = io.StringIO()
    task.print_stack(limit=20, file=out)
    return out.getvalue() or None
