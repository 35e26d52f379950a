"""The asynchronous shell: drives a run as a coroutine of the running loop, for ``start_async`` and ``stream_async``.

The engine, hooks and the iterable live in the loop's thread. An `AsyncExecutor` runs in the same loop; any other runs
where it always does, and wakes the loop when it delivers.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TypeVar, cast

from celestialflow_core._call import Delivery
from celestialflow_core._driver.aio.completion import AsyncCompletions
from celestialflow_core._driver.aio.source import AsyncSource, open_source
from celestialflow_core._driver.plan import Plan
from celestialflow_core._driver.shell import UNRESPONSIVE, Shell
from celestialflow_core._driver.source import Source
from celestialflow_core._driver.workers import is_async
from celestialflow_core._outcome import RunSummary
from celestialflow_core.executors.interface import AsyncExecutor, Executor, Work

__all__ = ["AsyncShell"]

T = TypeVar("T")
R = TypeVar("R")

BREATH = 0.005  # seconds that a run with much to do may keep the loop


class AsyncShell(Shell):
    """Drives a run in the running loop."""

    def __init__(self, plan: Plan, make_work: Callable[[], Work]) -> None:
        self._completions: AsyncCompletions[Delivery] = AsyncCompletions()
        super().__init__(plan, self._completions, make_work)
        self._source: Source | AsyncSource | None = None
        self._breathe_at = 0.0
        self._native = is_async(plan.executor)

    async def open(self) -> None:
        """As `SyncShell.open`."""
        plan = self._plan
        plan.run.inbox = self._completions.items
        try:
            self._source = open_source(plan.tasks, plan.total, self._completions.wake)
            work = self._route()
            if work is not None:
                plan.workers.started = True
                if self._native:
                    await cast(AsyncExecutor, plan.executor).start(work, plan.workers.deliver)
                else:
                    cast(Executor, plan.executor).start(work, plan.workers.deliver)
        except BaseException:
            self.closed = True
            await self._drop_workers()
            plan.done()
            raise
        self._announce(self._source.total)

    async def step(self) -> bool:
        """One round; True when the run is over and is to be closed."""
        run, source = self.run, self._source
        assert source is not None
        try:
            wait = run.advance()
            if run.finished:
                return True
            wanted = run.wants()
            tasks = source.take(wanted) if wanted else []
            ended = source.exhausted and run.open
            if ended:
                run.open = False
            if tasks:
                run.take(tasks)
            elif not ended and wait != 0.0:
                await self._completions.wait_async(wait)
                self._breathe_at = monotonic() + BREATH
                return False
            if monotonic() > self._breathe_at:
                await asyncio.sleep(0)
                self._breathe_at = monotonic() + BREATH
        except BaseException as error:
            run.interrupted(error)
            return True
        return False

    async def close(self) -> RunSummary:
        """As `SyncShell.close`."""
        self.closed = True
        error = await self._stop() if self._must_stop() else None
        source = self._source
        if isinstance(source, AsyncSource):
            await source.aclose()
        return self._conclude(error, source.error if source is not None else None)

    async def _stop(self) -> BaseException | None:
        """Stop the executor while results still come in; a further cancellation ends the grace."""
        self._plan.workers.stopped = True
        stopping: asyncio.Future[None] = asyncio.ensure_future(self._stop_executor(self._grace()))
        hurry: asyncio.Future[None] | None = None
        raised: BaseException | None = None
        give_up_at: float | None = None
        stopping.add_done_callback(lambda _: self._completions.wake())
        while not stopping.done() and (give_up_at is None or monotonic() < give_up_at):
            try:
                await self._completions.wait_async(None if give_up_at is None else 0.1)
                self.run.collect(monotonic())
            except BaseException as error:  # a second Ctrl-C, or a hook that lets one out
                raised = raised or error
                if hurry is None:
                    hurry = asyncio.ensure_future(self._stop_executor(0))
                    give_up_at = monotonic() + UNRESPONSIVE
        if hurry is not None and hurry.done():
            hurry.exception()
        if not stopping.done():
            stopping.cancel()
            return raised
        return raised or stopping.exception()

    def _stop_executor(self, grace: float) -> Awaitable[None]:
        executor = self._plan.executor
        if self._native:
            return cast(AsyncExecutor, executor).stop(grace)
        return _in_thread(cast(Executor, executor).stop, grace)

    async def _drop_workers(self) -> None:
        workers = self._plan.workers
        workers.route(None)
        workers.stopped = True
        if workers.started:
            await self._stop_executor(0)

    def abort(self) -> None:
        """Stop the workers at once and call nobody: for a stream that nobody will close."""
        self.closed = True
        workers = self._plan.workers
        workers.route(None)
        workers.stopped = True
        try:
            if not self._native:
                cast(Executor, workers.executor).stop(0)
            elif not self._completions.loop.is_closed():
                stop = cast(AsyncExecutor, workers.executor).stop
                self._completions.loop.call_soon_threadsafe(lambda: asyncio.ensure_future(stop(0)))
            self.run.drop()
            self._plan.finish_observers(self._plan.summarise())
        finally:
            self._plan.done()


def _in_thread(function: Callable[[float], None], argument: float) -> asyncio.Future[None]:
    """Run *function* in a thread of its own, which ends with it; the loop's default executor would keep one."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def settle(error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)

    def run() -> None:
        error: BaseException | None = None
        try:
            function(argument)
        except BaseException as raised:
            error = raised
        try:
            loop.call_soon_threadsafe(settle, error)
        except RuntimeError:  # the loop is closed: nobody waits any more
            pass

    try:
        threading.Thread(target=run, name="celestialflow-stop", daemon=True).start()
    except RuntimeError:  # the system has no thread left: then the loop waits
        run()
    return future
