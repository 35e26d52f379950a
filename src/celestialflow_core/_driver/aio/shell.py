"""The asynchronous shell: drives a run as a coroutine of the running loop, for ``start_async`` and ``stream_async``.

The engine, hooks and the iterable live in the loop's thread. An `AsyncExecutor` runs in the same loop; any other runs
where it always does, and wakes the loop when it delivers.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, cast

from celestialflow_core._call import Delivery
from celestialflow_core._driver.aio.completion import AsyncCompletions
from celestialflow_core._driver.aio.source import AsyncSource, open_source
from celestialflow_core._driver.plan import Plan
from celestialflow_core._driver.shell import UNRESPONSIVE, Shell
from celestialflow_core._driver.stage import Stage
from celestialflow_core._driver.workers import is_async
from celestialflow_core._outcome import RunSummary
from celestialflow_core.executors.interface import AsyncExecutor, Executor

__all__ = ["AsyncShell"]

BREATH = 0.005  # seconds that a run with much to do may keep the loop


class AsyncShell(Shell):
    """Drives a run in the running loop."""

    def __init__(self, plan: Plan) -> None:
        self._completions: AsyncCompletions[tuple[Any, Delivery]] = AsyncCompletions()
        super().__init__(plan, self._completions)
        self._breathe_at = 0.0

    async def open(self) -> None:
        """As `SyncShell.open`."""
        plan = self._plan
        try:
            for given in plan.inputs:
                source = open_source(given.tasks, given.total, self._completions.wake, given.stage.patience)
                self._add_source(given.stage, source)
            if self.run.storage is not None:
                self.run.storage.open()
            for stage in self.run.stages:
                work = self._route(stage)
                if work is not None:
                    with self.run.blaming(stage):
                        if is_async(stage.executor):
                            await cast(AsyncExecutor, stage.executor).start(work, stage.workers.deliver)
                        else:
                            cast(Executor, stage.executor).start(work, stage.workers.deliver)
        except BaseException:
            self.closed = True
            for stage in self._dropped():
                await _stop(stage, 0)
            plan.done()
            raise
        self._announce({stage.name: source.total for stage, source in self._sources})

    async def step(self) -> bool:
        """One round; True when the run is over and is to be closed."""
        run = self.run
        try:
            wait = run.advance()
            if run.finished:
                return True
            if not self._pull() and wait != 0.0:
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

    def _pull(self) -> bool:
        """Ask each source for tasks, if its stage wants some; False if no task and no end has come of it."""
        run, moved = self.run, False
        for _ in range(len(self._sources)):
            stage, source = self._sources[0]
            wanted = run.wants(stage)
            tasks = source.take(wanted) if wanted else []
            moved = moved or source.exhausted or bool(tasks)
            self._take_over(tasks)
        return moved

    async def close(self) -> RunSummary:
        """As `SyncShell.close`."""
        self.closed = True
        stages = self._to_stop()
        error = await self._stop(stages) if stages else None
        for _, source in self._sources:
            if isinstance(source, AsyncSource):
                await source.aclose()
        return self._conclude(error)

    async def _stop(self, stages: Sequence[Stage]) -> BaseException | None:
        """Stop the executors while results still come in; a further cancellation ends the grace."""
        grace = self._grace()
        stopping = [_stop(stage, grace) for stage in stages]
        hurries: list[asyncio.Future[None]] = []
        raised: BaseException | None = None
        give_up_at: float | None = None
        for future in stopping:
            future.add_done_callback(lambda _: self._completions.wake())
        while not all(future.done() for future in stopping) and (give_up_at is None or monotonic() < give_up_at):
            try:
                await self._completions.wait_async(None if give_up_at is None else 0.1)
                self.run.collect(monotonic())
            except BaseException as error:  # a second Ctrl-C, or a hook that lets one out
                raised = raised or error
                if not hurries:
                    late = [stage for stage, future in zip(stages, stopping, strict=True) if not future.done()]
                    hurries = [_stop(stage, 0) for stage in late]
                    give_up_at = monotonic() + UNRESPONSIVE
        for future in hurries:
            if future.done():
                future.exception()
        for future in stopping:
            if not future.done():
                future.cancel()
            elif not future.cancelled():
                raised = raised or future.exception()
        return raised

    def abort(self) -> None:
        """Stop the workers at once and call nobody: for a stream that nobody will close."""
        self.closed = True
        try:
            for stage in self._dropped():
                if not is_async(stage.executor):
                    cast(Executor, stage.executor).stop(0)
                elif not self._completions.loop.is_closed():
                    self._stop_later(cast(AsyncExecutor, stage.executor))
            self.run.drop()
            self._plan.summarise()
            self._plan.finish_observers()
        finally:
            self._plan.done()

    def _stop_later(self, executor: AsyncExecutor) -> None:
        """Stop *executor* at once, as soon as the loop runs."""
        self._completions.loop.call_soon_threadsafe(lambda: asyncio.ensure_future(executor.stop(0)))


def _stop(stage: Stage, grace: float) -> asyncio.Future[None]:
    """Stop the executor of *stage*: in the loop if it lives there, or else beside it, where nothing cancels it."""
    executor = stage.executor
    if is_async(executor):
        return asyncio.ensure_future(cast(AsyncExecutor, executor).stop(grace))
    return _in_thread(cast(Executor, executor).stop, grace)


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
