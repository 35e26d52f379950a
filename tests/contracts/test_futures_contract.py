"""`FuturesExecutor` keeps the contract on pools of threads and of processes, given as an object and as a factory.

MPI takes hold of a whole process, so its contract is that of `mpi_contract`, run in interpreters of its own.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.resource_tracker
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Executor as Pool
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import loky
import pytest
from loky.backend import resource_tracker
from tests.executors.pool_checks import environ, parsl_threads

from celestialflow_core.executors import Executor, FuturesExecutor
from celestialflow_core.testing import ExecutorContract
from celestialflow_core.testing._bench import Bench


@pytest.fixture(scope="module", autouse=True)
def _trackers() -> None:
    """Starts what multiprocessing and loky keep for the life of the program, before anybody looks for leaks."""
    multiprocessing.resource_tracker.ensure_running()
    resource_tracker.ensure_running()


class TestThreadPoolObject(ExecutorContract):
    """A pool of the user's, which outlives the executors that use it."""

    pool: ThreadPoolExecutor | None = None

    @pytest.fixture(autouse=True)
    def _pool(self) -> Iterator[None]:
        with ThreadPoolExecutor(2) as pool:
            self.pool = pool
            yield

    def warm_up(self) -> None:
        """Starts the threads that are the pool's own."""
        assert self.pool is not None
        list(self.pool.map(abs, range(1)))

    def leak_allowance(self, leak: str) -> bool:
        """The pool's threads are the user's."""
        return "ThreadPoolExecutor" in leak

    def make_executor(self) -> Executor:
        """An executor that borrows the pool."""
        assert self.pool is not None
        return FuturesExecutor(self.pool)


class TestThreadPoolFactory(ExecutorContract):
    """A pool of threads that is made and shut down by the executor."""

    def make_executor(self) -> Executor:
        """An executor that makes its own."""
        return FuturesExecutor(lambda: ThreadPoolExecutor(2))


class TestProcessPoolFactory(ExecutorContract):
    """The standard library's processes."""

    isolated = True

    def make_executor(self) -> Executor:
        """Workers are spawned, since a test run has threads."""
        return FuturesExecutor(lambda: ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")))


class TestLokyFactory(ExecutorContract):
    """Loky's processes."""

    isolated = True

    def make_executor(self) -> Executor:
        """An executor that makes its own."""
        return FuturesExecutor(lambda: loky.ProcessPoolExecutor(2))


class TestParslObject(ExecutorContract):
    """Parsl's threads, of the user."""

    pool: Pool | None = None

    @pytest.fixture(autouse=True)
    def _pool(self) -> Iterator[None]:
        with parsl_threads() as pool:
            self.pool = pool
            yield

    def warm_up(self) -> None:
        """Starts a thread of each kind that Parsl has, and of its workers."""
        assert self.pool is not None
        list(self.pool.map(abs, range(1)))

    def leak_allowance(self, leak: str) -> bool:
        """The pool's threads are the user's."""
        return "ThreadPoolExecutor" in leak or "Task-Launch" in leak

    def make_executor(self) -> Executor:
        """An executor that borrows the pool; Parsl does not say how large it is."""
        assert self.pool is not None
        return FuturesExecutor(self.pool, 2)


@pytest.mark.soak  # the object has shown the same of it, and a table every difference
class TestParslFactory(ExecutorContract):
    """Parsl's threads, made and shut down by the executor."""

    def make_executor(self) -> Executor:
        """An executor that makes its own."""
        return FuturesExecutor(parsl_threads, 2)

    def test_two_executors_do_not_disturb_each_other(self, bench: Bench) -> None:
        """Parsl loads one configuration at a time, so a second pool of its kind is not made; it has another test."""
        pytest.skip("Parsl loads one configuration at a time.")


@pytest.mark.parametrize(
    ("given", "launcher"),
    [
        pytest.param("Object", [], id="object, on its own"),
        pytest.param("Object", ["mpiexec", "-n", "1"], id="object, under mpiexec", marks=pytest.mark.soak),
        pytest.param("Factory", [], id="factory, on its own", marks=pytest.mark.soak),
        pytest.param("Factory", ["mpiexec", "-n", "1"], id="factory, under mpiexec", marks=pytest.mark.soak),
    ],
)
def test_mpi_pool_keeps_the_contract(tmp_path: Path, given: str, launcher: list[str]) -> None:
    """Every test of the contract passes in an interpreter that MPI may have, alone and under a launcher."""
    suite = f"{Path(__file__).with_name('mpi_contract.py')}::TestMpi{given}"
    done = subprocess.run(
        [*launcher, sys.executable, "-m", "pytest", "-q", "-W", "error", "--import-mode=importlib"]
        + ["-p", "no:cacheprovider", "--rootdir", str(tmp_path), "-c", "/dev/null", suite],
        env=environ(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        start_new_session=True,  # MPI ends the whole process group of a program that it ends
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
