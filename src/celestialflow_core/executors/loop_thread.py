"""Gives an `AsyncExecutor` an event loop of its own, in one helper thread, so that synchronous code can use it.

The engine, hooks and the iterable stay in the caller's thread, and the caller may itself have a running loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from celestialflow_core._call import Call
from celestialflow_core.errors import WorkerSetupError
from celestialflow_core.executors.interface import AsyncExecutor, Deliver, Work

__all__ = ["LoopThread"]

NO_MORE_THREADS = "The limit on processes and threads is reached (ulimit -u, or the container's pids limit)."
PATIENCE = 0.5  # seconds that cancelled tasks have to end


class LoopThread:
    """An `Executor` that runs *inner* on a private loop."""

    def __init__(self, inner: AsyncExecutor) -> None:
        self._inner = inner
        self.capabilities = inner.capabilities
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._handed: deque[Sequence[Call]] = deque()
        self._woken = False
        self._stopping: set[asyncio.Task[None]] = set()
        self._failure: Exception | None = None

    @property
    def slots(self) -> int:
        """As the inner executor's."""
        return self._inner.slots

    @property
    def worker_limit(self) -> int | None:
        """As the inner executor's."""
        return getattr(self._inner, "worker_limit", None)

    @property
    def abandoned(self) -> int:
        """How many coroutines were left behind."""
        return getattr(self._inner, "abandoned", 0)

    def start(self, work: Work, deliver: Deliver) -> None:
        """Start the thread and its loop, and in it the inner executor."""
        started: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(work, deliver, started), name="celestialflow-loop", daemon=True
        )
        try:
            self._thread.start()
        except RuntimeError as error:
            self._thread = None
            raise WorkerSetupError(
                f"The thread of the event loop cannot be started: {error}. {NO_MORE_THREADS}"
            ) from error
        try:
            started.result()
        except BaseException:
            self._thread.join()
            self._thread = self._loop = None
            raise

    def _run(self, work: Work, deliver: Deliver, started: Future[None]) -> None:
        loop = self._loop = asyncio.new_event_loop()
        helpers = ThreadPoolExecutor(thread_name_prefix="celestialflow-to-thread")
        loop.set_default_executor(helpers)  # what asyncio.to_thread uses in the calls
        try:
            try:
                loop.run_until_complete(self._inner.start(work, deliver))
            except BaseException as error:
                started.set_exception(error)
                return
            started.set_result(None)
            loop.run_forever()
        finally:
            _close(loop, helpers)

    def submit(self, calls: Sequence[Call]) -> None:
        """Hand *calls* over to the loop's thread; one wake-up carries all that have come when it gets there."""
        if calls:
            assert self._loop is not None
            self._handed.append(calls)
            if not self._woken:
                self._woken = True
                self._loop.call_soon_threadsafe(self._take)

    def _take(self) -> None:
        self._woken = False
        while self._handed:
            self._inner.submit(self._handed.popleft())

    def stop(self, grace: float) -> None:
        """Stop the inner executor, then the loop and the thread."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        with contextlib.suppress(RuntimeError):  # another call of stop has closed the loop
            loop.call_soon_threadsafe(self._begin_stop, grace)
        thread.join()
        self._loop = self._thread = None
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _begin_stop(self, grace: float) -> None:
        """In the loop's thread, so that a call that comes too late leaves no coroutine behind."""
        assert self._loop is not None
        self._stopping.add(self._loop.create_task(self._end(grace)))

    async def _end(self, grace: float) -> None:
        try:
            await self._inner.stop(grace)
        except Exception as error:
            self._failure = error
        asyncio.get_running_loop().stop()


def _close(loop: asyncio.AbstractEventLoop, helpers: ThreadPoolExecutor) -> None:
    """End what the calls left in the loop, as far as it lets itself be ended, and close it.

    ``asyncio.Runner`` is no help here: it waits for ever for a task that swallows its cancellation.
    """
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.wait(left, timeout=PATIENCE))
    loop.run_until_complete(loop.shutdown_asyncgens())
    # A thread that is stuck in a call of to_thread cannot be waited for; those that are free end at once.
    ending = threading.Thread(target=helpers.shutdown, kwargs={"cancel_futures": True}, daemon=True)
    try:
        ending.start()
    except RuntimeError:  # the limit on threads is reached, and so nobody waits
        helpers.shutdown(wait=False, cancel_futures=True)
    else:
        ending.join(PATIENCE)
    loop.set_exception_handler(lambda *_: None)  # it would log every task that swallowed its cancellation
    loop.close()
