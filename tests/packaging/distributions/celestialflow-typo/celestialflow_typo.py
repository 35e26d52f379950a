"""A plugin with one hook that does not exist, beside one that does."""

from __future__ import annotations

from typing import Any

from celestialflow_core import hookimpl


@hookimpl
def on_sucess(outcome: Any) -> None:
    raise AssertionError("there is no such hook")


@hookimpl
def process_result(result: Any) -> Any:
    raise AssertionError("a plugin that failed is not called")
