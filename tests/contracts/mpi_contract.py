"""The contract on a pool of mpi4py's; run by `test_futures_contract` in an interpreter of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mpi4py.futures import MPIPoolExecutor

from celestialflow_core.executors import Executor, FuturesExecutor
from celestialflow_core.testing import ExecutorContract


@pytest.fixture(scope="module", autouse=True)
def shared_pool() -> Iterator[MPIPoolExecutor]:
    """One pool for all tests, which begins before the first: starting MPI takes longer than most of them."""
    with MPIPoolExecutor(2) as pool:
        pool.submit(abs, 1).result()
        yield pool


class TestMpiObject(ExecutorContract):
    """A pool of the user's, which outlives the executors that use it."""

    pool: MPIPoolExecutor

    @pytest.fixture(autouse=True)
    def _pool(self, shared_pool: MPIPoolExecutor) -> None:
        self.pool = shared_pool

    def make_executor(self) -> Executor:
        """An executor that borrows the pool; mpi4py does not say how large it is."""
        return FuturesExecutor(self.pool, 2)


class TestMpiFactory(ExecutorContract):
    """A pool that is made and shut down by the executor."""

    def make_executor(self) -> Executor:
        """An executor that makes its own."""
        return FuturesExecutor(lambda: MPIPoolExecutor(2), 2)
