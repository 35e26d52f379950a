"""What goes wrong with a cluster, and what the user is told."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

from celestialflow_core import TaskManager
from celestialflow_core.errors import CelestialFlowError, WorkerCrashed, WorkerSetupError
from celestialflow_core.testing import Resources, wait_until
from celestialflow_dask._cluster import ConnectionLost


def test_scheduler_that_is_not_there_is_an_error_within_seconds() -> None:
    """It says where nobody answers, and what to do; no task has been taken."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    manager = TaskManager(int, "dask", log_dir=None, executor_options={"address": address})
    before, begun = Resources(), time.monotonic()

    with pytest.raises(WorkerSetupError, match=f"No Dask scheduler could be reached at '{address}'.*Start one there"):
        manager.start(["1"])
    assert time.monotonic() - begun < 30
    before.expect_no_leaks()


def test_address_that_is_none_is_refused_in_the_same_way() -> None:
    """A scheme that Dask does not know."""
    manager = TaskManager(int, "dask", log_dir=None, executor_options={"address": "http://127.0.0.1:1"})

    with pytest.raises(WorkerSetupError, match="No Dask scheduler could be reached at 'http://127.0.0.1:1'"):
        manager.start(["1"])


def test_scheduler_that_goes_away_ends_the_run_with_every_task_accounted_for(apart: Any) -> None:
    """What had come back counts, the rest is cancelled, and no task is charged with it."""
    apart.worker()
    manager = TaskManager(
        _nap(), "dask", log_dir=None, enable_success_cache=True, executor_options={"address": apart.address}
    )

    def kill() -> None:
        wait_until(lambda: manager.counts.succeeded >= 5, 60)
        apart.scheduler.send_signal(signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(ConnectionLost, match="The Dask scheduler has gone away") as raised:
        manager.start(range(1000))
    killer.join()

    assert isinstance(raised.value, ConnectionError)
    summary = manager.summary
    assert summary is not None
    assert summary.failed == summary.crashes == 0
    assert summary.succeeded == len(manager.get_success_dict()) >= 5
    assert summary.succeeded + summary.cancelled == summary.total


def test_worker_needs_nothing_of_ours_to_be_installed(apart: Any, tmp_path: Path) -> None:
    """In an environment where neither package can be imported, results are the same."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nsys.modules['celestialflow_core'] = sys.modules['celestialflow_dask'] = None\n"
    )
    environ = {"PATH": "", "PYTHONPATH": str(tmp_path)}
    apart.worker(env=environ, cwd=tmp_path)

    def double(task: int) -> int:
        import sys

        if sys.modules.get("celestialflow_core", sys) is not None:
            raise RuntimeError("it is installed after all")
        return 2 * task

    manager = TaskManager(
        double, "dask", log_dir=None, enable_success_cache=True, executor_options={"address": apart.address}
    )
    manager.start(range(300))

    assert manager.get_success_dict() == {task: 2 * task for task in range(300)}

    # Nor does a nanny that is to end a stuck call.
    options = {"address": apart.address}
    manager = TaskManager(_sleep(), "dask", task_timeout=0.5, max_retries=0, log_dir=None, executor_options=options)
    summary = manager.start([600, 0])
    assert (summary.succeeded, summary.failed) == (1, 1)


def test_worker_that_comes_back_at_the_same_address_is_another(apart: Any) -> None:
    """With a fixed port: what was for the one that died is not run by the one that has its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    apart.worker("--worker-port", str(port))

    def deadly(task: int) -> int:
        import os

        if task == 3:
            os.kill(os.getpid(), 9)
        return task

    manager = TaskManager(
        deadly, "dask", log_dir=None, enable_error_cache=True, executor_options={"address": apart.address}
    )
    summary = manager.start(range(20))

    assert (summary.succeeded, summary.failed, summary.crashes) == (19, 1, 1)
    assert isinstance(manager.get_error_dict()[3], WorkerCrashed)


def test_large_arguments_and_results_travel_without_a_warning(address: str) -> None:
    """Dask warns of tasks of 10 MB; what it advises then is not for calls."""
    manager = TaskManager(
        _backwards(), "dask", log_dir=None, enable_duplicate_check=False,
        executor_options={"address": address},
    )  # fmt: skip
    data = bytes(range(256)) * (12 << 12)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (outcome,) = manager.stream([data])

    assert outcome.unwrap() == data[::-1]


def test_station_stays_where_it_is_when_dask_moves_the_memory_of_a_worker(client: Any, address: str) -> None:
    """What holds a run's function and state is a result to Dask, which may copy it away: only its name goes."""

    def setup() -> threading.Lock:
        return threading.Lock()  # which no pickle would take

    manager = TaskManager(
        _nap(), "dask", log_dir=None, worker_setup=setup, executor_options={"address": address}
    )  # fmt: skip
    with manager.stream(range(200)) as outcomes:
        for number, outcome in enumerate(outcomes):
            assert outcome.ok, outcome.error
            if number % 50 == 10:
                seats = [key for keys in client.has_what().values() for key in keys if "-seat-" in key]
                assert seats
                client.run_on_scheduler(_replicate, seats)


def test_function_whose_module_the_workers_lack_ends_the_run(address: str, tmp_path: Path) -> None:
    """With what its import says, within seconds."""
    (tmp_path / "only_here.py").write_text("def double(task):\n    return 2 * task\n")
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from celestialflow_core import TaskManager; import only_here\n"
        f"TaskManager(only_here.double, 'dask', log_dir=None, executor_options={{'address': {address!r}}}).start([1])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 1
    assert "No module named 'only_here'" in done.stderr


def test_connection_lost_is_an_error_of_ours() -> None:
    """So one except clause takes all that can end a run."""
    assert issubclass(ConnectionLost, CelestialFlowError)


def _nap() -> Any:
    """A function that workers need no module for."""

    def nap(task: int) -> int:
        time.sleep(0.02)
        return task

    return nap


def _sleep() -> Any:
    """The same."""

    def sleep(seconds: float) -> None:
        time.sleep(seconds)

    return sleep


def _backwards() -> Any:
    """The same."""
    return lambda data: data[::-1]


async def _replicate(keys: list[str], dask_scheduler: Any) -> None:
    """Copy results to all workers, as Dask does with those of a worker that is retired."""
    await dask_scheduler.replicate(keys=keys, n=2)
