"""Processes apart, where a contract sets ``isolated``: a call may end its process, or change it, and harms nobody."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import celestialflow_core.testing._tasks as tasks
from celestialflow_core.errors import WorkerCrashed
from celestialflow_core.testing._bench import Bench
from celestialflow_core.testing._contract.suite import Suite

__all__ = ["IsolationTests"]


class IsolationTests(Suite):
    """What comes of calls that end the process they run in."""

    @pytest.mark.parametrize("how", tasks.DEATHS)
    def test_call_that_ends_its_process_is_charged_alone(self, bench: Bench, how: str) -> None:
        """The first, the last and one in the middle: three WorkerCrashed, and every other call has its value."""
        self._require_isolation()
        bad = {0, 9, 19}
        bench.start(tasks.end_process)
        bench.feed([(how if number in bad else "", number) for number in range(20)])
        results = bench.by_id()
        assert {id for id, result in results.items() if isinstance(result.error, WorkerCrashed)} == bad
        assert {id: result.value for id, result in results.items() if id not in bad} == {
            id: 2 * id for id in range(20) if id not in bad
        }

    def test_executor_works_on_after_crashes(self, bench: Bench) -> None:
        """Calls that are submitted after a crash run as if nothing had been."""
        self._require_isolation()
        bench.start(tasks.end_process)
        bench.feed([("exit", 0)])
        bench.feed([("", number) for number in range(10)])
        assert [result.value for _, result in sorted(bench.by_id().items())][1:] == [2 * n for n in range(10)]

    def test_call_changes_nothing_outside_of_its_process(self, bench: Bench) -> None:
        """Its working directory and its environment are its own."""
        self._require_isolation()
        folder, environment = Path.cwd(), dict(os.environ)
        bench.start(tasks.move_away)
        bench.feed([(number,) for number in range(6)])
        assert all(result.value == "/" for result in bench.by_id().values())
        assert folder == Path.cwd()
        assert environment == dict(os.environ)

    def _require_isolation(self) -> None:
        if not self.isolated:
            pytest.skip("Its calls do not run in processes apart.")
