"""A thin plugin: its engine is imported when an executor or a sink is made, and is not installed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from celestialflow_core import hookimpl


def make_executor(worker_limit: int | None = None) -> Any:
    return import_module("celestialflow_engine_elsewhere.pool").Pool(worker_limit)


def make_sink(url: str) -> Any:
    return import_module("celestialflow_engine_elsewhere.bucket").Bucket(url)


@hookimpl
def executor_factories() -> Any:
    return {"lazy": make_executor}


@hookimpl
def sink_factories() -> Any:
    return {"lazy": make_sink}
