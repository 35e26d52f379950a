"""Adds up the counts of running and of finished managers, when Prometheus asks.

    run begins --> live: the manager, and what it had counted when last asked
    scrape     --> totals of the finished + manager.counts of the live
    run ends   --> its counts into the totals

Totals never fall. They are kept by the manager's name: managers of one name, one after the other or at a time, are one
series. A manager that vanishes without an end, as with a stream that is dropped, leaves what was last seen of it.
"""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from collections.abc import Iterable
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from celestialflow_core import Counts

__all__ = ["CountsCollector"]

STATUSES = {
    "success": "succeeded",
    "error": "failed",
    "duplicate": "duplicates",
    "restored": "restored",
    "cancelled": "cancelled",
}
"""The words of ``Outcome.status``, and the fields of ``Counts`` that count them."""

ENDS = ("complete", "stopped", "failed")


class _Live:
    """A manager whose run has begun, and what was last seen of it."""

    def __init__(self, manager: Any) -> None:
        self.name: str = manager.name
        self._manager = weakref.ref(manager)
        self.counts = Counts()

    def look(self) -> bool:
        """See what *manager* has counted; False if it is gone."""
        manager = self._manager()
        if manager is None:
            return False
        self.counts = manager.counts
        return True


class CountsCollector(Collector):
    """The metrics of all runs that it has been told of. Scrapes and runs may be in different threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live: dict[int, _Live] = {}
        self._settled: dict[str, Counter[str]] = {}
        self._ended: dict[str, Counter[str]] = {}

    def begin(self, manager: Any) -> None:
        """A run of *manager* begins, and with it its counts begin from zero."""
        with self._lock:
            self._keep(self._live.pop(id(manager), None))
            live = self._live[id(manager)] = _Live(manager)
            self._settled.setdefault(live.name, Counter())
            self._ended.setdefault(live.name, Counter())

    def end(self, manager: Any, how: str) -> None:
        """The run of *manager* is over, in one of the `ENDS`."""
        with self._lock:
            live = self._live.pop(id(manager), None)
            if live is not None and live.look():
                self._keep(live)
                self._ended[live.name][how] += 1

    def describe(self) -> Iterable[Metric]:
        """The metrics without values: enough for a registry to see that no other has their names."""
        return self._families()

    def collect(self) -> Iterable[Metric]:
        """The metrics as they are now."""
        with self._lock:
            for gone in [key for key, live in self._live.items() if not live.look()]:
                self._keep(self._live.pop(gone))
            settled = {name: counts.copy() for name, counts in self._settled.items()}
            ended = {name: counts.copy() for name, counts in self._ended.items()}
            running = [(live.name, live.counts) for live in self._live.values()]
        now: dict[str, Counter[str]] = {name: Counter() for name in settled}
        for name, counts in running:
            settled[name].update(_settled(counts))
            now[name].update(pending=counts.pending, running=counts.running)
        tasks, retries, waiting, active, runs = families = self._families()
        for name, total in settled.items():
            for status in STATUSES:
                tasks.add_metric([name, status], total[status])
            retries.add_metric([name], total["retries"])
            waiting.add_metric([name], now[name]["pending"])
            active.add_metric([name], now[name]["running"])
            for end in ENDS:
                runs.add_metric([name, end], ended[name][end])
        return families

    def _keep(self, live: _Live | None) -> None:
        if live is not None:
            self._settled[live.name].update(_settled(live.counts))

    @staticmethod
    def _families() -> tuple[
        CounterMetricFamily, CounterMetricFamily, GaugeMetricFamily, GaugeMetricFamily, CounterMetricFamily
    ]:
        return (
            CounterMetricFamily(
                "celestialflow_tasks", "Tasks that have ended, by status.", labels=["manager", "status"]
            ),
            CounterMetricFamily("celestialflow_retries", "Attempts beyond the first.", labels=["manager"]),
            GaugeMetricFamily("celestialflow_tasks_pending", "Tasks that wait to run.", labels=["manager"]),
            GaugeMetricFamily("celestialflow_tasks_running", "Tasks that an executor has.", labels=["manager"]),
            CounterMetricFamily("celestialflow_runs", "Runs that have ended, and how.", labels=["manager", "end"]),
        )


def _settled(counts: Counts) -> dict[str, int]:
    settled = {status: getattr(counts, field, 0) for status, field in STATUSES.items()}
    return {**settled, "retries": counts.retries}
