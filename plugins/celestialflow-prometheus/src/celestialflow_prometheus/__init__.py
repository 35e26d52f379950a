"""Prometheus metrics of every run: the live counts of its managers, read when they are scraped.

    pip install celestialflow-prometheus           every manager, in prometheus_client.REGISTRY
    TaskManager(plugins=[Prometheus(registry)])    one manager, in another registry

A task costs nothing: nothing is called for it. Where the metrics are served is the program's affair.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from celestialflow_core import TooManyErrors, hookimpl

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from celestialflow_core import RunSummary
    from celestialflow_prometheus._collector import CountsCollector

__all__ = ["Prometheus", "plugin"]


class Prometheus:
    """Puts the runs of the managers that it is a plugin of into a registry.

    Its collector enters the registry with the first run and stays there, since totals are to be read after a run too.

    Args:
        registry: By default the global one, ``prometheus_client.REGISTRY``.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self._registry = registry
        self._collector: CountsCollector | None = None
        self._lock = threading.Lock()  # managers may run in several threads

    @hookimpl
    def on_start(self, manager: Any) -> None:
        """From now on the counts of *manager* are read by every scrape."""
        self._collecting().begin(manager)

    @hookimpl
    def on_finish(self, manager: Any, summary: RunSummary, error: BaseException | None) -> None:
        """What *manager* has counted remains; *manager* itself is let go."""
        if isinstance(error, Exception) and not isinstance(error, TooManyErrors):
            end = "failed"
        else:
            end = "stopped" if summary.stopped or error is not None else "complete"
        self._collecting().end(manager, end)

    def _collecting(self) -> CountsCollector:
        with self._lock:
            if self._collector is None:
                from prometheus_client import REGISTRY

                from celestialflow_prometheus._collector import CountsCollector

                collector = CountsCollector()
                (self._registry or REGISTRY).register(collector)
                self._collector = collector
            return self._collector


plugin = Prometheus()
"""What is active where this distribution is installed."""
