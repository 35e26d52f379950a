"""The capability "timeout": a call that runs too long is ended, at its own expense and not for having waited."""

from __future__ import annotations

from pathlib import Path
from time import monotonic

import celestialflow_core.testing._tasks as tasks
from celestialflow_core.errors import TaskTimeout
from celestialflow_core.testing._bench import Bench
from celestialflow_core.testing._contract.suite import Suite

__all__ = ["TimeLimitTests"]


class TimeLimitTests(Suite):
    """What comes of calls that hang, where the executor claims to keep ``Work.timeout``."""

    def test_timeout_ends_a_call_and_no_other(self, bench: Bench, tmp_path: Path) -> None:
        """With the capability "timeout", a call that hangs becomes a TaskTimeout, and the others go on."""
        self.require(bench, "timeout")
        bench.start(tasks.hold, timeout=1.0)
        hang = (str(tmp_path / "started"), str(tmp_path / "release"))
        bench.feed([hang, *[("", "")] * 20, hang, *[("", "")] * 20])
        results = bench.by_id()
        assert {id for id, result in results.items() if result.error is not None} == {0, 21}
        for id in (0, 21):
            assert isinstance(results[id].error, TaskTimeout)
            seconds = results[id].seconds
            assert seconds is None or 0.9 <= seconds <= 6.0
        bench.feed([("", "")] * 5)
        assert len(bench.by_id()) == 47

    def test_limit_counts_from_the_start_of_a_call(self, bench: Bench) -> None:
        """Calls that wait for a worker longer than the limit are in time if they run shorter than that."""
        self.require(bench, "timeout")
        bench.start(tasks.nap, timeout=1.5)
        number = min(bench.executor.slots, 8)
        bench.feed([(0.8,)] * number)
        assert [result.error for result in bench.by_id().values()] == [None] * number

    def test_many_hung_calls_cost_each_its_own_limit(self, bench: Bench, tmp_path: Path) -> None:
        """Five calls that hang are five errors; those between them have their values; none waits for all of them."""
        self.require(bench, "timeout")
        limit = 0.5
        bench.start(tasks.hold, timeout=limit)
        hang = (str(tmp_path / "started"), str(tmp_path / "release"))
        begin = monotonic()
        bench.feed([hang, ("", "")] * 5)
        seconds = monotonic() - begin
        results = bench.by_id()
        assert [isinstance(results[id].error, TaskTimeout) for id in range(10)] == [True, False] * 5
        assert [results[id].value for id in range(1, 10, 2)] == [True] * 5
        assert seconds < 5 * limit + self.patience / 4

    def test_hung_call_is_named_in_its_error(self, bench: Bench, tmp_path: Path) -> None:
        """Which task it was, how long it was given, and, where there is a stack, the function that it hung in."""
        self.require(bench, "timeout")
        bench.start(tasks.hold, timeout=0.5)
        started = str(tmp_path / "started")
        bench.feed([(started, str(tmp_path / "release"))])
        error = bench.by_id()[0].error
        assert isinstance(error, TaskTimeout)
        assert error.seconds == 0.5
        assert started[:20] in error.task
        assert error.stack is None or "hold" in error.stack
