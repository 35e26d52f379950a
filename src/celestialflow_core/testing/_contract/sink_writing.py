"""What a sink does with outcomes: it takes them, by the batch, whatever they hold, and knows each task once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import celestialflow_core.testing._hostile as hostile
from celestialflow_core._digest import digest
from celestialflow_core.errors import CelestialFlowError, RemoteError
from celestialflow_core.sinks._reading import Readable
from celestialflow_core.sinks.interface import Sink, Store
from celestialflow_core.testing._contract.sink_suite import SinkSuite
from celestialflow_core.testing._outcomes import RUN, failure, success

__all__ = ["WritingTests"]


class _EvilRepr:
    """Cannot be shown, compared or hashed; is pickled well."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no ==")

    __hash__ = None  # type: ignore[assignment]


class _RaisesInStr(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no str")


class _TwoArguments(Exception):
    """Is pickled well and cannot be rebuilt."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


def _cycle() -> list[Any]:
    value: list[Any] = [1]
    value.append({"again": value})
    return value


def _laughs() -> list[Any]:
    """A small value that would be endless as text."""
    value: list[Any] = ["ha"]
    for _ in range(64):
        value = [value, value]
    return value


EXACT: dict[str, Any] = {
    "none": None,
    "false": False,
    "int": 3,
    "big int": 1 << 70,
    "float": 0.1,
    "minus zero": -0.0,
    "tiny": 5e-324,
    "infinity": float("inf"),
    "text": 'Grüße, 世界 \N{PILE OF POO} "quoted" \\ \n\r\t\0\x7f\u2028',
    "lone surrogates": "a\ud800b\udc00",
    "surrogates in a row": ["\ud83d", "\ude00", "\ud83d" + "\ude00"],
    "bytes": b"\0\xff",
    "tuple": (1, (2,)),
    "list": [1, [2.0, [None, True]]],
    "dict": {"a": {"b": [1]}, "": None},
    "int keys": {1: "a"},
    "set": {1, 2},
    "huge int": 1 << 40_000,
    "huge text": "0123456789" * 500_000,
}
"""Values that come back equal and of the same type."""


class WritingTests(SinkSuite):
    """Batches, keys and values."""

    def test_batches_of_any_size_are_accepted(self, sink: Sink, reopened: Callable[[Sink], Store]) -> None:
        """None, one, or two thousand at a time: each is there afterwards."""
        sizes = [0, 1, 3, 2000, 1]
        first = 0
        for size in sizes:
            sink.write([success(task, [task]) for task in range(first, first + size)])
            first += size

        assert self.count_rows(sink) in (first, None)
        found = reopened(sink).restore([digest(task) for task in range(first + 10)])
        assert {key: record.value for key, record in found.items()} == {digest(task): [task] for task in range(first)}

    def test_later_outcome_of_a_key_replaces_the_earlier(self, sink: Sink, reopened: Callable[[Sink], Store]) -> None:
        """In one batch, in the next, and in the next run: one row a key, with what came last."""
        sink.write([failure(1, ValueError("first")), success(2, "two"), success(1, "second")])
        assert self.count_rows(sink) in (2, None)
        sink.write([success(2, "two again")])
        store = reopened(sink)
        assert {record.value for record in store.restore([digest(1), digest(2)]).values()} == {"second", "two again"}

        store.write([failure(2, KeyError("third"))])
        assert self.count_rows(store) in (2, None)
        found = reopened(store).restore([digest(1), digest(2)])
        assert found[digest(1)].value == "second"
        assert isinstance(found[digest(2)].error, KeyError)

    def test_stages_are_kept_apart(self, sink: Sink, reopened: Callable[[Sink], Store]) -> None:
        """In a graph the key has the stage behind it: one task of two stages is two rows, whatever these are called."""
        stages = ["fetch", "parse", 'a "quoted\\" näme@x', " "]
        sink.write([success(1, stage, f"{digest(1)}@{stage}", stage=stage) for stage in stages])

        found = reopened(sink).restore([f"{digest(1)}@{stage}" for stage in [*stages, "other"]] + [digest(1)])
        assert {key: record.value for key, record in found.items()} == {
            f"{digest(1)}@{stage}": stage for stage in stages
        }

    @pytest.mark.parametrize("kind", EXACT)
    def test_value_comes_back_as_it_was(self, sink: Sink, reopened: Callable[[Sink], Store], kind: str) -> None:
        """Equal, and of the same type; as a task, it is in nobody's way."""
        value = EXACT[kind]
        sink.write([success(value, value, digest("the key")), success("before", 0), success("after", 1)])

        found = reopened(sink).restore([digest(key) for key in ("before", "the key", "after")])
        assert [found[digest(key)].value for key in ("before", "after")] == [0, 1]
        again = found[digest("the key")].value
        assert type(again) is type(value)
        assert again == value
        assert kind == "huge int" or repr(again) == repr(value)  # which Python refuses to show

    def test_value_that_is_hard_to_show_comes_back(self, sink: Sink, reopened: Callable[[Sink], Store]) -> None:
        """One without a repr, one that holds itself, NaN, one that would be endless as text: each is there again."""
        values = [_EvilRepr(), _cycle(), float("nan"), _laughs()]
        sink.write([success(value, value, digest(number)) for number, value in enumerate(values)])

        found = reopened(sink).restore([digest(number) for number in range(len(values))])
        evil, cycle, nan, laughs = (found[digest(number)].value for number in range(len(values)))
        assert type(evil) is _EvilRepr
        assert cycle[1]["again"] is cycle
        assert type(nan) is float
        assert nan != nan
        assert laughs[0] is laughs[1]

    @pytest.mark.parametrize("kind", hostile.VALUES)
    def test_value_that_cannot_be_kept_costs_only_its_task(
        self, sink: Sink, reopened: Callable[[Sink], Store], kind: str
    ) -> None:
        """It is accepted, the others of its batch are untouched, and it comes back itself or its task runs again."""
        value = hostile.make(kind)
        sink.write([success(1, "before"), success(value, value, digest("the key")), success(2, "after")])
        rows = self.count_rows(sink)

        found = reopened(sink).restore([digest(1), digest("the key"), digest(2)])
        assert rows in (3, None)
        assert (found[digest(1)].value, found[digest(2)].value) == ("before", "after")
        record = found.get(digest("the key"))
        assert record is None or type(record.value).__name__ == type(value).__name__

    def test_error_comes_back_as_itself_or_in_words(self, sink: Sink, reopened: Callable[[Sink], Store]) -> None:
        """With its type, text, traceback and attempts; one that cannot be rebuilt is a RemoteError that names it."""
        errors = [
            ValueError("what it says"),
            OSError(2, "No such file", "a.txt"),
            _RaisesInStr(1),
            _TwoArguments("one", "two"),
            hostile.Carrier(hostile.make("lock")),
            RemoteError("their.Error", "from afar"),
            ValueError("\ud800 \0 " + "long " * 100_000),
        ]
        sink.write([
            failure(number, error, traceback=f"Traceback:\n  at {number}\n") for number, error in enumerate(errors)
        ])  # fmt: skip

        found = reopened(sink).restore([digest(number) for number in range(len(errors))])
        for number, error in enumerate(errors):
            record = found[digest(number)]
            assert (record.status, record.value, record.attempts) == ("error", None, 3)
            assert record.traceback == f"Traceback:\n  at {number}\n"
            # Libraries such as tblib teach Python to pickle exceptions that it cannot pickle by itself.
            if type(error) in (_TwoArguments, hostile.Carrier) and isinstance(record.error, RemoteError):
                assert record.error.type_name.endswith(type(error).__name__)
                assert record.error.text == str(error)
            else:
                assert record.error is not None
                assert type(record.error) is type(error)
                assert record.error.args == error.args

    def test_record_says_what_became_of_the_task(self, sink: Sink, reopened: Callable[[Sink], Store]) -> None:
        """Key, status, value, attempts and seconds are those of the outcome; what is not known stays unknown."""
        sink.write([success(1, "a", attempts=2, seconds=1.5), success(2, "b", seconds=None, worker=None, stage=None)])

        found = reopened(sink).restore([digest(1), digest(2)])
        one, two = found[digest(1)], found[digest(2)]
        assert (one.key, one.status, one.value, one.error) == (digest(1), "success", "a", None)
        assert (one.attempts, one.seconds) == (2, 1.5)
        assert (two.value, two.attempts, two.seconds) == ("b", 1, None)

    def test_rows_are_read_without_loading_a_pickle(self, sink: Sink) -> None:
        """In the order in which they were stored, with texts for people, also while the store is open."""
        if not isinstance(sink, Readable):
            pytest.skip("It has no reader().")
        sink.write([success(1, {"a": 1}), failure(object, ValueError("bad"), digest(2), stage="parse")])
        sink.write([success(3, hostile.make("CannotBeRebuiltStrangely"))])

        with sink.reader() as reader:
            rows = list(reader.rows())
            assert [row.key for row in rows] == [digest(1), digest(2), digest(3)]
            assert [row.task for row in rows] == ["1", "<class 'object'>", "3"]
            assert [row.status for row in rows] == ["success", "error", "success"]
            assert (rows[0].value, rows[0].value_pickle) == ('{"a":1}', None)
            assert (rows[1].error_type, rows[1].error_message) == ("ValueError", "bad")
            assert "CannotBeRebuiltStrangely" in (rows[2].value or "")
            assert [row.key for row in reader.rows(status="error")] == [digest(2)]
            assert [row.key for row in reader.rows(stage="parse", error_type="ValueError")] == [digest(2)]
            assert [row.key for row in reader.rows(error_type="KeyError")] == []
            assert (reader.manifest.name, reader.manifest.version, reader.manifest.keys) == ("work", "1", "cf1")

    def test_reader_may_be_left_in_the_middle_of_its_rows(self, sink: Sink) -> None:
        """Whoever wants no more rows leaves, and what has been begun can be dropped then without an error."""
        if not isinstance(sink, Readable):
            pytest.skip("It has no reader().")
        sink.write([success(number) for number in range(3)])

        with sink.reader() as reader:
            rows = reader.rows()
            assert next(rows).key == digest(0)
        close = getattr(rows, "close", None)  # a generator has it, and calls it when it is collected
        if close is not None:
            close()

    def test_outcome_without_a_key_is_refused(self, sink: Sink, reopened: Callable[[Sink], Store]) -> None:
        """A batch with one is not accepted, nothing of it is there, and the sink goes on."""
        with pytest.raises(CelestialFlowError) as caught:
            sink.write([success(1), success(2, key="no").__class__(0, 2, "success", key=2)])
        assert len(getattr(caught.value, "unwritten", ())) == 2

        sink.write([success(3, "kept")])
        assert set(reopened(sink).restore([digest(1), digest(3)])) == {digest(3)}

    def test_store_without_resume_is_added_to(self, sink: Sink, new_sink: Callable[[], Sink]) -> None:
        """A run that does not resume may write to a store that has rows of its kind; they stay."""
        import attrs

        sink.write([success(1, "a"), success(2, "b")])
        sink.close(None)
        again = new_sink()
        again.open(attrs.evolve(RUN, resume=False))
        again.write([success(2, "b again"), success(3, "c")])
        if not isinstance(again, Store):
            pytest.skip("It is no store: it has no restore().")
        again.close(None)
        store = new_sink()
        store.open(RUN)
        assert isinstance(store, Store)
        found = store.restore([digest(task) for task in (1, 2, 3)])
        assert [found[digest(task)].value for task in (1, 2, 3)] == ["a", "b again", "c"]
