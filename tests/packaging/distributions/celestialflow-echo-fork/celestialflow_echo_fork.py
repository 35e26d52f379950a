"""A fork of celestialflow-echo that kept the name of its plugin."""

from __future__ import annotations

from typing import Any

from celestialflow_core import hookimpl


@hookimpl
def process_result(result: Any) -> Any:
    return result
