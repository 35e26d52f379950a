"""Tasks that do to their worker what no function should, each its own error (faults.md, 7, 9 and 30)."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from celestialflow_core import TaskManager, TaskTimeout, WorkerCrashed
from celestialflow_core.testing import Resources

BAD = 7


def becomes_another_program(task: int) -> None:
    """The process stays, and there is no worker in it any more."""
    os.execv("/bin/true", ["true"])


def kills_its_group(task: int) -> None:
    """A group of its own, or it would be the program's."""
    os.setsid()
    os.killpg(0, signal.SIGKILL)


def is_alarmed(task: int) -> None:
    """By a signal that ends a process which has no handler."""
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    signal.pause()


def puts_other_files_in_the_place_of_ours(task: int) -> None:
    """Every descriptor above 2 is another file afterwards."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(3, 64):
        if fd != null:
            os.dup2(null, fd)


def breaks_the_standard_library(task: int) -> None:
    """Nothing can be pickled in this process any more."""
    import pickle

    pickle.dumps = None  # type: ignore[assignment]  # the misdeed


def exits_later(task: int) -> None:
    """A thread that it leaves behind ends the process while it still runs."""
    threading.Timer(0.05, lambda: os._exit(9)).start()
    time.sleep(30)


SCENES: list[Callable[[int], None]] = [
    becomes_another_program,
    kills_its_group,
    is_alarmed,
    puts_other_files_in_the_place_of_ours,
    breaks_the_standard_library,
    exits_later,
]


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_strange_task_is_charged_and_nobody_else(scene: Callable[[int], None], account: Any) -> None:
    """One WorkerCrashed; every other task succeeds, whatever ran or waited in the same worker."""

    def job(task: int) -> int:
        if task == BAD:
            scene(task)
        return task

    manager: TaskManager[int, int] = TaskManager(
        job, "process", 2, max_retries=0, enable_success_cache=True, enable_error_cache=True, log_dir=None
    )
    summary = manager.start(range(40))
    assert list(manager.error_dict) == [BAD]
    assert isinstance(manager.error_dict[BAD], WorkerCrashed)
    assert summary.crashes == 1
    account(manager, 40)


def test_worker_that_is_stopped_is_ended_at_the_time_limit() -> None:
    """SIGSTOP: the process does nothing, not even answer where it is stuck."""

    def job(task: int) -> int:
        if task == BAD:
            os.kill(os.getpid(), signal.SIGSTOP)
        return task

    manager: TaskManager[int, int] = TaskManager(
        job, "process", 2, max_retries=0, task_timeout=0.5, enable_error_cache=True, log_dir=None
    )
    assert manager.start(range(20)).succeeded == 19
    assert type(manager.error_dict[BAD]) is TaskTimeout


def test_worker_that_is_stopped_and_continued_has_missed_nothing() -> None:
    """SIGSTOP and SIGCONT, as a debugger or an administrator does it."""

    def job(task: int) -> int:
        if task == BAD:
            pid = os.getpid()
            if os.fork() == 0:
                time.sleep(0.3)
                os.kill(pid, signal.SIGCONT)
                os._exit(0)
            os.kill(pid, signal.SIGSTOP)
            os.wait()
        return task

    manager: TaskManager[int, int] = TaskManager(job, "process", 2, max_retries=0, log_dir=None)
    summary = manager.start(range(20))
    assert (summary.succeeded, summary.reruns, summary.crashes) == (20, 0, 0)


def test_stopped_worker_does_not_hold_up_the_end_beyond_the_grace() -> None:
    """Idle and stopped, it cannot leave by itself: it is ended, and nothing is left."""
    before = Resources()

    def job(task: int) -> int:
        return os.getpid()

    manager: TaskManager[int, int] = TaskManager(job, "process", 1, grace=0.5, enable_success_cache=True, log_dir=None)
    with manager:
        manager.start([1])
        os.kill(manager.success_dict[1], signal.SIGSTOP)
        begin = time.monotonic()
    assert time.monotonic() - begin < 8
    before.expect_no_leaks()


@pytest.mark.skipif(sys.platform != "linux", reason="the signals have these numbers on Linux")
@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGTERM])
def test_signal_is_named(number: signal.Signals) -> None:
    """Whatever ends a worker, the error says its name."""

    def job(task: int) -> int:
        if task == BAD:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        return task

    manager: TaskManager[int, int] = TaskManager(
        job, "process", 2, max_retries=0, enable_error_cache=True, log_dir=None
    )
    assert manager.start(range(10)).succeeded == 9
    assert f"got {number.name} while running task 7" in str(manager.error_dict[BAD])
