"""What is hostile to pickling: at most the error of its own call, wherever the call runs."""

from __future__ import annotations

import celestialflow_core.testing._hostile as hostile
from celestialflow_core.errors import CelestialFlowError, NotPicklable
from celestialflow_core.testing._bench import Bench
from celestialflow_core.testing._contract.suite import Suite

__all__ = ["CrossingTests"]

KINDS = ["", *(kind for one in hostile.VALUES for kind in (one, "", ""))]
"""For each call, in which way it is hostile; most are not."""


class CrossingTests(Suite):
    """What comes of arguments, results and exceptions that may not get from one process to another."""

    def test_hostile_arguments_cost_at_most_their_calls(self, bench: Bench) -> None:
        """Each arrives, or is a NotPicklable that names it; the calls before and after it are not touched."""
        bench.start(hostile.take)
        bench.feed([(hostile.make(kind) if kind else number, number) for number, kind in enumerate(KINDS)])
        self._check(bench)

    def test_hostile_results_cost_at_most_their_calls(self, bench: Bench) -> None:
        """Each arrives, or is a NotPicklable that names its task; the calls before and after it are not touched."""
        bench.start(hostile.give)
        bench.feed([(kind, number) for number, kind in enumerate(KINDS)])
        self._check(bench)

    def test_hostile_exceptions_cost_at_most_their_calls(self, bench: Bench) -> None:
        """An exception that holds such a value is its call's error, or stands there in words: its type and text."""
        bench.start(hostile.throw)
        bench.feed([(kind, number) for number, kind in enumerate(KINDS)])
        results = bench.by_id()
        for number, kind in enumerate(KINDS):
            result = results[number]
            if not kind:
                assert (result.value, result.error) == (number, None)
            else:
                assert isinstance(result.error, hostile.Carrier | CelestialFlowError), f"{kind}: {result.error!r}"
                assert "Carrier" in f"{type(result.error)} {result.error}", f"{kind}: {result.error!r}"

    @staticmethod
    def _check(bench: Bench) -> None:
        results = bench.by_id()
        for number, kind in enumerate(KINDS):
            result = results[number]
            if not kind:
                assert (result.value, result.error) == (number, None)
            elif result.error is None:
                assert kind in type(result.value).__name__ or result.value == number, kind
            else:
                assert isinstance(result.error, NotPicklable), f"{kind}: {result.error!r}"
                assert "task" in result.error.what, f"{kind}: {result.error!r}"
