"""What every executor keeps, as tests: subclass `ExecutorContract` in a test file and give the factory.

    class TestMyExecutor(ExecutorContract):
        def make_executor(self):
            return MyExecutor(worker_limit=2)

The suite goes by the executor's ``capabilities``: what it does not claim is skipped, what it claims is tested. An
`AsyncExecutor` is driven through a loop, and is given coroutine functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import celestialflow_core.testing._tasks as tasks
from celestialflow_core._call import Call, Calls
from celestialflow_core.errors import RemoteError, TaskTimeout, WorkerSetupError
from celestialflow_core.executors.interface import AsyncExecutor, Executor
from celestialflow_core.testing._bench import Bench
from celestialflow_core.testing.leaks import Resources

__all__ = ["ExecutorContract"]

KNOWN_CAPABILITIES = frozenset({"timeout", "setup", "inline"})


class ExecutorContract:
    """Tests for one executor. Override `make_executor`, and the rest where it has to be.

    Attributes:
        patience: Seconds to wait for what must come. Raise it for a system that is slow to start.
    """

    patience: float = 60.0

    def make_executor(self) -> Executor | AsyncExecutor:
        """A new executor, preferably of two workers."""
        raise TypeError(f"{type(self).__name__} must define make_executor(self), which returns a new executor.")

    def warm_up(self) -> None:
        """Called before each test begins to look for leaks: start here what a foreign client keeps for good."""

    def leak_allowance(self, leak: str) -> bool:
        """Whether *leak* is a thing that a foreign client is known to leave, such as "thread 'Dask-Offload_0'".

        Args:
            leak: A line of `Resources.leaks`.
        """
        return False

    # -- fixtures ----------------------------------------------------------------------------------------------------

    @pytest.fixture
    def new_bench(self, tmp_path: Path) -> Iterator[Callable[[], Bench]]:
        """Makes benches, each with an executor of its own; checks in the end that nothing is left of any."""
        self.warm_up()
        before = Resources()
        benches: list[Bench] = []

        def make() -> Bench:
            benches.append(Bench(self.make_executor(), self.patience))
            return benches[-1]

        try:
            yield make
        finally:
            (tmp_path / "release").touch()
            for bench in benches:
                bench.close()
        before.expect_no_leaks(self.leak_allowance)
        for bench in benches:
            assert bench.late == [], "Results were delivered after stop() had returned."

    @pytest.fixture
    def bench(self, new_bench: Callable[[], Bench]) -> Bench:
        """An executor on a bench, not started."""
        return new_bench()

    # -- calls and results -------------------------------------------------------------------------------------------

    def test_executor_declares_slots_and_capabilities(self, bench: Bench) -> None:
        """It says how many calls it wants, and claims only what the interface knows."""
        assert bench.executor.slots >= 1
        assert isinstance(bench.capabilities, frozenset)
        assert bench.capabilities <= KNOWN_CAPABILITIES

    @pytest.mark.parametrize(
        ("number", "form"),
        [
            (1, "calls"),
            (2, "columns"),
            (100, "calls"),
            (100, "columns"),
            (100, "singly"),
            (5000, "columns"),
            (5000, "singly"),
        ],
    )
    def test_every_call_is_delivered_exactly_once(self, bench: Bench, number: int, form: str) -> None:
        """Each id comes once, with its own value and a duration, however the calls are submitted."""
        bench.start(tasks.double)
        bench.feed([(one,) for one in range(number)], form)
        bench.stop()
        results = bench.by_id()
        assert {id: result.value for id, result in results.items()} == {id: 2 * id for id in range(number)}
        for result in results.values():
            assert result.error is None
            assert isinstance(result.seconds, float)
            assert result.seconds >= 0.0
            assert result.reruns == 0

    def test_arguments_and_values_arrive_as_they_are(self, bench: Bench) -> None:
        """Any number of arguments, of any type, large ones too, and None as a value."""
        cases: list[tuple[Any, ...]] = [
            (),
            (None,),
            (1, "two", 3.0, b"four"),
            ([1, {"a": (2, 3)}], {4, 5}),
            (b"x" * 3_000_000, "y" * 1_000_000),
            (float("inf"), True, -1, 10**40, ""),
        ]
        bench.start(tasks.echo)
        bench.feed(cases)
        assert {id: result.value for id, result in bench.by_id().items()} == dict(enumerate(cases))

    def test_arguments_of_two_calls_are_not_entangled(self, bench: Bench) -> None:
        """The same object in many calls of a batch arrives whole in each of them."""
        shared = {"rows": [1, 2, 3]}
        bench.start(tasks.echo)
        bench.feed([(shared, number) for number in range(20)])
        assert [result.value for _, result in sorted(bench.by_id().items())] == [(shared, n) for n in range(20)]

    def test_empty_submit_is_harmless(self, bench: Bench) -> None:
        """A batch without calls delivers nothing and disturbs nothing."""
        bench.start(tasks.double)
        bench.submit(())
        bench.submit(Calls([], []))
        bench.feed([(4,)])
        bench.submit([])
        assert [result.value for result in bench.results] == [8]

    def test_workers_stay_warm_between_submits(self, bench: Bench) -> None:
        """After everything was delivered, more can be submitted, as often as one likes."""
        bench.start(tasks.double)
        for _ in range(3):
            bench.feed([(number,) for number in range(10)])
        assert len(bench.by_id()) == 30

    def test_submit_does_not_wait_for_calls(self, bench: Bench, tmp_path: Path) -> None:
        """A call that cannot end before submit has returned does end."""
        if bench.inline:
            pytest.skip("Runs calls inside of submit.")
        bench.start(tasks.hold)
        release = tmp_path / "release"
        bench.submit([Call(0, (str(tmp_path / "started"), str(release)))])
        release.touch()
        bench.wait_for_all()
        assert bench.by_id()[0].value is True

    def test_two_executors_do_not_disturb_each_other(self, new_bench: Callable[[], Bench]) -> None:
        """Two of a kind, at once in one process, each deliver their own."""
        one, other = new_bench().start(tasks.double), new_bench().start(tasks.echo)
        for bench in (one, other):
            bench.submit([Call(0, (21,))])
        one.wait_for_all()
        other.wait_for_all()
        assert one.by_id()[0].value == 42
        assert other.by_id()[0].value == (21,)

    # -- errors ------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("kind", tasks.KINDS)
    def test_failing_call_gets_its_own_error(self, bench: Bench, kind: str) -> None:
        """Whatever a call raises is delivered for that call, and its neighbours get their values."""
        if kind == "KeyboardInterrupt" and (bench.inline or bench.is_async):
            pytest.skip("Cannot be told from a Ctrl-C in the caller's thread.")
        bad = {0, 7, 19}
        bench.start(tasks.misbehave)
        bench.feed([(kind if number in bad else "", number) for number in range(20)])
        results = bench.by_id()
        expected = tasks.KINDS[kind][1]
        for number, result in results.items():
            if number not in bad:
                assert (result.value, result.error) == (2 * number, None)
                continue
            error = result.error
            if bench.is_async and expected is StopIteration:
                assert isinstance(error, RuntimeError)  # Python's own rule for coroutines
            elif isinstance(error, RemoteError):
                assert error.type_name.rpartition(".")[2] == expected.__name__
                assert isinstance(str(error), str)
            else:
                assert isinstance(error, expected)
        assert len(results) == 20

    def test_error_carries_a_traceback(self, bench: Bench) -> None:
        """Where it was raised can be seen: on the exception itself, or as text beside it."""
        bench.start(tasks.misbehave)
        bench.feed([("exception", 1)])
        (result,) = bench.results
        assert result.error is not None
        assert result.error.__traceback__ is not None or "in misbehave" in (result.traceback or "")

    # -- the end -----------------------------------------------------------------------------------------------------

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
        self._require(bench, "timeout")
        bench.start(tasks.hold, timeout=100.0)
        started, release = tmp_path / "started", tmp_path / "release"
        bench.submit([Call(0, (str(started), str(release)))])
        bench.wait(started.exists)
        seconds = bench.stop(grace=0.0)
        assert seconds < 15.0
        assert all(result.error is not None for result in bench.results)

    # -- capabilities ------------------------------------------------------------------------------------------------

    def test_timeout_ends_a_call_and_no_other(self, bench: Bench, tmp_path: Path) -> None:
        """With the capability "timeout", a call that hangs becomes a TaskTimeout, and the others go on."""
        self._require(bench, "timeout")
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

    def test_setup_runs_once_a_worker_and_before_its_calls(self, bench: Bench, tmp_path: Path) -> None:
        """With the capability "setup", what worker_setup returns is current_worker().state, beside an index."""
        self._require(bench, "setup")
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
        self._require(bench, "setup")
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
        self._require(bench, "setup")

        def setup() -> None:
            raise ValueError("no database here")

        try:
            bench.start(tasks.double, setup=setup)
        except WorkerSetupError as error:
            raised: BaseException | None = error
        else:
            bench.submit([Call(0, (1,))])
            raised = bench.wait(lambda: bench.ended_by)
        assert isinstance(raised, WorkerSetupError)
        assert "no database here" in str(raised)
        assert bench.results == []

    @staticmethod
    def _require(bench: Bench, capability: str) -> None:
        if capability not in bench.capabilities:
            pytest.skip(f"Does not claim the capability {capability!r}.")
