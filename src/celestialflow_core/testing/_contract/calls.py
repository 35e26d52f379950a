"""Calls and results: each call is delivered once, whole, whenever and however it is submitted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import celestialflow_core.testing._tasks as tasks
from celestialflow_core._call import Call, Calls
from celestialflow_core.testing._bench import Bench
from celestialflow_core.testing._contract.suite import Suite

__all__ = ["CallTests"]

KNOWN_CAPABILITIES = frozenset({"timeout", "setup", "inline"})


class CallTests(Suite):
    """What comes of calls that do no harm."""

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
        # No comparison of the whole: pytest would work out the difference of thousands of lines, for minutes.
        missing = [id for id in range(number) if id not in results]
        wrong = {id: result.value for id, result in results.items() if result.value != 2 * id}
        assert not missing
        assert not wrong
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

    def test_large_results_arrive_whole(self, bench: Bench) -> None:
        """Results of 5 MB, more of them than workers, and small ones between them."""
        sizes = [5_000_000, 10] * 4
        bench.start(tasks.produce)
        bench.feed([(size, size % 7) for size in sizes])
        results = bench.by_id()
        for number, size in enumerate(sizes):
            value = results[number].value
            whole = value == bytes([size % 7]) * size  # not in the assert, which in CI would show all of it
            assert whole, f"Of a result of {size} bytes there came {value!r:.60}."

    def test_chatty_calls_block_nobody(self, bench: Bench) -> None:
        """Calls that write a megabyte to each standard stream end, and so do those after them."""
        bench.start(tasks.chatter)
        bench.feed([(1_000_000,), (0,), (1_000_000,), (0,), (0,)])
        assert [result.value for _, result in sorted(bench.by_id().items())] == [1_000_000, 0, 1_000_000, 0, 0]

    def test_calls_may_start_threads(self, bench: Bench, tmp_path: Path) -> None:
        """A call is done when it returns, also where a thread of it still runs, and may use threads itself."""
        release = tmp_path / "release"
        bench.start(tasks.start_threads)
        bench.feed([(str(release),)] * 4)
        release.touch()
        assert [result.value for result in bench.by_id().values()] == [3] * 4
