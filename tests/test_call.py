"""Calls and results as columns, which whoever iterates them sees as objects."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celestialflow_core._call import Call, Calls, Result, Successes, parts

pytestmark = pytest.mark.pure


def test_calls_are_a_sequence_of_calls() -> None:
    """Length, iteration, index and slice; a slice keeps its columns."""
    calls = Calls([5, 6, 7], [(1,), (2, 3), ()])
    assert len(calls) == 3
    assert [(call.id, call.args) for call in calls] == [(5, (1,)), (6, (2, 3)), (7, ())]
    assert (calls[1].id, calls[-1].args) == (6, ())
    assert isinstance(calls[1:], Calls)
    assert list(calls[1:].ids) == [6, 7]
    assert Calls.of(calls) is calls
    assert list(Calls.of([Call(1, ("a",))]).args) == [("a",)]


def test_successes_are_a_sequence_of_results() -> None:
    """The same for results."""
    batch = Successes([1, 2], ["a", "b"], [0.1, None], [0, None])
    assert [(one.id, one.value, one.error, one.seconds, one.worker) for one in batch] == [
        (1, "a", None, 0.1, 0),
        (2, "b", None, None, None),
    ]
    assert (len(batch), batch[1].value, batch[:1].values) == (2, "b", ["a"])


results = st.lists(
    st.builds(
        lambda id, kind: Result(
            id,
            value=id * 10,
            error=ValueError(id) if kind == "error" else None,
            seconds=id / 10,
            worker=id % 3,
            output="printed" if kind == "output" else None,
            reruns=1 if kind == "rerun" else 0,
        ),
        st.integers(0, 1000),
        st.sampled_from(["ok", "ok", "ok", "error", "output", "rerun"]),
    )
)


@given(results)
def test_parts_keep_every_result_in_its_order(delivery: list[Result]) -> None:
    """Runs of plain successes become columns; nothing is lost, and what has more to say stays an object."""
    seen: list[Any] = []
    before: object = None
    for part in parts(delivery):
        if isinstance(part, Successes):
            assert not isinstance(before, Successes)
            assert len(part) > 0
            seen += [(one.id, one.value, None, one.seconds, one.worker, None, 0) for one in part]
        else:
            assert part.error is not None or part.output is not None or part.reruns
            seen.append((part.id, part.value, part.error, part.seconds, part.worker, part.output, part.reruns))
        before = part
    assert seen == [(r.id, r.value, r.error, r.seconds, r.worker, r.output, r.reruns) for r in delivery]


def test_parts_of_columns_and_of_boxes_are_not_copied() -> None:
    """Columns come as they are; a drain is asked when the driver gets to it."""

    class Box:
        taken = 0

        def take(self) -> list[Successes]:
            self.taken += 1
            return [batch]

    batch = Successes([1], ["a"], [0.1], [0])
    assert list(parts(batch)) == [batch]
    box = Box()
    later = parts(box)
    assert box.taken == 0
    assert list(later) == [batch]
