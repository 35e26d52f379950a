"""``with manager:`` keeps the workers from run to run; without it each run has its own."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celestialflow_core import TaskManager, current_worker
from celestialflow_core.testing import Resources

REQUEST: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")
OWN = pytest.mark.parametrize("mode", ["serial", "thread", "async", "process"], indirect=True)


def whoami(task: int) -> tuple[int, int]:
    """The process and the thread that run the task."""
    return os.getpid(), threading.get_ident()


def workers_of(manager: Any, tasks: Any) -> set[tuple[int, int]]:
    """Who ran *tasks*."""
    return {outcome.unwrap() for outcome in manager.stream(tasks)}


@OWN
def test_workers_stay_the_same_from_run_to_run(mode: Any) -> None:
    """The same threads, the same processes; at the end of the block they are gone."""
    before = Resources()
    manager = mode.manager(whoami, worker_limit=1)
    with manager as entered:
        assert entered is manager
        first = workers_of(manager, range(20))
        second = workers_of(manager, range(20))
        assert first == second
        assert len(first) == 1
        summary = manager.start(range(20))
        assert (summary.total, summary.succeeded) == (20, 20)
    before.expect_no_leaks()
    assert manager.start([1]).succeeded == 1


@OWN
def test_setup_runs_once_for_all_runs_of_the_block(mode: Any, own_folder: Path) -> None:
    """And its tear-down at the end of the block."""
    log = own_folder / "log"

    def setup() -> Iterator[str]:
        with log.open("a") as file:
            file.write("up ")
        yield "ready"
        with log.open("a") as file:
            file.write("down ")

    manager = mode.manager(lambda task: current_worker().state, worker_limit=1, worker_setup=setup)
    with manager:
        for _ in range(3):
            assert {outcome.unwrap() for outcome in manager.stream(range(5))} == {"ready"}
        assert log.read_text() == "up "
    assert log.read_text() == "up down "


@pytest.mark.parametrize("mode", ["serial", "thread", "async"], indirect=True)
def test_each_run_sees_the_context_of_its_caller(mode: Any) -> None:
    """Context variables of the second run are seen by the workers of the first; a call's changes stay in the call."""

    def job(task: int) -> str:
        seen = REQUEST.get()
        REQUEST.set(f"changed by {task}")
        return seen

    manager = mode.manager(job, worker_limit=1, enable_success_cache=True)
    token = REQUEST.set("outside")
    try:
        with manager:
            for request in ("one", "two"):
                inner = REQUEST.set(request)
                manager.start(range(3))
                if mode.name == "thread":
                    assert set(manager.success_dict.values()) == {request}
                assert manager.success_dict[0] == request
                REQUEST.reset(inner)
                assert REQUEST.get() == "outside"
    finally:
        REQUEST.reset(token)


def test_context_of_a_call_does_not_leak_into_the_next_one() -> None:
    """On threads each call has a copy of the caller's context."""

    def job(task: int) -> str:
        seen = REQUEST.get()
        REQUEST.set(f"changed by {task}")
        return seen

    manager: TaskManager[int, str] = TaskManager(job, "thread", 1, enable_success_cache=True, log_dir=None)
    manager.start(range(5))
    assert set(manager.success_dict.values()) == {"none"}


@OWN
def test_warm_async(mode: Any) -> None:
    """``async with manager:`` does the same for start_async and stream_async."""

    async def main() -> None:
        manager = mode.manager(whoami, worker_limit=1)
        async with manager as entered:
            assert entered is manager
            runs = []
            for _ in range(2):
                runs.append({outcome.unwrap() async for outcome in manager.stream_async(range(20))})
            assert runs[0] == runs[1]
            assert len(runs[0]) == 1
            assert (await manager.start_async(range(5))).succeeded == 5

    before = Resources()
    asyncio.run(main())
    before.expect_no_leaks()


@OWN
def test_run_that_ends_early_starts_new_workers(mode: Any) -> None:
    """After a stream was left in the middle the block goes on, with nothing of the old run in the new one."""
    with mode.manager(whoami, worker_limit=1) as manager:
        with manager.stream(range(10_000)) as outcomes:
            next(outcomes)
        outcomes_of_next = list(manager.stream(range(20)))
        assert sorted(outcome.task for outcome in outcomes_of_next) == list(range(20))
        assert all(outcome.ok for outcome in outcomes_of_next)


@OWN
def test_iterable_that_raises_leaves_a_warm_manager_usable(mode: Any) -> None:
    """The error comes out; the next run of the block is whole."""

    def tasks() -> Iterator[int]:
        yield from range(5)
        raise LookupError

    with mode.manager(whoami, worker_limit=1) as manager:
        with pytest.raises(LookupError):
            manager.start(tasks())
        assert manager.start(range(5)).succeeded == 5


def test_blocks_can_be_nested() -> None:
    """The workers stay until the outermost is left."""
    manager: TaskManager[int, Any] = TaskManager(whoami, "thread", 1, log_dir=None)
    with manager:
        with manager:
            first = workers_of(manager, range(3))
        assert workers_of(manager, range(3)) == first


def test_another_function_gets_other_workers() -> None:
    """The function that is set on the manager counts, also inside a block."""
    manager: TaskManager[int, Any] = TaskManager(abs, "thread", 1, enable_success_cache=True, log_dir=None)
    with manager:
        manager.start([-1])
        manager.func = str
        manager.start([-1])
        assert manager.success_dict == {-1: "-1"}


async def twice(task: int) -> int:
    return 2 * task


async def minus(task: int) -> int:
    return -task


def test_another_function_gets_other_workers_in_async_too() -> None:
    """Those that it replaces are stopped when the block ends, and not forgotten."""
    ended: list[str] = []

    async def setup() -> Any:
        yield
        ended.append("torn down")

    async def main() -> list[Any]:
        manager: Any = TaskManager(twice, worker_setup=setup, enable_success_cache=True, log_dir=None)
        values = []
        async with manager:
            for function in (twice, minus):
                manager.func = function
                await manager.start_async([1])
                values.append(manager.get_success_dict()[1])
        return values

    assert asyncio.run(main()) == [2, -1]
    assert ended == ["torn down", "torn down"]


def test_workers_of_another_loop_are_refused() -> None:
    """The message says where they are; in their own loop they go on working."""
    with asyncio.Runner() as first, asyncio.Runner() as second:
        manager: Any = TaskManager(twice, log_dir=None)
        first.run(manager.__aenter__())
        assert first.run(manager.start_async([1])).succeeded == 1
        with pytest.raises(RuntimeError, match="in the event loop in which its 'async with' block began"):
            second.run(manager.start_async([1]))
        assert first.run(manager.start_async([1])).succeeded == 1
        first.run(manager.__aexit__(None, None, None))


def test_pool_of_the_user_is_never_shut_down() -> None:
    """It runs further managers, and the user's own calls."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(2) as pool:
        for _ in range(2):
            manager: TaskManager[int, int] = TaskManager(abs, pool, log_dir=None)
            with manager:
                assert manager.start(range(5)).succeeded == 5
            assert pool.submit(abs, -3).result() == 3


def test_factory_of_pools_is_called_for_each_run() -> None:
    """What it made is shut down by us."""
    from concurrent.futures import ThreadPoolExecutor

    made: list[Any] = []

    def make() -> Any:
        made.append(ThreadPoolExecutor(2))
        return made[-1]

    manager: TaskManager[int, int] = TaskManager(abs, make, log_dir=None)
    assert manager.start(range(5)).succeeded == 5
    assert manager.start(range(5)).succeeded == 5
    assert len(made) == 2
    for pool in made:
        with pytest.raises(RuntimeError):
            pool.submit(abs, 1)
