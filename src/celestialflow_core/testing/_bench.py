"""Drives one executor as the driver does, of either kind, so that the contract is written once."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic, sleep
from typing import Any, TypeVar

from celestialflow_core._call import Call, Calls, Delivery, Result, Successes, parts
from celestialflow_core.executors.interface import AsyncExecutor, Executor, Work

__all__ = ["Bench"]

T = TypeVar("T")


class Bench:
    """An executor, what was submitted to it, and what it delivered.

    Args:
        executor: An `Executor`, or an `AsyncExecutor`, which is run in a loop of the bench's own.
        patience: Seconds to wait for what must come.
    """

    def __init__(self, executor: Executor | AsyncExecutor, patience: float) -> None:
        self.executor: Any = executor
        self.patience = patience
        self.capabilities: frozenset[str] = executor.capabilities
        self.loop = asyncio.new_event_loop() if inspect.iscoroutinefunction(executor.start) else None
        self.results: list[Result] = []
        self.submitted = 0
        self.ended_by: BaseException | None = None
        """The error of a result with the id -1, by which an executor ends the run."""
        self.late: list[Delivery] = []
        """What was delivered after ``stop`` had returned."""
        self._deliveries: SimpleQueue[Delivery] = SimpleQueue()
        self._starts = 0
        self._stopped = 0
        """Which of the starts is the last whose ``stop`` has returned."""

    @property
    def inline(self) -> bool:
        """Whether calls run inside of ``submit``."""
        return "inline" in self.capabilities

    @property
    def is_async(self) -> bool:
        """Whether the executor is an `AsyncExecutor`."""
        return self.loop is not None

    def start(
        self,
        func: Callable[..., Any],
        *,
        setup: Callable[[], Any] | None = None,
        timeout: float | None = None,
    ) -> Bench:
        """Start the executor with *func*, or with its coroutine counterpart; again, after it was stopped."""
        work = Work(self._suitable(func), setup, timeout, contextvars.copy_context())
        self._starts += 1
        started = self.executor.start(work, partial(self._deliver, self._starts))
        if self.loop is not None:
            self._run(started)
        return self

    def _suitable(self, func: Callable[..., Any]) -> Callable[..., Any]:
        if self.loop is None:
            return func
        counterpart: Callable[..., Any] | None = getattr(func, "coroutine", None)
        if counterpart is not None:
            return counterpart

        async def coroutine(*args: Any) -> Any:
            return func(*args)

        return coroutine

    def _deliver(self, start: int, delivery: Delivery) -> None:
        if start <= self._stopped:
            self.late.append(delivery)
        self._deliveries.put(delivery)

    def submit(self, calls: Sequence[Call]) -> None:
        """Submit *calls*, in the loop if there is one."""
        self.submitted += len(calls)
        if self.loop is None:
            self.executor.submit(calls)
        else:
            self._run(self._soon(calls))

    async def _soon(self, calls: Sequence[Call]) -> None:
        self.executor.submit(calls)

    def feed(self, args: Sequence[tuple[Any, ...]], form: str = "columns") -> None:
        """Submit calls with *args* as slots become free, and wait for all their results.

        Args:
            args: The arguments of each call; its id is its position, after those that were fed before.
            form: "columns" and "calls" submit what fits at a time; "singly" one call at a time.
        """
        first = self.submitted
        given = 0
        while given < len(args):
            assert self.ended_by is None, f"The executor ended the run: {self.ended_by!r}"
            free = self.wait(lambda: max(0, self.free_slots()))
            most = 1 if form == "singly" else free
            chunk = args[given : given + most]
            ids = range(first + given, first + given + len(chunk))
            self.submit(list(map(Call, ids, chunk)) if form == "calls" else Calls(ids, chunk))
            given += len(chunk)
            self.take()
        self.wait_for_all()

    def free_slots(self) -> int:
        """How many calls the executor would take now; ``slots`` is never below 1."""
        assert isinstance(self.executor.slots, int), f"slots must be an int, it is {self.executor.slots!r}."
        assert self.executor.slots >= 1, f"slots must be at least 1 at all times, it is {self.executor.slots!r}."
        return int(self.executor.slots) - (self.submitted - len(self.results))

    def take(self) -> None:
        """Look at all that has been delivered by now."""
        while True:
            try:
                delivery = self._deliveries.get_nowait()
            except Empty:
                return
            for part in parts(delivery):
                results = list(part) if isinstance(part, Successes) else [part]
                for result in results:
                    if result.id == -1:
                        self.ended_by = result.error
                    else:
                        self.results.append(result)

    def step(self) -> None:
        """Let the executor do something, and look at what it delivers."""
        if self.loop is not None:
            self._run(asyncio.sleep(0.001))
        elif self.inline:
            self.executor.submit(())
        elif self._deliveries.empty():
            sleep(0.001)
        self.take()

    def wait(self, condition: Callable[[], T]) -> T:
        """Step until *condition* is true."""
        deadline = monotonic() + self.patience
        while True:
            self.take()
            value = condition()
            if value:
                return value
            assert monotonic() < deadline, (
                f"Not within {self.patience:g} s: of {self.submitted} calls, {len(self.results)} were delivered"
                + (f", and the run was ended by {self.ended_by!r}." if self.ended_by else ".")
            )
            self.step()

    def wait_for_all(self) -> None:
        """Wait until as many results have come as calls were submitted."""
        self.wait(lambda: len(self.results) >= self.submitted)

    def by_id(self) -> dict[int, Result]:
        """The results by id, after checking that each call was delivered once, and no other."""
        times = Counter(result.id for result in self.results)
        twice = sorted(id for id, number in times.items() if number > 1)
        assert not twice, "Delivered more than once."
        strange = sorted(id for id in times if not 0 <= id < self.submitted)
        assert not strange, "Delivered, but never submitted."
        return {result.id: result for result in self.results}

    def stop(self, grace: float = 5.0) -> float:
        """Stop the executor, and give how many seconds that took."""
        begin = monotonic()
        stopping = self.executor.stop(grace)
        if self.loop is not None:
            self._run(stopping)
        return self._stopping_took(begin)

    def stop_impatiently(self, grace: float) -> float:
        """Stop with *grace*, change one's mind and stop with none; give how many seconds passed from there on."""
        if self.loop is not None:
            return self._run(self._stop_impatiently(grace))
        first = Thread(target=self.executor.stop, args=(grace,), name="first stop")
        first.start()
        try:
            first.join(0.3)
            assert first.is_alive(), f"stop({grace:g}) did not wait for the call that was running."
            begin = monotonic()
        finally:
            self.executor.stop(0.0)
            first.join()
        return self._stopping_took(begin)

    async def _stop_impatiently(self, grace: float) -> float:
        first = asyncio.ensure_future(self.executor.stop(grace))
        done, _ = await asyncio.wait([first], timeout=0.3)
        assert not done, f"stop({grace:g}) did not wait for the call that was running."
        begin = monotonic()
        await self.executor.stop(0.0)
        await first
        return self._stopping_took(begin)

    def _stopping_took(self, begin: float) -> float:
        self._stopped = self._starts
        self.take()
        return monotonic() - begin

    def close(self) -> None:
        """Stop, and close the loop with all that is left in it."""
        try:
            self.stop()
        finally:
            if self.loop is not None:
                tasks = asyncio.all_tasks(self.loop)
                for task in tasks:
                    task.cancel()
                self._run(_ended(tasks))
                self._run(self.loop.shutdown_asyncgens())
                self.loop.close()

    def _run(self, awaitable: Coroutine[Any, Any, T]) -> T:
        assert self.loop is not None
        return self.loop.run_until_complete(awaitable)


async def _ended(tasks: set[asyncio.Task[Any]]) -> None:
    waiting: Awaitable[Any] = asyncio.gather(*tasks, return_exceptions=True)
    await waiting
