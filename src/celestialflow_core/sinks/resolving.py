"""From what a user gives as a sink to the sink, and to the name by which messages call it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celestialflow_core.sinks._resolve import label_of, resolve_sink

if TYPE_CHECKING:
    from celestialflow_core.plugins.registry import Registry
    from celestialflow_core.sinks.interface import Sink

__all__ = ["sink_of"]


def sink_of(given: object, registry: Registry) -> tuple[str, Sink]:
    """The name, without secrets, and the sink that *given* is; see `resolve_sink`."""
    return label_of(given), resolve_sink(given, registry)
