"""Run one function over a pile of tasks, on any executor, with an exact account of what became of each task.

Importing this package loads nothing but this file: every public name is loaded when it is first used.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as typing's, which takes longer to import than this file
if TYPE_CHECKING:
    from typing import Any

    from celestialflow_core._manager.manager import TaskManager as TaskManager
    from celestialflow_core._outcome import Counts as Counts
    from celestialflow_core._outcome import ErrorGroup as ErrorGroup
    from celestialflow_core._outcome import Outcome as Outcome
    from celestialflow_core._outcome import RunSummary as RunSummary
    from celestialflow_core._policies import Backoff as Backoff
    from celestialflow_core._policies import Stop as Stop
    from celestialflow_core.errors import CelestialFlowError as CelestialFlowError
    from celestialflow_core.errors import CommandFailed as CommandFailed
    from celestialflow_core.errors import ExecutorError as ExecutorError
    from celestialflow_core.errors import GraphError as GraphError
    from celestialflow_core.errors import HookError as HookError
    from celestialflow_core.errors import NotPicklable as NotPicklable
    from celestialflow_core.errors import PluginError as PluginError
    from celestialflow_core.errors import RemoteError as RemoteError
    from celestialflow_core.errors import RunInProgress as RunInProgress
    from celestialflow_core.errors import SinkError as SinkError
    from celestialflow_core.errors import TaskAbandoned as TaskAbandoned
    from celestialflow_core.errors import TaskTimeout as TaskTimeout
    from celestialflow_core.errors import TooManyErrors as TooManyErrors
    from celestialflow_core.errors import UnknownExecutor as UnknownExecutor
    from celestialflow_core.errors import UnknownSink as UnknownSink
    from celestialflow_core.errors import WorkerCrashed as WorkerCrashed
    from celestialflow_core.errors import WorkerSetupError as WorkerSetupError
    from celestialflow_core.executors.current import current_worker as current_worker
    from celestialflow_core.graph import Family as Family
    from celestialflow_core.graph import GraphStatus as GraphStatus
    from celestialflow_core.graph import StageStatus as StageStatus
    from celestialflow_core.graph import TaskGraph as TaskGraph
    from celestialflow_core.plugins import hookimpl as hookimpl

_HOMES = {
    "celestialflow_core._manager.manager": ("TaskManager",),
    "celestialflow_core._outcome": ("Counts", "ErrorGroup", "Outcome", "RunSummary"),
    "celestialflow_core._policies": ("Backoff", "Stop"),
    "celestialflow_core.errors": (
        "CelestialFlowError",
        "CommandFailed",
        "ExecutorError",
        "GraphError",
        "HookError",
        "NotPicklable",
        "PluginError",
        "RemoteError",
        "RunInProgress",
        "SinkError",
        "TaskAbandoned",
        "TaskTimeout",
        "TooManyErrors",
        "UnknownExecutor",
        "UnknownSink",
        "WorkerCrashed",
        "WorkerSetupError",
    ),
    "celestialflow_core.executors.current": ("current_worker",),
    "celestialflow_core.graph": ("Family", "GraphStatus", "StageStatus", "TaskGraph"),
    "celestialflow_core.plugins": ("hookimpl",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Backoff",
    "CelestialFlowError",
    "CommandFailed",
    "Counts",
    "ErrorGroup",
    "ExecutorError",
    "Family",
    "GraphError",
    "GraphStatus",
    "HookError",
    "NotPicklable",
    "Outcome",
    "PluginError",
    "RemoteError",
    "RunInProgress",
    "RunSummary",
    "SinkError",
    "StageStatus",
    "Stop",
    "TaskAbandoned",
    "TaskGraph",
    "TaskManager",
    "TaskTimeout",
    "TooManyErrors",
    "UnknownExecutor",
    "UnknownSink",
    "WorkerCrashed",
    "WorkerSetupError",
    "current_worker",
    "hookimpl",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("celestialflow-core")
        except PackageNotFoundError:
            return "unknown"
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, "__version__"])
