"""What an executor is. Everything that a plugin author has to implement is on this page.

    driver                                  executor
      | start(work, deliver)  ----------------> |   make workers ready, without waiting for them
      | submit(calls)  -----------------------> |   take calls; never block for long
      | <------------------- deliver(results)   |   from any thread, any number at a time
      | stop(grace)  -------------------------> |   end what runs within grace seconds, then leave nothing behind

An executor knows calls and results; it has never heard of retries, hooks, results kept, or graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Any, Protocol, runtime_checkable

import attrs

from celestialflow_core._call import Call, Calls, Delivery, Drain, Result, Successes
from celestialflow_core._text import cut
from celestialflow_core.executors.current import CURRENT_WORKER, Worker, current_worker

__all__ = [
    "CURRENT_WORKER",
    "AsyncExecutor",
    "Call",
    "Calls",
    "Deliver",
    "Delivery",
    "Drain",
    "Executor",
    "ExecutorFactory",
    "Result",
    "Successes",
    "Work",
    "Worker",
    "current_worker",
    "describe",
]

Deliver = Callable[[Delivery], None]


@attrs.define(eq=False)
class Work:
    """What an executor is to do with every call of its runs.

    Attributes:
        func: The function; called as ``func(*call.args)``, awaited in an `AsyncExecutor`.
        setup: Run once in each worker before its first call (a function or a generator function), or None.
        timeout: The longest a call may run, in seconds from its start, or None. Only given to executors whose
            capabilities hold "timeout".
        context: The caller's context variables; the driver sets it anew at the start of each run.
    """

    func: Callable[..., Any]
    setup: Callable[[], Any] | None = None
    timeout: float | None = None
    context: Context = attrs.field(factory=Context)


@runtime_checkable
class Executor(Protocol):
    """Runs calls and delivers their results.

    Attributes:
        slots: How many calls it wants in flight now, at least 1; may change during a run.
        capabilities: What it can do beyond the minimum: "timeout" (it keeps `Work.timeout`), "setup" (it runs
            `Work.setup`), "inline" (it runs calls inside ``submit``, and is called with an empty batch while some
            are left). Missing means none.
    """

    @property
    def slots(self) -> int:
        """How many calls it wants in flight now, at least 1; may change during a run."""
        ...

    @property
    def capabilities(self) -> frozenset[str]:
        """What it can do beyond the minimum; a plain attribute will do."""
        ...

    def start(self, work: Work, deliver: Deliver) -> None:
        """Make ready. Called before the first ``submit``, and again after a ``stop``; should not wait for workers.

        Raises:
            WorkerSetupError: No worker can start.
            NotPicklable: The function cannot be sent to the workers.
        """
        ...

    def submit(self, calls: Sequence[Call]) -> None:
        """Take *calls*. Each must be delivered exactly once, unless ``stop`` comes first. Never blocks for long."""
        ...

    def stop(self, grace: float) -> None:
        """Drop what has not started, give what runs *grace* seconds, and return when nothing of it is left.

        What is delivered before this returns counts; the rest is settled as cancelled. May be called twice.
        """
        ...


@runtime_checkable
class AsyncExecutor(Protocol):
    """The same verbs for an executor that lives inside the running event loop; all are called in its thread."""

    @property
    def slots(self) -> int:
        """How many calls it wants in flight now, at least 1; may change during a run."""
        ...

    @property
    def capabilities(self) -> frozenset[str]:
        """What it can do beyond the minimum; a plain attribute will do."""
        ...

    async def start(self, work: Work, deliver: Deliver) -> None:
        """As `Executor.start`."""
        ...

    def submit(self, calls: Sequence[Call]) -> None:
        """As `Executor.submit`."""
        ...

    async def stop(self, grace: float) -> None:
        """As `Executor.stop`."""
        ...


ExecutorFactory = Callable[..., "Executor | AsyncExecutor"]


def describe(args: tuple[Any, ...], limit: int = 50) -> str:
    """A short text that names the call with *args* in a message; never raises."""
    return f"task {cut(args[0] if len(args) == 1 else args, limit)}"
