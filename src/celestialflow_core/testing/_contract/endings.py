"""The end: stop drops what has not started, gives what runs its grace, and leaves nothing; then all can begin anew."""

from __future__ import annotations

from pathlib import Path

import pytest

import celestialflow_core.testing._tasks as tasks
from celestialflow_core._call import Call
from celestialflow_core.testing._bench import Bench
from celestialflow_core.testing._contract.suite import Suite

__all__ = ["EndingTests"]


class EndingTests(Suite):
    """What ``stop`` does, whenever it comes."""

    def test_stop_works_before_start(self, bench: Bench) -> None:
        """An executor that was never started can be stopped."""
        bench.stop()
        assert bench.results == []

    def test_stop_works_without_calls_and_twice(self, bench: Bench) -> None:
        """It can be stopped when nothing was submitted, and again."""
        bench.start(tasks.double)
        bench.stop()
        bench.stop()
        assert bench.results == []

    def test_stop_after_work_leaves_nothing(self, bench: Bench) -> None:
        """Everything that ran is delivered once; the fixture sees that nothing of the executor is left."""
        bench.start(tasks.double)
        bench.feed([(number,) for number in range(50)])
        bench.stop()
        bench.stop()
        assert len(bench.by_id()) == 50

    def test_stop_with_calls_pending_delivers_none_twice(self, bench: Bench) -> None:
        """What has not started is dropped; what is delivered before stop returns is delivered once."""
        bench.start(tasks.nap)
        number = max(bench.executor.slots, 3)
        for id in range(number):
            bench.submit([Call(id, (0.02,))])
        bench.stop(grace=10.0)
        assert len(bench.by_id()) <= number
        assert all(result.error is None for result in bench.results)

    def test_stop_gives_running_calls_the_grace(self, bench: Bench, tmp_path: Path) -> None:
        """A call that ends within the grace is delivered."""
        if bench.inline:
            pytest.skip("Nothing runs while stop is called.")
        bench.start(tasks.hold)
        started, release = tmp_path / "started", tmp_path / "release"
        bench.submit([Call(0, (str(started), str(release)))])
        bench.wait(started.exists)
        release.touch()
        seconds = bench.stop(grace=self.patience / 2)
        assert bench.by_id()[0].value is True
        assert seconds < self.patience / 4, "stop() waited on although nothing was running any more."

    def test_stop_without_grace_ends_running_calls(self, bench: Bench, tmp_path: Path) -> None:
        """With the capability "timeout", a call that would run for a minute holds the end up for seconds at most."""
        self.require(bench, "timeout")
        bench.start(tasks.hold, timeout=100.0)
        started, release = tmp_path / "started", tmp_path / "release"
        bench.submit([Call(0, (str(started), str(release)))])
        bench.wait(started.exists)
        seconds = bench.stop(grace=0.0)
        assert seconds < 15.0
        assert all(result.error is not None for result in bench.results)

    def test_second_stop_shortens_the_grace_of_the_first(self, bench: Bench, tmp_path: Path) -> None:
        """With the capability "timeout", stop(0) from another thread ends the wait of a stop(60) for what runs."""
        self.require(bench, "timeout")
        bench.start(tasks.hold, timeout=100.0)
        started, release = tmp_path / "started", tmp_path / "release"
        bench.submit([Call(0, (str(started), str(release)))])
        bench.wait(started.exists)
        assert bench.stop_impatiently(60.0) < self.patience / 4
        assert all(result.error is not None for result in bench.results)

    def test_started_again_after_a_stop_it_works(self, bench: Bench) -> None:
        """With another function, and nothing of the run before: neither its calls nor its results."""
        bench.start(tasks.double)
        bench.feed([(number,) for number in range(20)])
        bench.submit([Call(20, (20,))])
        bench.stop()
        before = {id: result.value for id, result in bench.by_id().items()}
        assert before in ({id: 2 * id for id in range(20)}, {id: 2 * id for id in range(21)})
        bench.results.clear()
        bench.submitted = 0
        bench.start(tasks.echo)
        bench.feed([(number,) for number in range(20)])
        assert {id: result.value for id, result in bench.by_id().items()} == {id: (id,) for id in range(20)}

    def test_stop_that_races_with_results_delivers_each_at_most_once(self, bench: Bench) -> None:
        """Stopped at moments in which calls end: no result comes twice, is another's, or comes after the stop."""
        for number in range(8):
            bench.results.clear()
            bench.submitted = 0
            bench.start(tasks.nap)
            durations = [0.002 * (1 + id % 5) for id in range(bench.executor.slots)]
            bench.submit([Call(id, (seconds,)) for id, seconds in enumerate(durations)])
            if number % 2:
                bench.wait(lambda: bench.results)
            bench.stop(grace=0.003 * number)
            for id, result in bench.by_id().items():
                if result.error is None:
                    assert result.value == durations[id]
        assert bench.late == []
