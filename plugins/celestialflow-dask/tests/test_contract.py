"""The executor keeps the contract of executors on a real cluster, and the plugin that of plugins."""

from __future__ import annotations

import pytest

from celestialflow_core.executors import Executor
from celestialflow_core.testing import ExecutorContract, PluginContract
from celestialflow_dask import DaskFactory


class TestDaskExecutor(ExecutorContract):
    """Two worker processes with nannies."""

    isolated = True
    patience = 120.0

    @pytest.fixture(autouse=True)
    def _cluster(self, address: str) -> None:
        """Both workers are back from what the test before did to them."""
        self.address = address

    def make_executor(self) -> Executor:
        """One that uses the session's cluster."""
        return DaskFactory()(address=self.address)

    def leak_allowance(self, leak: str) -> bool:
        """What Dask keeps for good."""
        return leak == "thread 'Dask-Offload_0'"


class TestDaskPlugin(PluginContract):
    """Nothing of Dask is imported before an executor is made."""

    plugin = "celestialflow_dask:plugin"
    forbidden = ("distributed", "dask", "tornado", "celestialflow_core.executors.cluster")
