"""Outcome, RunSummary and Counts: what users see of a run."""

from __future__ import annotations

import pickle

import pytest

from celestialflow_core import Counts, ErrorGroup, Outcome, RunSummary
from celestialflow_core._outcome import SlowTask

pytestmark = pytest.mark.pure


def test_unwrap_gives_the_value_or_raises() -> None:
    """None is a value; a failure raises its own error; the others have nothing."""
    error = ValueError("no")
    assert Outcome(0, "t", "success", None).unwrap() is None
    assert Outcome(0, "t", "success", 3).ok
    with pytest.raises(ValueError, match="no") as raised:
        Outcome(1, "t", "error", error=error).unwrap()
    assert raised.value is error
    for status in ("duplicate", "cancelled"):
        outcome: Outcome[str, int] = Outcome(2, "t", status)
        assert not outcome.ok
        with pytest.raises(LookupError, match=f"<Outcome 2 {status} task='t'> has no value"):
            outcome.unwrap()


def test_repr_shows_the_part_that_matters() -> None:
    """Value, error or original; cut, and never raising."""

    class Evil:
        def __repr__(self) -> str:
            raise RuntimeError

    assert repr(Outcome(0, 1, "success", 2)) == "<Outcome 0 success task=1 value=2>"
    assert repr(Outcome(1, 1, "error", error=ValueError("no"))) == "<Outcome 1 error task=1 error=ValueError: no>"
    assert repr(Outcome(2, 1, "duplicate", original=0)) == "<Outcome 2 duplicate task=1 original=0>"
    assert len(repr(Outcome(3, "x" * 10_000, "cancelled"))) < 150
    assert "whose repr raises RuntimeError" in repr(Outcome(4, Evil(), "cancelled"))


def test_outcome_and_summary_survive_pickling() -> None:
    """They may be stored and sent."""
    outcome = pickle.loads(pickle.dumps(Outcome(3, (1, 2), "success", "v", attempts=2, worker=1, stage="s")))
    assert (outcome.id, outcome.task, outcome.value, outcome.attempts) == (3, (1, 2), "v", 2)
    summary = RunSummary(name="n", total=2, succeeded=2)
    assert pickle.loads(pickle.dumps(summary)) == summary


def test_counts_know_what_is_settled() -> None:
    """The sum of the four ways to end."""
    assert Counts(taken=10, pending=1, running=2, succeeded=3, failed=2, duplicates=1, cancelled=1).settled == 7


def test_summary_text_is_one_sentence_and_what_is_worth_saying() -> None:
    """What is zero is not mentioned, apart from the failures."""
    assert str(RunSummary(name="f", total=1, succeeded=1, seconds=0.5)) == "f: 1 task in 0.50 s: 1 ok, 0 failed."
    summary = RunSummary(
        name="fetch\nall",
        total=12,
        succeeded=3,
        failed=3,
        duplicates=1,
        cancelled=5,
        retries=1,
        reruns=2,
        abandoned=1,
        crashes=2,
        hook_errors=1,
        seconds=1.234,
        stopped="3 tasks failed (stop at errors=3)",
        errors=(ErrorGroup(type="ValueError", place="a.py:3", count=2, task="t", message="no\nway"),),
        slowest=(SlowTask(task="slow", seconds=1.0),),
    )
    lines = str(summary).splitlines()
    assert lines[0] == (
        r"fetch\nall: 12 tasks in 1.23 s: 3 ok, 3 failed, 1 retry, 2 reruns, 1 duplicate, 5 cancelled, 1 abandoned, "
        "2 crashes, 1 hook error."
    )
    assert lines[1] == "Stopped early: 3 tasks failed (stop at errors=3)"
    assert r"  2 x ValueError at a.py:3: no\nway, as for 't'" in lines
    assert "  1.000 s 'slow'" in lines


def test_summary_shows_the_most_frequent_kinds_of_errors_only() -> None:
    """The others are counted in one line."""
    groups = tuple(ErrorGroup(type=f"E{n}", place=None, count=20 - n, task=n, message="") for n in range(14))
    lines = str(RunSummary(failed=sum(group.count for group in groups), errors=groups)).splitlines()
    assert lines[2] == "  20 x E0, as for 0"
    assert lines[-1] == f"  and {10 + 9 + 8 + 7} of 4 other kinds"


@pytest.mark.parametrize("message", ["it is gone", "it is gone.", "it is gone. ", "it is gone:"])
def test_error_group_is_one_sentence_whatever_the_exception_said(message: str) -> None:
    """A message that is a sentence already has its full stop in nobody's way."""
    group = ErrorGroup(type="LookupError", place=None, count=3, task=7, message=message)
    assert str(group) == "3 x LookupError: it is gone, as for 7"


def test_error_group_without_a_message_is_a_sentence_too() -> None:
    """Nothing is said of nothing."""
    assert str(ErrorGroup(type="E", place="a.py:3", count=1, task=7, message=" .")) == "1 x E at a.py:3, as for 7"
