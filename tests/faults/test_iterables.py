"""Iterables that raise, never end, are slow, or are async, in every mode (faults.md, 26 to 29).

Of ``start`` and ``stream`` most is asserted in `tests/_manager/test_streams.py`; here is what became of every task.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

import pytest

from celestialflow_core import TaskManager
from celestialflow_core.testing import Resources, wait_until

ALL = pytest.mark.parametrize("mode", ["serial", "thread", "async", "process"], indirect=True)


def quick(task: int) -> int:
    """A task of two milliseconds."""
    time.sleep(0.002)
    return task


class Mine(BaseException):
    """No Exception, and no Ctrl-C."""


@ALL
@pytest.mark.parametrize("error", [LookupError, Mine, SystemExit])
@pytest.mark.parametrize("how", ["start", "stream", "start_async"])
def test_iterable_that_raises_loses_nothing_that_it_gave(
    mode: Any, account: Callable[..., None], error: type[BaseException], how: str
) -> None:
    """26: everything taken before is delivered first, then the very exception is raised, whatever it is."""
    raised = error("of the iterable")

    def tasks() -> Iterator[int]:
        yield from range(10)
        raise raised

    manager = mode.manager(quick, enable_success_cache=True, enable_error_cache=True)
    seen: list[int] = []
    caught: BaseException | None = None
    try:
        if how == "start":
            manager.start(tasks())
        elif how == "start_async":
            asyncio.run(manager.start_async(tasks()))
        else:
            seen += (outcome.task for outcome in iter(manager.stream(tasks())))
    except BaseException as one:
        caught = one
    assert caught is raised
    assert manager.success_dict == {task: task for task in range(10)}
    assert manager.summary.cancelled == 0
    account(manager, 10)
    assert manager.start([1]).succeeded == 1


@ALL
@pytest.mark.parametrize("ordered", [False, True])
def test_endless_iterable_is_pulled_no_further_than_the_bound(
    mode: Any, account: Callable[..., None], resources: Resources, ordered: bool
) -> None:
    """27: twenty outcomes taken, at most max_in_flight pulled beyond them, and nothing left within the grace."""
    pulled: list[int] = []

    def tasks() -> Iterator[int]:
        for task in itertools.count():
            pulled.append(task)
            yield task

    manager = mode.manager(quick, max_in_flight=10, grace=5, enable_success_cache=True)
    with manager.stream(tasks(), ordered=ordered) as outcomes:
        for taken, _ in enumerate(outcomes, 1):
            assert len(pulled) <= taken + 10
            if taken == 20:
                break
        left = time.monotonic()
    assert time.monotonic() - left < 5
    resources.expect_no_leaks()
    account(manager, len(pulled))
    assert len(pulled) <= 30


@pytest.mark.parametrize("mode", ["serial", "thread", "async"], indirect=True)
def test_slow_iterable_holds_back_only_what_finishes_during_a_pull(mode: Any) -> None:
    """28: what is ready is handed over before each pull."""
    taken: list[int] = []
    behind: list[int] = []
    done: set[int] = set()

    def job(task: int) -> int:
        done.add(task)
        return task

    def tasks() -> Iterator[int]:
        for task in range(4):
            behind.append(task - len(taken))
            if mode.parallel and task:
                wait_until(partial(done.issuperset, [task - 1]))
                time.sleep(0.1)  # in which what it has returned arrives
            yield task

    manager = mode.manager(job)

    for outcome in manager.stream(tasks()):
        taken.append(outcome.task)
    assert sorted(taken) == list(range(4))
    assert max(behind) <= 1  # the one that was given last, which finishes during the pull


class Tasks:
    """An async iterable that says how far it has been pulled, and that it has been closed."""

    def __init__(self) -> None:
        self.pulled = 0
        self.closed = False

    async def give(self) -> AsyncIterator[int]:
        """Endless."""
        try:
            while True:
                self.pulled += 1
                yield self.pulled
                await asyncio.sleep(0)
        finally:
            self.closed = True


@ALL
def test_async_iterable_left_early_is_accounted_for(mode: Any, account: Callable[..., None]) -> None:
    """29: pulled lazily, closed with its loop, and of what was pulled nothing is lost but the pull under way."""
    tasks = Tasks()
    manager = mode.manager(quick, max_in_flight=10, enable_success_cache=True)

    async def main() -> None:
        taken = 0
        async with manager.stream_async(tasks.give()) as outcomes:
            async for _ in outcomes:
                taken += 1
                assert tasks.pulled <= taken + 10 + 1  # the next one is asked for beside the run
                if taken == 20:
                    break

    asyncio.run(main())
    assert tasks.closed
    account(manager)
    assert tasks.pulled - 1 <= manager.summary.total <= tasks.pulled


@ALL
def test_async_iterable_is_refused_where_nobody_can_await_it(mode: Any) -> None:
    """29: start and stream say what to use, and the manager stays usable."""
    manager = mode.manager(quick)
    tasks = Tasks()
    for run in (manager.start, manager.stream):
        with pytest.raises(TypeError, match="start_async or stream_async"):
            run(tasks.give())
    assert tasks.pulled == 0
    assert manager.start([1]).succeeded == 1


def test_iterable_that_blocks_delays_only_itself() -> None:
    """28: while a pull waits, the workers finish what they have."""
    release, done = threading.Event(), []

    def job(task: int) -> int:
        done.append(task)
        return task

    def tasks() -> Iterator[int]:
        yield from range(6)
        wait_until(lambda: len(done) == 6)
        release.set()
        yield 6

    manager: TaskManager[int, int] = TaskManager(job, "thread", 2, log_dir=None)
    assert manager.start(tasks()).succeeded == 7
    assert release.is_set()
