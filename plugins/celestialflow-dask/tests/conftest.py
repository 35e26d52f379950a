"""A real cluster for the tests of a session, and others that a test may do with as it likes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from distributed import Client, LocalCluster

from celestialflow_core.testing import wait_until
from celestialflow_dask._local import LocalDask


def local_cluster(workers: int = 2, **options: Any) -> LocalCluster:
    """A cluster on the loopback interface, of processes with one thread each unless *options* say otherwise."""
    given: dict[str, Any] = {"threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": ":0", **options}
    return LocalCluster(n_workers=workers, silence_logs=50, **given)


@pytest.fixture(scope="session")
def client() -> Iterator[Any]:
    """The user's client to a cluster of two processes, which a test may kill, since their nannies replace them.

    The cluster is in a process apart: what nannies do there is no leak here.
    """
    cluster = LocalDask(2)
    try:
        with Client(cluster.address, set_as_default=False) as made:
            yield made
    finally:
        cluster.close()


@pytest.fixture
def address(client: Any) -> str:
    """Where the scheduler of the session's cluster is, with both of its workers there."""
    client.wait_for_workers(2, timeout=60)
    return str(client.scheduler.address)


@pytest.fixture
def new_cluster() -> Iterator[Callable[..., Any]]:
    """Makes clusters for one test, as `local_cluster`."""
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(local_cluster(*args, **options))


class Apart:
    """A scheduler in a process of its own, which can be killed, and workers that are started as they are needed."""

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[str]] = []
        self.scheduler = self.run(
            "scheduler", "--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0"
        )
        assert self.scheduler.stderr is not None
        for line in self.scheduler.stderr:
            if "Scheduler at:" in line:
                self.address = line.rpartition(" ")[2].strip()
                break
        else:
            raise RuntimeError("The scheduler did not start.")

    def run(self, *command: str, stderr: Any = subprocess.PIPE, **options: Any) -> subprocess.Popen[str]:
        """Start a command of Dask's."""
        process = subprocess.Popen([sys.executable, "-m", "dask", *command], text=True, stderr=stderr, **options)
        self.processes.append(process)
        return process

    def worker(self, *options: str, **given: Any) -> subprocess.Popen[str]:
        """Start a worker of one thread; *options* are of the command."""
        fixed = ("--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1", "--death-timeout", "5")
        return self.run("worker", self.address, *fixed, *options, stderr=subprocess.DEVNULL, **given)

    def close(self) -> None:
        """Kill what is left of it."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()
            if process.stderr is not None:
                process.stderr.close()


@pytest.fixture
def apart() -> Iterator[Apart]:
    """A scheduler without workers."""
    made = Apart()
    try:
        yield made
    finally:
        made.close()


def wait_for(client: Any, workers: int) -> None:
    """Until the cluster has that many workers."""
    wait_until(lambda: len(client.scheduler_info()["workers"]) == workers, 60)
