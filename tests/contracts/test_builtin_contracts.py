"""The built-in executors keep the same contract as everybody's."""

from __future__ import annotations

from celestialflow_core.executors import AsyncExecutor, Executor
from celestialflow_core.executors.aio import AsyncioExecutor
from celestialflow_core.executors.process import ProcessExecutor
from celestialflow_core.executors.serial import SerialExecutor
from celestialflow_core.executors.thread import ThreadExecutor
from celestialflow_core.testing import ExecutorContract


class TestSerial(ExecutorContract):
    """In the caller's thread."""

    def make_executor(self) -> Executor:
        """The serial executor."""
        return SerialExecutor(worker_limit=2)


class TestThread(ExecutorContract):
    """On threads."""

    def make_executor(self) -> Executor:
        """The thread executor."""
        return ThreadExecutor(worker_limit=2)


class TestAsyncio(ExecutorContract):
    """On an event loop."""

    def make_executor(self) -> AsyncExecutor:
        """The asyncio executor."""
        return AsyncioExecutor(worker_limit=2)


class TestProcess(ExecutorContract):
    """In worker processes."""

    isolated = True

    def make_executor(self) -> Executor:
        """The process executor."""
        return ProcessExecutor(worker_limit=2)
