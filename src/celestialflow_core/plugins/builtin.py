"""The executors and sinks of the core, as plugins like any other: their names, and where the class of each is.

Nothing is imported until a factory is called. The facts that a factory carries let ``TaskManager`` refuse an option
without that (``tests/contracts`` holds them against the executors themselves).
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

import attrs

from celestialflow_core.plugins.markers import hookimpl

if TYPE_CHECKING:
    from celestialflow_core.executors.interface import AsyncExecutor, Executor, ExecutorFactory
    from celestialflow_core.sinks.interface import Sink, SinkFactory

__all__ = [
    "CORE",
    "ENTRY_POINTS",
    "BuiltinExecutor",
    "BuiltinFactory",
    "BuiltinSink",
    "BuiltinSinkFactory",
    "aio",
    "jsonl",
    "process",
    "serial",
    "sqlite",
    "thread",
]

CORE = "celestialflow-core"

ENTRY_POINTS = {
    "async": f"{__name__}:aio",
    "jsonl": f"{__name__}:jsonl",
    "process": f"{__name__}:process",
    "serial": f"{__name__}:serial",
    "sqlite": f"{__name__}:sqlite",
    "thread": f"{__name__}:thread",
}
"""What pyproject.toml declares, for the case that the package is on the path without its metadata."""


@attrs.frozen(eq=False)
class BuiltinFactory:
    """Makes executors of one class, which it imports when it is called.

    Attributes:
        target: Where the class is, as "module:name".
        capabilities: What its executors can do.
        is_async: Whether they await the function.
        options: The names of the ``executor_options`` that they take.
    """

    target: str
    capabilities: frozenset[str]
    is_async: bool = False
    options: frozenset[str] = frozenset()

    def __call__(self, worker_limit: int | None = None, **options: Any) -> Executor | AsyncExecutor:
        module, _, name = self.target.partition(":")
        made: Executor | AsyncExecutor = getattr(import_module(module), name)(worker_limit, **options)
        return made

    def check(self, worker_limit: int | None = None, **options: Any) -> None:
        """Refuse values that cannot be used: to make an executor starts nothing."""
        self(worker_limit, **options)


@attrs.frozen(eq=False)
class BuiltinExecutor:
    """A plugin that declares one executor."""

    name: str
    factory: BuiltinFactory

    @hookimpl
    def executor_factories(self) -> Mapping[str, ExecutorFactory]:
        return {self.name: self.factory}


@attrs.frozen(eq=False)
class BuiltinSinkFactory:
    """Makes sinks of one class, which it imports when it is called.

    Attributes:
        target: Where the class is, as "module:name".
    """

    target: str

    def __call__(self, url: str) -> Sink:
        module, _, name = self.target.partition(":")
        made: Sink = getattr(import_module(module), name)(url)
        return made


@attrs.frozen(eq=False)
class BuiltinSink:
    """A plugin that declares one sink."""

    name: str
    factory: BuiltinSinkFactory

    @hookimpl
    def sink_factories(self) -> Mapping[str, SinkFactory]:
        return {self.name: self.factory}


def _builtin(name: str, target: str, *capabilities: str, is_async: bool = False, options: str = "") -> BuiltinExecutor:
    target = f"celestialflow_core.executors.{target}"
    factory = BuiltinFactory(target, frozenset(capabilities), is_async, frozenset(options.split()))
    return BuiltinExecutor(name, factory)


serial = _builtin("serial", "serial:SerialExecutor", "setup", "inline")
thread = _builtin("thread", "thread:ThreadExecutor", "timeout", "setup")
process = _builtin(
    "process", "process:ProcessExecutor", "timeout", "setup", options="max_tasks_per_worker max_worker_memory env"
)
aio = _builtin("async", "aio:AsyncioExecutor", "timeout", "setup", is_async=True)
sqlite = BuiltinSink("sqlite", BuiltinSinkFactory("celestialflow_core.sinks.sqlite:SqliteStore"))
jsonl = BuiltinSink("jsonl", BuiltinSinkFactory("celestialflow_core.sinks.jsonl:JsonlStore"))
