"""Declares the executor "twin", as another distribution does too."""

from __future__ import annotations

from typing import Any

from celestialflow_core import hookimpl


def make(worker_limit: int | None = None, **options: Any) -> Any:
    from celestialflow_core.executors.thread import ThreadExecutor

    return ThreadExecutor(worker_limit, **options)


@hookimpl
def executor_factories() -> Any:
    return {"twin": make, "only-one": make}
