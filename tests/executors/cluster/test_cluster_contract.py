"""`ClusterExecutor` keeps the contract on a cluster of processes that each have a pipe."""

from __future__ import annotations

import multiprocessing.resource_tracker

import pytest
from tests.executors.cluster.village import Village

from celestialflow_core.executors import Executor
from celestialflow_core.executors.cluster import ClusterExecutor
from celestialflow_core.testing import ExecutorContract


@pytest.fixture(scope="module", autouse=True)
def _trackers() -> None:
    """Starts what multiprocessing keeps for the life of the program, before anybody looks for leaks."""
    multiprocessing.resource_tracker.ensure_running()


class TestClusterExecutor(ExecutorContract):
    """Two workers, which are replaced when they die."""

    isolated = True

    def make_executor(self) -> Executor:
        """An executor with a cluster of its own."""
        return ClusterExecutor(Village())
