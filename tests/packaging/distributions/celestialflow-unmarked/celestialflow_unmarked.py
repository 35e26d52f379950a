"""A plugin whose author forgot one @hookimpl."""

from __future__ import annotations

from typing import Any

from celestialflow_core import hookimpl


def on_start(manager: Any) -> None:
    raise AssertionError("it is not marked, so it is not called")


@hookimpl
def process_result(result: Any) -> Any:
    return f"{result}!"
