"""`FuturesExecutor` keeps the contract on pools of threads and of processes, given as an object and as a factory."""

from __future__ import annotations

import multiprocessing
import multiprocessing.resource_tracker
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import loky
import pytest
from loky.backend import resource_tracker

from celestialflow_core.executors import Executor, FuturesExecutor
from celestialflow_core.testing import ExecutorContract


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
