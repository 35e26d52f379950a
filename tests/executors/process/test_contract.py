"""The process executor keeps the contract that everybody's executors keep."""

from __future__ import annotations

from celestialflow_core.executors import Executor
from celestialflow_core.executors.process import ProcessExecutor
from celestialflow_core.testing import ExecutorContract


class TestProcess(ExecutorContract):
    """On processes."""

    def make_executor(self) -> Executor:
        """The process executor."""
        return ProcessExecutor(worker_limit=2)
