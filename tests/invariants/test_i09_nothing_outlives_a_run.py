"""I9: no thread, process, descriptor, event loop or log handler outlives a run; the exceptions are counted."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
from collections.abc import Callable
from typing import Any

import pytest
from loguru import logger

from celestialflow_core import Stop, TaskManager, TooManyErrors, WorkerSetupError, hookimpl
from celestialflow_core.testing import Resources


def job(task: int) -> int:
    """Every fifth task fails."""
    if task % 5 == 3:
        raise ValueError(task)
    return task


def whole(manager: Any) -> None:
    """A run to its end."""
    manager.start(range(50))


def whole_stream(manager: Any) -> None:
    """A stream to its end."""
    assert len(list(manager.stream(range(50)))) == 50


def left_stream(manager: Any) -> None:
    """A stream that is left."""
    with manager.stream(itertools.count()) as outcomes:
        next(outcomes)


def dropped_stream(manager: Any) -> None:
    """A stream that is collected unclosed."""
    with pytest.warns(ResourceWarning, match="A stream was dropped"):
        for _outcome in manager.stream(itertools.count()):
            break
        gc.collect()


def raising_iterable(manager: Any) -> None:
    """An iterable that raises."""
    with pytest.raises(ZeroDivisionError):
        manager.start(1 // (5 - n) for n in range(10))


def awaited(manager: Any) -> None:
    """A run in the caller's loop."""
    asyncio.run(manager.start_async(range(50)))


def warm(manager: Any) -> None:
    """Two runs with one set of workers."""
    with manager:
        manager.start(range(20))
        manager.start(range(20))


ENDINGS: list[Callable[[Any], None]] = [
    whole,
    whole_stream,
    left_stream,
    dropped_stream,
    raising_iterable,
    awaited,
    warm,
]


@pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: ending.__name__)
def test_nothing_is_left(mode: Any, ending: Callable[[Any], None]) -> None:
    """However the run ends; the application's log handlers are as they were."""
    before, handlers = Resources(), repr(logger)
    manager = mode.manager(job, log_dir="logs", show_progress=True, log_level="SUCCESS")
    ending(manager)
    before.expect_no_leaks(lambda leak: "ThreadPoolExecutor" in leak)
    assert repr(logger) == handlers


@pytest.mark.parametrize("mode", ["serial", "thread", "async", "process"], indirect=True)
def test_nothing_is_left_of_a_run_that_could_not_begin(mode: Any) -> None:
    """Set-up that fails, an on_start hook that interrupts, a stop rule that is broken at once."""
    before, handlers = Resources(), repr(logger)

    def setup() -> None:
        raise ValueError

    class Impatient:
        @hookimpl
        def on_start(self) -> None:
            raise KeyboardInterrupt

    with pytest.raises(WorkerSetupError):
        mode.manager(job, worker_setup=setup, log_dir="logs").start(range(10))
    with pytest.raises(KeyboardInterrupt):
        mode.manager(job, plugins=[Impatient()], log_dir="logs").start(range(10))
    with pytest.raises(TooManyErrors):
        mode.manager(job, stop=Stop(errors=1, when="now"), log_dir="logs").start([3, 4, 5])
    before.expect_no_leaks()
    assert repr(logger) == handlers


def test_thread_that_cannot_be_ended_is_counted_and_named() -> None:
    """It is the exception: the summary counts it, the error names its task, and its late result is dropped."""
    gate = threading.Event()

    def stuck(task: int) -> int:
        if task == 0:
            gate.wait(60)
        return task

    before = Resources()
    manager: TaskManager[int, int] = TaskManager(
        stuck, "thread", 2, task_timeout=0.2, enable_error_cache=True, enable_success_cache=True, log_dir=None
    )
    summary = manager.start(range(5))
    assert (summary.abandoned, summary.failed, summary.succeeded) == (1, 1, 4)
    assert "task 0" in str(manager.error_dict[0])
    # The others end within moments; this one is left, and is the only one.
    before.expect_no_leaks(lambda leak: leak.startswith("thread 'celestialflow-thread-"))
    assert len([leak for leak in before.leaks() if leak.startswith("thread")]) == 1
    gate.set()
    before.expect_no_leaks()
    assert 0 not in manager.success_dict


@pytest.mark.parametrize("mode", ["serial", "thread", "async"], indirect=True)
def test_many_runs_in_a_row_leave_descriptors_and_threads_flat(mode: Any) -> None:
    """A hundred runs, each with a failing task."""
    manager = mode.manager(job, log_dir="logs")
    manager.start([3])
    before = Resources()
    for _ in range(100):
        assert manager.start([3, 4]).failed == 1
    before.expect_no_leaks()


def test_exit_is_not_held_up_by_an_abandoned_thread(child: Any) -> None:
    """The interpreter ends although a call is stuck."""
    source = """
import threading
from celestialflow_core import TaskManager
manager = TaskManager(lambda task: threading.Event().wait(), "thread", 1, task_timeout=0.2, log_dir=None)
print(manager.start([1]).abandoned)
"""
    with child(source) as process:
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "1\n"), err
