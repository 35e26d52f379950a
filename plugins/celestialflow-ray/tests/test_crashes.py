"""Workers that die: who is charged, and that the run goes on."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from celestialflow_core import TaskManager
from celestialflow_core.errors import TaskTimeout, WorkerCrashed, WorkerSetupError
from celestialflow_core.testing import wait_until
from celestialflow_ray._cluster import RayCluster
from celestialflow_ray._members import Member
from celestialflow_ray._options import RayOptions

pytestmark = pytest.mark.usefixtures("local_ray")


def manager(func: Any, **options: Any) -> TaskManager[Any, Any]:
    """A manager that keeps results, and writes no log."""
    given: dict[str, Any] = {"execution_mode": "ray", "log_dir": None, **options}
    return TaskManager(func, enable_success_cache=True, enable_error_cache=True, **given)


def die(how: str) -> None:
    """End this process."""
    if how == "exit":
        os._exit(3)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "segfault":
        import ctypes

        ctypes.string_at(0)


@pytest.mark.parametrize("how", ["exit", "kill", "segfault"])
def test_task_that_ends_its_worker_is_charged_alone(how: str) -> None:
    """The innocents of its batch run again."""

    def work(number: int) -> int:
        if number == 300:
            die(how)
        return number

    work_and_die = manager(work, worker_limit=2)
    summary = work_and_die.start(range(1000))

    errors = work_and_die.get_error_dict()
    assert list(errors) == [300]
    assert isinstance(errors[300], WorkerCrashed)
    assert "task 300" in str(errors[300])
    assert "\x1b" not in str(errors[300])
    assert (summary.succeeded, summary.failed) == (999, 1)


def test_crash_is_retried_where_it_is_listed(tmp_path: Path) -> None:
    """A task that ends its worker once succeeds the second time."""

    def work(number: int) -> int:
        if number == 5 and len(list(tmp_path.iterdir())) < 2:
            (tmp_path / str(time.time_ns())).touch()
            os._exit(1)
        return number

    summary = manager(work, max_retries=2, retry_exceptions=(WorkerCrashed,)).start(range(10))

    assert (summary.succeeded, summary.failed) == (10, 0)


def test_workers_that_are_killed_at_random_lose_no_task(tmp_path: Path) -> None:
    """Whoever kills them from outside: each task has one outcome, and goes on as long as a worker comes back."""

    def work(number: int) -> int:
        (tmp_path / str(os.getpid())).touch()
        time.sleep(0.002)
        return number

    over = threading.Event()
    killed = 0

    def kill_now_and_then() -> None:
        nonlocal killed
        dice = random.Random(7)
        while not over.wait(dice.uniform(0.2, 0.6)):
            pids = [int(path.name) for path in tmp_path.iterdir()]
            if pids and killed < 3:
                pid = dice.choice(pids)
                (tmp_path / str(pid)).unlink()
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed += 1

    killer = threading.Thread(target=kill_now_and_then)
    killer.start()
    one = manager(work, worker_limit=2)
    try:
        summary = one.start(range(1500))
    finally:
        over.set()
        killer.join()

    assert killed > 0
    assert summary.total == 1500 == summary.succeeded + summary.failed
    assert all(isinstance(error, WorkerCrashed) for error in one.get_error_dict().values())
    # A task is charged only if its worker is killed while it is alone there.
    assert summary.failed <= killed
    assert set(one.get_success_dict()) | set(one.get_error_dict()) == set(range(1500))


@pytest.mark.soak
def test_worker_that_holds_the_interpreter_lock_is_ended_too() -> None:
    """It cannot even say that it is stuck."""

    def work(number: int) -> int:
        if number == 1:
            import ctypes

            ctypes.PyDLL(None).sleep(600)
        return number

    one = manager(work, task_timeout=0.5, max_retries=0, worker_limit=2)
    # The first calls make the workers known; one that has never answered is given a minute.
    with one:
        one.start([10, 11, 12, 13])
        summary = one.start([0, 1, 2, 3])

    assert (summary.succeeded, summary.failed) == (3, 1)
    assert isinstance(one.get_error_dict()[1], TaskTimeout)


def test_worker_that_cannot_make_its_station_ends_the_run() -> None:
    """As where its Python is another: no call of the run could be run there."""
    cluster = RayCluster(RayOptions(worker_limit=1))
    cluster.open(b"of another Python", lambda: None, kills=False)
    try:
        (worker,) = wait_until(cluster.workers, 60)
        assert isinstance(worker, Member)
        cluster.enlist(worker, 0)
        with pytest.raises(WorkerSetupError, match="cannot take the run's function"):
            wait_until(lambda: not cluster.workers(), 60)
    finally:
        cluster.close(0.0)
