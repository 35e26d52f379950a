"""Merging: one store of many, with the latest row of each key, and nothing unpickled."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import attrs
import pytest

import celestialflow_core.sinks.jsonl as jsonl
import celestialflow_core.sinks.sqlite as sqlite
import celestialflow_core.testing._hostile as hostile
from celestialflow_core._digest import digest
from celestialflow_core.errors import SinkError
from celestialflow_core.plugins.registry import Registry
from celestialflow_core.sinks import Mergeable, merge, resolve_sink
from celestialflow_core.testing._outcomes import RUN, failure, success

Fill = Callable[..., tuple[str, Any]]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A second passes with each batch."""
    seconds = count(1000.0)
    monkeypatch.setattr(jsonl, "time", lambda: next(seconds))
    monkeypatch.setattr(sqlite, "time", lambda: next(seconds))
    return seconds


@pytest.fixture
def fill() -> Fill:
    """Makes a store and puts batches into it."""

    def make(url: str, *batches: Any, **change: Any) -> tuple[str, Any]:
        store: Any = resolve_sink(url, Registry.load([], {}))
        store.open(attrs.evolve(RUN, **change))
        for batch in batches:
            store.write(batch)
        store.close(None)
        return url, store

    return make


def new(url: str) -> Mergeable:
    """A store that is not there yet."""
    store = resolve_sink(url, Registry.load([], {}))
    assert isinstance(store, Mergeable)
    return store


def rows(store: Any) -> list[Any]:
    """All of its rows."""
    with store.reader() as reader:
        return list(reader.rows())


@pytest.mark.parametrize("target", ["sqlite:all.db", "jsonl:all.jsonl"])
def test_stores_of_any_kind_become_one(fill: Fill, clock: Any, target: str) -> None:
    """Every row of every store, in the order of their times, as it was, pickles included."""
    a = fill("sqlite:a.db", [success(1, "a"), success(2, (1,))], [success(5, hostile.make("CannotBeRebuilt"))])
    b = fill(
        "jsonl:b.jsonl",
        [failure(3, ValueError("x"), traceback="T"), success(hostile.make, "f", digest(4))],
        shard="2/2",
    )
    c = fill("sqlite:c.db", [], stages=("other",), target=None)
    merged = new(target)

    assert merge([a, b, c], target, merged) == 5

    assert rows(merged) == rows(a[1]) + rows(b[1])
    with merged.reader() as reader:
        manifest = reader.manifest
    assert manifest == attrs.evolve(RUN, stages=("work", "other"), resume=False)


@pytest.mark.parametrize("target", ["sqlite:all.db", "jsonl:all.jsonl"])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_later_row_of_a_key_wins(fill: Fill, clock: Any, target: str, order: tuple[int, int]) -> None:
    """By its time, in whatever order the stores are named."""
    first = fill("sqlite:a.db", [failure(1, ValueError("old")), success(2, "old")])
    second = fill("jsonl:b.jsonl", [success(1, "new"), success(3, "only")])
    fill("sqlite:a.db", [success(2, "new")])
    merged = new(target)

    assert merge([(first, second)[number] for number in order], target, merged) == 3
    assert {row.key: row.value for row in rows(merged)} == {digest(1): '"new"', digest(2): '"new"', digest(3): '"only"'}


def test_same_rows_are_there_once(fill: Fill, clock: Any) -> None:
    """A store merged with a copy of itself is itself."""
    a = fill("sqlite:a.db", [success(number) for number in range(10)])
    copy = new("jsonl:copy.jsonl")
    assert merge([a], "jsonl:copy.jsonl", copy) == 10
    both = new("sqlite:both.db")

    assert merge([a, ("jsonl:copy.jsonl", copy)], "sqlite:both.db", both) == 10
    assert sorted(rows(both)) == sorted(rows(a[1])) == sorted(rows(copy))


def test_run_goes_on_with_what_was_merged(fill: Fill) -> None:
    """It is a store like any other."""
    a = fill("jsonl:a.jsonl", [success(1, (1, 2))], shard="1/2")
    b = fill("jsonl:b.jsonl", [success(2, {"b": 1})], shard="2/2")
    store: Any = new("sqlite:all.db")
    merge([a, b], "sqlite:all.db", store)

    store.open(RUN)
    found = store.restore([digest(1), digest(2), digest(3)])
    store.close(None)
    assert {key: record.value for key, record in found.items()} == {digest(1): (1, 2), digest(2): {"b": 1}}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": "2"}, "jsonl:b.jsonl: Its version is '2', and that of sqlite:a.db is '1'."),
        ({"name": "other"}, "jsonl:b.jsonl: Its name is 'other', and that of sqlite:a.db is 'work'."),
        ({"keys": "cf2"}, "jsonl:b.jsonl: Its key scheme is 'cf2', and that of sqlite:a.db is 'cf1'."),
    ],
)
def test_different_work_is_not_merged(fill: Fill, change: dict[str, Any], said: str) -> None:
    """And no store is made for it."""
    a, b = fill("sqlite:a.db", [success(1)]), fill("jsonl:b.jsonl", [success(2)], **change)
    target = new("sqlite:all.db")

    with pytest.raises(SinkError) as caught:
        merge([a, b], "sqlite:all.db", target)

    assert str(caught.value) == f"{said} Merge stores of one work only."
    with pytest.raises(SinkError, match="There is no store"):
        rows(target)


def test_target_must_be_new(fill: Fill) -> None:
    """One that has results, a source among them, is not written to."""
    a = fill("sqlite:a.db", [success(1)])

    with pytest.raises(SinkError, match="sqlite:a.db: There is a store with results already. Give a new one"):
        merge([a], "sqlite:a.db", new("sqlite:a.db"))


def test_target_that_fails_is_closed(fill: Fill) -> None:
    """With the error; nothing is left open."""
    a = fill("sqlite:a.db", [success(1)])
    target: Any = new("sqlite:all.db")

    def fail(rows: Any) -> None:
        raise OSError("full")

    target.put = fail
    with pytest.raises(OSError, match="full"):
        merge([a], "sqlite:all.db", target)
    target.open(RUN)
    target.close(None)


def test_nothing_to_merge_is_an_error() -> None:
    """Rather than an empty store."""
    with pytest.raises(ValueError, match="at least one store"):
        merge([], "sqlite:all.db", new("sqlite:all.db"))
