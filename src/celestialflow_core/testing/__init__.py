"""What plugin authors, and our own tests, prove their work with: contracts to pass, fakes to drive, leaks to find.

    from celestialflow_core.testing import ExecutorContract, KillContract, PluginContract, SinkContract

    class TestMyExecutor(ExecutorContract):
        def make_executor(self):
            return MyExecutor(worker_limit=2)

    class TestMySink(SinkContract):
        url = "mine:{folder}/results"

    class TestMySinkKilled(KillContract):
        url = "mine:{folder}/results"

    class TestMyPlugin(PluginContract):
        plugin = "my_distribution:plugin"

Only the contracts and the fixtures need pytest; each name is loaded when it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celestialflow_core.testing.clock import FakeClock
    from celestialflow_core.testing.executor_contract import ExecutorContract
    from celestialflow_core.testing.fake_sinks import RecordingSink, RecordingStore
    from celestialflow_core.testing.fakes import ScriptedExecutor
    from celestialflow_core.testing.kill_contract import KillContract
    from celestialflow_core.testing.leaks import Resources
    from celestialflow_core.testing.plugin_contract import PluginContract
    from celestialflow_core.testing.sink_contract import SinkContract
    from celestialflow_core.testing.waiting import wait_until

__all__ = [
    "ExecutorContract",
    "FakeClock",
    "KillContract",
    "PluginContract",
    "RecordingSink",
    "RecordingStore",
    "Resources",
    "ScriptedExecutor",
    "SinkContract",
    "wait_until",
]

_HOMES = {
    "ExecutorContract": "executor_contract",
    "FakeClock": "clock",
    "KillContract": "kill_contract",
    "PluginContract": "plugin_contract",
    "RecordingSink": "fake_sinks",
    "RecordingStore": "fake_sinks",
    "Resources": "leaks",
    "ScriptedExecutor": "fakes",
    "SinkContract": "sink_contract",
    "wait_until": "waiting",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
