"""What is easily got wrong: factories that give nothing, and entry points that name a wrong thing or none."""

from __future__ import annotations

from typing import Any

from celestialflow_core import hookimpl


@hookimpl
def executor_factories() -> Any:
    return {"hollow": lambda worker_limit: None}


@hookimpl
def sink_factories() -> Any:
    return {"hollow": lambda url: None}


class Hollow:
    @hookimpl
    def executor_factories(self) -> Any:
        return {"hollow-class": list}
