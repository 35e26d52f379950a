"""The sinks that remember: what they write down, and how they fail."""

from __future__ import annotations

import pytest

from celestialflow_core.sinks import Record, Sink, Store
from celestialflow_core.testing import RecordingSink, RecordingStore
from celestialflow_core.testing._outcomes import RUN, failure, success

pytestmark = pytest.mark.pure


def test_every_call_is_written_down() -> None:
    """In order, with what came with it."""
    sink = RecordingSink()
    outcomes = [success(1), success(2), failure(3, ValueError())]
    error = KeyError()

    sink.open(RUN)
    assert sink.is_open
    sink.write(outcomes[:2])
    sink.write(outcomes[2:])
    sink.close(error)

    assert sink.log == [("open", RUN), ("write", 2), ("write", 1), ("close", error)]
    assert sink.outcomes == outcomes
    assert sink.batches == [outcomes[:2], outcomes[2:]]
    assert not sink.is_open
    assert isinstance(sink, Sink)
    assert not isinstance(sink, Store)


def test_it_fails_where_it_is_told_to() -> None:
    """From one batch on, at the opening, at the end."""
    sink = RecordingSink(fail_at=2, error=OSError("full"), close_error=OSError("gone"))
    sink.open(RUN)
    sink.write([success(1)])
    for _ in range(2):
        with pytest.raises(OSError, match="full"):
            sink.write([success(2)])
    with pytest.raises(OSError, match="gone"):
        sink.close(None)

    assert len(sink.outcomes) == 1
    with pytest.raises(OSError, match="fake is full"):
        failing = RecordingSink(fail_at=1)
        failing.open(RUN)
        failing.write([success(1)])
    refusing = RecordingSink(refuse=ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        refusing.open(RUN)
    assert not refusing.is_open


def test_it_may_ask_for_batches_and_look_at_them() -> None:
    """As any sink."""
    seen: list[int] = []
    sink = RecordingSink(batch=(10, 0.5), on_write=lambda batch: seen.append(len(batch)))
    sink.open(RUN)
    sink.write([success(1)])

    assert sink.batch == (10, 0.5)
    assert not hasattr(RecordingSink(), "batch")
    assert seen == [1]


def test_writing_to_one_that_is_not_open_is_found_out() -> None:
    """A run that does so is wrong."""
    for sink in (RecordingSink(), RecordingStore()):
        with pytest.raises(RuntimeError, match="before open"):
            sink.write([success(1)])


def test_store_knows_what_it_was_given_and_has_accepted() -> None:
    """By key; what it did not accept it does not know."""
    known = Record(key="a", status="success", value=1)
    store = RecordingStore({"a": known}, fail_at=2)
    error = ValueError("bad")
    store.open(RUN)
    store.write([success(1, "one", "b"), failure(2, error, "c")])
    with pytest.raises(OSError, match="full"):
        store.write([success(3, "three", "d")])

    found = store.restore(["a", "b", "c", "d"])

    assert found["a"] is known
    assert (found["b"].value, found["c"].error, found["c"].attempts) == ("one", error, 3)
    assert set(found) == {"a", "b", "c"}
    assert isinstance(store, Store)
    assert store.log[-1] == ("restore", ["a", "b", "c", "d"])
