"""What the tests of graphs share: managers and graphs that write nothing and keep everything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from celestialflow_core import TaskGraph, TaskManager


@pytest.fixture
def make() -> Callable[..., Any]:
    """Makes a quiet manager that keeps its results and errors: ``make(func, mode, workers, name=...)``."""

    def manager(
        func: Callable[..., Any],
        mode: Any = None,
        workers: int | None = None,
        kind: type[TaskManager[Any, Any]] = TaskManager,
        **options: Any,
    ) -> Any:
        chosen = {"enable_success_cache": True, "enable_error_cache": True, "log_dir": None, **options}
        return kind(func, mode, workers, **chosen)

    return manager


@pytest.fixture
def graph() -> Callable[..., TaskGraph]:
    """Makes a graph that writes nothing."""

    def new(name: str = "graph", **options: Any) -> TaskGraph:
        return TaskGraph(name, **{"log_dir": None, "log_level": "ERROR", **options})

    return new
