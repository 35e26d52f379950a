"""worker_setup and current_worker, in every mode that has them; and time limits."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from celestialflow_core import TaskAbandoned, TaskManager, TaskTimeout, WorkerSetupError, current_worker
from celestialflow_core.testing import wait_until

OWN = pytest.mark.parametrize("mode", ["serial", "thread", "async", "process"], indirect=True)
TIMED = pytest.mark.parametrize("mode", ["thread", "async", "process"], indirect=True)


def report(task: int) -> tuple[int, Any]:
    """What the worker is."""
    worker = current_worker()
    return worker.index, worker.state


@OWN
def test_setup_gives_the_state_of_each_worker(mode: Any) -> None:
    """What the function returns is current_worker().state, beside the index."""
    manager = mode.manager(report, worker_setup=lambda: ["connection"], enable_success_cache=True)
    manager.start(range(30))
    values = manager.success_dict.values()
    assert {tuple(state) for _, state in values} == {("connection",)}
    assert {index for index, _ in values} <= {0, 1}


@OWN
def test_generator_setup_is_torn_down_at_the_end_of_the_run(mode: Any, own_folder: Path) -> None:
    """Once for each that began, also after an early end."""
    log = own_folder / "log"

    def setup() -> Iterator[str]:
        with log.open("a") as file:
            file.write("up ")
        try:
            yield "ready"
        finally:
            with log.open("a") as file:
                file.write("down ")

    manager = mode.manager(report, worker_setup=setup)
    assert {outcome.unwrap()[1] for outcome in manager.stream(range(10))} == {"ready"}
    words = log.read_text().split()
    assert words.count("up") == words.count("down") >= 1
    with manager.stream(range(10_000)) as outcomes:
        next(outcomes)
    words = log.read_text().split()
    assert words.count("up") == words.count("down") >= 2


@OWN
@pytest.mark.parametrize("how", ["raises", "generator raises", "yields nothing"])
def test_setup_that_fails_ends_the_run_and_is_charged_to_no_task(mode: Any, how: str) -> None:
    """WorkerSetupError with the traceback; no task has an error."""

    def raising() -> None:
        raise ValueError("no database here")

    def generator() -> Iterator[None]:
        raise ValueError("no database here")
        yield

    def empty() -> Iterator[None]:
        yield from ()

    setup = {"raises": raising, "generator raises": generator, "yields nothing": empty}[how]
    manager = mode.manager(report, worker_setup=setup, enable_error_cache=True)
    with pytest.raises(WorkerSetupError) as raised:
        manager.start(range(10))
    words = "yielded nothing" if how == "yields nothing" else "no database here"
    assert words in str(raised.value)
    assert manager.error_dict == {}
    if manager.summary is not None:
        assert manager.summary.failed == 0
        assert manager.summary.total == manager.summary.cancelled


def test_setup_may_be_a_coroutine_function_or_an_async_generator_in_async_mode() -> None:
    """It is awaited in the loop of the calls."""
    log: list[str] = []

    async def connect() -> str:
        await asyncio.sleep(0)
        return "connected"

    async def session() -> AsyncIterator[str]:
        log.append("up")
        yield "session"
        log.append("down")

    async def job(task: int) -> Any:
        return current_worker().state

    for setup, state in ((connect, "connected"), (session, "session")):
        manager: TaskManager[int, Any] = TaskManager(job, worker_setup=setup, enable_success_cache=True, log_dir=None)
        manager.start(range(3))
        assert set(manager.success_dict.values()) == {state}
    assert log == ["up", "down"]


def test_current_worker_works_only_in_a_task() -> None:
    """Outside it says so; after a serial run it is as before."""
    manager: TaskManager[int, Any] = TaskManager(report, enable_success_cache=True, log_dir=None)
    manager.start([1])
    assert manager.success_dict == {1: (0, None)}
    with pytest.raises(RuntimeError, match="current_worker.. works only inside a task, or in worker_setup"):
        current_worker()


@OWN
def test_current_worker_is_known_during_setup(mode: Any) -> None:
    """The set-up may choose by the index: a GPU, a port."""
    manager = mode.manager(report, worker_limit=1, worker_setup=lambda: f"gpu {current_worker().index}")
    assert {outcome.unwrap() for outcome in manager.stream(range(5))} == {(0, "gpu 0")}


@TIMED
def test_task_that_hangs_is_its_own_error_and_the_others_go_on(mode: Any, own_folder: Path) -> None:
    """At the limit, with the limit in the message; every other task has its value."""
    release = own_folder / "release"

    def job(task: int) -> Any:
        if task in (3, 11):
            if mode_name == "async":
                return asyncio.sleep(60)
            wait_until(release.exists)
        return task

    mode_name = mode.name
    manager = mode.manager(job, task_timeout=0.4, max_retries=0)
    outcomes = {outcome.task: outcome for outcome in manager.stream(range(20))}
    release.touch()
    assert {task for task, outcome in outcomes.items() if not outcome.ok} == {3, 11}
    for task in (3, 11):
        error = outcomes[task].error
        assert type(error) is (TaskAbandoned if mode.name == "thread" else TaskTimeout)
        assert f"task {task} ran longer than task_timeout=0.4 s" in str(error)
        assert outcomes[task].seconds >= 0.4
    assert manager.summary.abandoned == (2 if mode.name == "thread" else 0)


@TIMED
def test_timeout_is_retried_unless_the_first_try_may_still_run(mode: Any, own_folder: Path) -> None:
    """A killed or cancelled try is tried again by default; an abandoned one only where it is listed by name."""
    marker = own_folder / "tried"

    def job(task: int) -> Any:
        first = not marker.exists()
        marker.touch()
        if first:
            if mode_name == "async":
                return asyncio.sleep(60)
            time.sleep(1.0)
        return task

    mode_name = mode.name
    manager = mode.manager(job, task_timeout=0.3)
    (outcome,) = manager.stream([1])
    if mode.name != "thread":
        assert (outcome.status, outcome.attempts) == ("success", 2)
        return
    assert (outcome.status, outcome.attempts) == ("error", 1)
    marker.unlink()
    manager.add_retry_exceptions(TaskAbandoned)
    (outcome,) = manager.stream([1])
    assert (outcome.status, outcome.attempts) == ("success", 2)


@TIMED
def test_limit_counts_from_the_start_of_the_call(mode: Any) -> None:
    """Tasks that wait behind others, longer than the limit in all, are not late."""

    def job(task: int) -> Any:
        if mode_name == "async":
            return asyncio.sleep(0.15)
        return time.sleep(0.15)

    mode_name = mode.name
    manager = mode.manager(job, worker_limit=1, task_timeout=1.0)
    assert manager.start(range(10)).failed == 0


def test_abandoned_thread_delivers_nothing_any_more() -> None:
    """The late result is dropped, and the next call has the place of the old one."""
    gate, ended = threading.Event(), threading.Event()

    def job(task: int) -> int:
        if task == 0:
            gate.wait(60)
            ended.set()
        return task

    manager: TaskManager[int, int] = TaskManager(
        job, "thread", 1, task_timeout=0.2, enable_success_cache=True, enable_error_cache=True, log_dir=None
    )
    summary = manager.start(range(5))
    gate.set()
    assert ended.wait(30)
    assert sorted(manager.success_dict) == [1, 2, 3, 4]
    assert list(manager.error_dict) == [0]
    assert (summary.abandoned, summary.failed) == (1, 1)
    assert "gate.wait(60)" in str(manager.error_dict[0])


def test_coroutine_that_swallows_its_cancellation_is_abandoned() -> None:
    """It is the task's error, counted, and the run returns."""

    async def job(task: int) -> int:
        if task == 0:
            for _ in range(8):
                try:
                    await asyncio.sleep(0.25)
                except asyncio.CancelledError:
                    pass
        return task

    manager: TaskManager[int, int] = TaskManager(
        job, "async", 1, task_timeout=0.2, enable_error_cache=True, log_dir=None, grace=0.1
    )
    summary = manager.start(range(3))
    assert isinstance(manager.error_dict[0], TaskAbandoned)
    assert (summary.succeeded, summary.failed, summary.abandoned) == (2, 1, 1)


def test_coroutine_that_blocks_the_loop_is_charged_to_nobody_else() -> None:
    """Limits are judged by the time in which the loop could run the call."""

    async def job(task: int) -> int:
        if task == 0:
            time.sleep(0.8)
        else:
            await asyncio.sleep(0.05)
        return task

    manager: TaskManager[int, int] = TaskManager(job, "async", 4, task_timeout=0.5, enable_error_cache=True)
    manager.start(range(4))
    assert set(manager.error_dict) <= {0}
