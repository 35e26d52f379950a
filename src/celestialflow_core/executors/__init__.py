"""Executors: who runs the calls. The interface, the built-in ones, and what the author of another one needs.

Nothing is loaded before it is used, so that a worker which imports the stub from here loads the stub alone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celestialflow_core.executors.aio import AsyncioExecutor
    from celestialflow_core.executors.cluster import Cluster, ClusterExecutor, WorkerLeft
    from celestialflow_core.executors.futures import FuturesExecutor
    from celestialflow_core.executors.interface import (
        AsyncExecutor,
        Call,
        Calls,
        Executor,
        Result,
        Successes,
        Work,
        Worker,
        current_worker,
    )
    from celestialflow_core.executors.lease import LeaseSizer
    from celestialflow_core.executors.process import ProcessExecutor
    from celestialflow_core.executors.serial import SerialExecutor
    from celestialflow_core.executors.thread import ThreadExecutor

__all__ = [
    "AsyncExecutor",
    "AsyncioExecutor",
    "Call",
    "Calls",
    "Cluster",
    "ClusterExecutor",
    "Executor",
    "FuturesExecutor",
    "LeaseSizer",
    "ProcessExecutor",
    "Result",
    "SerialExecutor",
    "Successes",
    "ThreadExecutor",
    "Work",
    "Worker",
    "WorkerLeft",
    "current_worker",
]

_HOMES = {
    "AsyncioExecutor": "aio",
    "Cluster": "cluster",
    "ClusterExecutor": "cluster",
    "FuturesExecutor": "futures",
    "LeaseSizer": "lease",
    "ProcessExecutor": "process",
    "SerialExecutor": "serial",
    "ThreadExecutor": "thread",
    "WorkerLeft": "cluster",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'interface')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
