"""The executor keeps what every executor keeps, and the plugin what every plugin does, on a Ray of two CPUs."""

from __future__ import annotations

import re
from typing import Any

import pytest

from celestialflow_core.executors import Executor
from celestialflow_core.testing import ExecutorContract, PluginContract
from celestialflow_ray import make_executor


class TestRayExecutor(ExecutorContract):
    """With the user's Ray."""

    isolated = True
    patience = 120.0

    @pytest.fixture(autouse=True)
    def _ray(self, local_ray: Any) -> None:
        """It runs already."""

    def make_executor(self) -> Executor:
        """Two actors."""
        return make_executor(2)

    def leak_allowance(self, leak: str) -> bool:
        """Ray's connections, and its thread as Python sees it, last as long as the Ray does."""
        return re.match(r"thread 'Dummy-|descriptor \d+: (socket|anon_inode):", leak) is not None


class TestRayPlugin(PluginContract):
    """It imports Ray where it is used."""

    plugin = "celestialflow_ray:plugin"
    forbidden = ("ray", "celestialflow_ray._cluster", "celestialflow_ray._options")
