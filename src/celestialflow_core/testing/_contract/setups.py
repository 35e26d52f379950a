"""The capability "setup": a worker is prepared once, before its calls, and what fails there is charged to none."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import celestialflow_core.testing._tasks as tasks
from celestialflow_core._call import Call
from celestialflow_core.errors import WorkerSetupError
from celestialflow_core.testing._bench import Bench
from celestialflow_core.testing._contract.suite import Suite

__all__ = ["SetupTests"]


class SetupTests(Suite):
    """What comes of ``Work.setup``, where the executor claims to run it."""

    def test_setup_runs_once_a_worker_and_before_its_calls(self, bench: Bench, tmp_path: Path) -> None:
        """With the capability "setup", what worker_setup returns is current_worker().state, beside an index."""
        self.require(bench, "setup")
        log = tmp_path / "setups"

        def setup() -> str:
            with log.open("a") as file:
                file.write("x\n")
            return "ready"

        bench.start(tasks.whoami, setup=setup)
        bench.feed([(number,) for number in range(50)])
        indexes = {result.value[0] for result in bench.results}
        assert {result.value[1] for result in bench.results} == {"ready"}
        assert all(isinstance(index, int) and index >= 0 for index in indexes)
        setups = log.read_text().count("x")
        assert setups >= (1 if bench.is_async else len(indexes))

    def test_setup_generator_is_torn_down(self, bench: Bench, tmp_path: Path) -> None:
        """With the capability "setup", the rest of a generator runs when the worker ends, once for each that began."""
        self.require(bench, "setup")
        log = tmp_path / "log"

        def setup() -> Iterator[str]:
            with log.open("a") as file:
                file.write("up\n")
            yield "ready"
            with log.open("a") as file:
                file.write("down\n")

        bench.start(tasks.whoami, setup=setup)
        bench.feed([(number,) for number in range(20)])
        bench.stop(grace=self.patience)
        lines = log.read_text().split()
        assert {result.value[1] for result in bench.results} == {"ready"}
        assert lines.count("up") >= 1
        assert lines.count("down") == lines.count("up")

    def test_setup_that_fails_ends_the_run(self, bench: Bench) -> None:
        """With the capability "setup", a failing set-up is a WorkerSetupError, and is charged to no call."""
        self.require(bench, "setup")

        def setup() -> None:
            raise ValueError("no database here")

        assert "no database here" in str(self._failure_of(bench, setup))

    @pytest.mark.parametrize(
        ("kind", "word"),
        [
            ("base exception", "Strange"),
            ("SystemExit", "SystemExit"),
            ("GeneratorExit", "GeneratorExit"),
            ("str raises", "Speechless"),
            ("unpicklable", "Locked"),
            ("two arguments", "TwoParts"),
        ],
    )
    def test_setup_that_fails_in_any_way_ends_the_run(self, bench: Bench, kind: str, word: str) -> None:
        """With the capability "setup", it is a WorkerSetupError that names what was raised, however strange that is."""
        self.require(bench, "setup")
        error = self._failure_of(bench, partial(tasks.misbehave, kind, 1))
        assert word in str(error)

    def test_setup_that_yields_nothing_ends_the_run(self, bench: Bench) -> None:
        """With the capability "setup", a generator function has to yield."""
        self.require(bench, "setup")
        error = self._failure_of(bench, tasks.yield_nothing)
        assert "yielded nothing" in str(error)

    def test_setup_state_may_be_anything(self, bench: Bench) -> None:
        """With the capability "setup", what it gives stays in the worker, so that it may be a lock or a generator."""
        self.require(bench, "setup")
        bench.start(tasks.type_of_state, setup=threading.Lock)
        bench.feed([(number,) for number in range(5)])
        assert {result.value for result in bench.results} == {type(threading.Lock()).__name__}

    def _failure_of(self, bench: Bench, setup: Callable[[], Any]) -> WorkerSetupError:
        """What the run ends by, whose workers are set up by *setup*."""
        try:
            bench.start(tasks.double, setup=setup)
        except WorkerSetupError as error:
            raised: BaseException | None = error
        else:
            bench.submit([Call(0, (1,))])
            raised = bench.wait(lambda: bench.ended_by)
        assert isinstance(raised, WorkerSetupError)
        assert bench.results == []
        return raised
