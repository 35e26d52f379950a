"""The executor of a manager, from its start to its stop: one run, or as many as a ``with manager:`` block has."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from celestialflow_core._call import Delivery
from celestialflow_core._driver.completion import Completions
from celestialflow_core.executors.interface import AsyncExecutor, Executor, Work

__all__ = ["Workers", "is_async"]


def is_async(executor: object) -> bool:
    """True for an `AsyncExecutor`: its ``start`` is a coroutine function."""
    return inspect.iscoroutinefunction(getattr(executor, "start", None))


class Workers:
    """Holds one executor, and routes what it delivers to the run of the moment.

    Args:
        executor: Not started.
        key: What it was made from; another run may use it while that is the same.
        warm: Keep it when a run ends normally.
    """

    def __init__(self, executor: Executor | AsyncExecutor, key: tuple[Any, ...], warm: bool) -> None:
        self.executor = executor
        self.key = key
        self.warm = warm
        self.started = False
        self.stopped = False
        self.work: Work | None = None
        self._route: tuple[Completions[tuple[Any, Delivery]], Any] | None = None

    def deliver(self, delivery: Delivery) -> None:
        """What the executor calls, from any thread."""
        route = self._route
        if route is not None:
            completions, address = route
            completions.put((address, delivery))

    def route(self, completions: Completions[tuple[Any, Delivery]] | None, address: Any = None) -> None:
        """From now on deliver to *completions*, each delivery with *address*; to nobody while that is None."""
        self._route = None if completions is None else (completions, address)

    def starting(self, make: Callable[[], Work]) -> Work | None:
        """The work to start the executor with, or None where it is running already, and only gets a new context."""
        fresh = make()
        if self.started and self.work is not None:
            self.work.context = fresh.context
            return None
        self.work = fresh
        return fresh
