"""Rows as they are written, and found again."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celestialflow_arrow import ParquetStore
from celestialflow_arrow._columns import SCHEMA, fitting, packed, rows_in, table_of, tables_of
from celestialflow_arrow._groups import Groups
from celestialflow_arrow._index import KeyIndex
from celestialflow_arrow._lookup import Unpacked
from celestialflow_arrow._part import LoadedRows
from celestialflow_core import Outcome, SinkError
from celestialflow_core.sinks import Row
from celestialflow_core.sinks.jsonl import JsonlStore

plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.complex_numbers()
values = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=4)
        | st.tuples(inner, inner)
        | st.frozensets(st.integers() | st.text(), max_size=4)
    ),
    max_leaves=12,
)
texts = st.none() | st.text(st.characters(exclude_categories=["Cs"]))
blobs = st.none() | st.binary()
rows = st.builds(
    Row,
    key=st.text(st.characters(exclude_categories=["Cs"])),
    stage=texts,
    task=st.text(st.characters(exclude_categories=["Cs"])),
    task_pickle=blobs,
    status=st.sampled_from(["success", "error"]),
    value=texts,
    value_pickle=blobs,
    error_type=texts,
    error_message=texts,
    error_place=texts,
    error_traceback=texts,
    error_pickle=blobs,
    attempts=st.integers(0, 1 << 40),
    seconds=st.none() | st.floats(allow_nan=False),
    worker=st.none() | st.integers(0, 1 << 40),
    at=st.integers(0, 4_000_000_000_000_000).map(lambda microseconds: microseconds / 1e6),
)


def is_same(one: Any, other: Any) -> bool:
    """Equal, of the same types all the way down, NaN and minus zero included."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return math.copysign(1, one) == math.copysign(1, other) and (one == other or (one != one and other != other))
    if isinstance(one, complex):
        return is_same(one.real, other.real) and is_same(one.imag, other.imag)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(is_same, one, other))
    if isinstance(one, dict):
        return is_same(list(one.items()), list(other.items()))
    return bool(one == other)


@settings(deadline=None, max_examples=60)
@given(some=st.lists(values, max_size=8), rows=st.integers(1, 4))
def test_values_come_back_as_they_were(outcomes: Any, some: list[Any], rows: int) -> None:
    """Whatever they are made of, and in whichever part they are."""
    with tempfile.TemporaryDirectory() as folder:
        store = ParquetStore(f"parquet:{folder}/results?rows={rows}")
        store.open(outcomes.run)
        try:
            for number, value in enumerate(some):
                store.write([outcomes.success(number, value)])
            store.close(None)
            store.open(outcomes.run)
            found = store.restore([outcomes.key(number) for number in range(len(some))])
        finally:
            store.close(None)
        with store.reader() as reader:
            assert reader.count() == len(some)
    assert len(found) == len(some)
    for number, value in enumerate(some):
        assert is_same(value, found[outcomes.key(number)].value)


@settings(deadline=None, max_examples=100)
@given(st.lists(rows, max_size=5))
def test_rows_come_back_from_a_table(some: list[Row]) -> None:
    """Each cell of each row."""
    assert [row for table in tables_of(some) for row in rows_in(table)] == some
    assert table_of(some).schema.equals(SCHEMA)


def row_with(key: str, number: int, text: str = "") -> Row:
    """A row of *key*."""
    cells = dict.fromkeys(Row._fields) | {"key": key, "task": str(number), "value": text}
    return Row._make((cells | {"status": "success", "attempts": 1, "at": 0.0}).values())


@settings(deadline=None, max_examples=300)
@given(
    groups=st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=6), max_size=6),
    hash_of=st.sampled_from([hash, lambda key: 0, lambda key: ord(key[0]) % 3, lambda key: -(1 << 40)]),
)
def test_index_knows_the_last_row_of_each_key(groups: list[list[str]], hash_of: Callable[[str], int]) -> None:
    """As a dict does; also where the hashes of different keys are the same."""
    keys = [key for group in groups for key in group]
    last = {key: position for position, key in enumerate(keys)}
    loaded = LoadedRows([table_of([row_with(key, 0) for key in group]) for group in groups])

    index = KeyIndex(Groups([loaded]), hash_of)

    assert index.count == len(last)
    assert [position for position, dead in enumerate(index.superseded) if not dead] == sorted(last.values())
    for key in "abcdefghi":
        assert [position for position in index.candidates(key) if keys[position] == key] == [
            last[key] for _ in range(key in last)
        ]


@settings(deadline=None)
@given(sizes=st.lists(st.integers(0, 5), max_size=8))
def test_rows_are_found_by_their_position(sizes: list[int]) -> None:
    """Whichever groups there are, empty ones too."""
    count = sum(sizes)
    every = iter(range(count))
    tables = [table_of([row_with(str(next(every)), 0) for _ in range(size)]) for size in sizes]
    groups = Groups([LoadedRows([table]) for table in tables])

    asked = [position for position in range(count) if position % 3 != 1]
    assert list(groups.rows_at(reversed(asked), ("key",))) == [(position, str(position)) for position in asked]


def test_row_groups_are_bounded_by_rows_and_bytes() -> None:
    """So what is read at a time is bounded too, however long the values are."""
    long = "x" * (1 << 20)
    assert [table.num_rows for table in tables_of(row_with("k", n) for n in range(25_000))] == [10_000, 10_000, 5_000]
    assert max(table.num_rows for table in tables_of(row_with("k", n, long) for n in range(10))) == 4
    tables = [table_of([row_with("k", n)]) for n in range(100)]
    assert [table.num_rows for table in packed(tables)] == [100]
    assert [table.num_rows for table in packed([table_of([row_with("k", 1, long)])] * 9)] == [3, 3, 3]


@pytest.mark.parametrize("field", ["task", "task_pickle", "value", "value_pickle"])
def test_cell_that_is_too_long_costs_only_its_value(field: str) -> None:
    """A file cannot hold it, so it is as one that cannot be pickled: a short text, and its task runs again."""
    row = row_with("k", 1, "1")
    cells: dict[str, Any] = {field: b"x" * 300 if field.endswith("pickle") else "x" * 300}
    longer = row._replace(**cells)
    assert fitting(longer, 300) is longer

    kept = fitting(longer, 299)

    name = field.partition("_")[0]
    assert getattr(kept, f"{name}_pickle") == b""
    assert len(getattr(kept, name)) <= 200
    others: Sequence[str] = [other for other in Row._fields if not other.startswith(name)]
    assert [getattr(kept, other) for other in others] == [getattr(row, other) for other in others]


def restored_out_of_order(store: ParquetStore, outcomes: Any) -> None:
    """Ask for the tasks in another order than they were written in, with keys that are not known in between."""
    for first in range(7):
        asked = range(1400 - first, -1, -7)
        found = store.restore([outcomes.key(task) for task in asked])
        assert {record.value for record in found.values()} == {task for task in asked if 0 <= task < 1000}
        assert all(found[outcomes.key(record.value)] is record for record in found.values())


@pytest.fixture
def many(outcomes: Any, tmp_path: Path) -> Iterator[ParquetStore]:
    """A store of twenty parts, of which some cannot be joined, opened to go on from."""
    store = ParquetStore(f"parquet:{tmp_path}/results?rows=50")
    store.open(outcomes.run)
    for start in range(0, 1000, 50):
        store.write([outcomes.success(task, task) for task in range(start, start + 50)])
    store.close(None)
    store.open(outcomes.run)
    yield store
    store.close(None)


def test_store_restores_in_any_order(many: ParquetStore, outcomes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its parts were read a few times over, from what was unpacked; nobody sees that file."""
    made: list[Unpacked] = []

    class Noted(Unpacked):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr("celestialflow_arrow._lookup.Unpacked", Noted)
    restored_out_of_order(many, outcomes)
    restored_out_of_order(many, outcomes)
    assert len(made) == 1


def test_store_restores_in_any_order_without_room(
    many: ParquetStore, outcomes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing can be unpacked it is slower, and no less right."""

    def full(*args: Any, **options: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    restored_out_of_order(many, outcomes)


def test_stage_of_any_name_is_found(outcomes: Any, tmp_path: Path) -> None:
    """A key has the stage's name in it, also one that no file can hold."""
    store = ParquetStore(f"parquet:{tmp_path}/results")
    keys = [f"{outcomes.key(1)}@{stage}" for stage in ("a", "näme", "\ud800", "\0", "'")]
    store.open(outcomes.run)
    store.write([Outcome(0, 1, "success", key, key=key, stage=key[37:]) for key in keys])
    store.close(None)
    store.open(outcomes.run)
    found = store.restore(keys)
    store.close(None)
    assert {key: record.value for key, record in found.items()} == {key: key for key in keys}


def test_row_that_no_part_can_hold_is_refused_before_it_is_accepted(outcomes: Any, tmp_path: Path) -> None:
    """Else the journal could never become a part, and the store could not be opened again."""
    store = ParquetStore(f"parquet:{tmp_path}/results")
    store.open(outcomes.run)
    bad = Outcome(0, 1, "success", 1, key=outcomes.key(1), attempts=1 << 70)
    with pytest.raises(SinkError, match="cannot be stored") as caught:
        store.write([outcomes.success(2, 2), bad])
    assert len(caught.value.unwritten) == 2
    store.write([outcomes.success(3, 3)])
    store.close(None)
    store.open(outcomes.run)
    assert set(store.restore([outcomes.key(task) for task in (1, 2, 3)])) == {outcomes.key(3)}
    store.close(None)


def test_interrupt_after_a_batch_was_appended_keeps_it(
    outcomes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What readers may have seen in the journal is in the part too, though its writer never heard that it was."""
    store = ParquetStore(f"parquet:{tmp_path}/results")
    store.open(outcomes.run)
    store.write([outcomes.success(1, 1)])
    put = JsonlStore.put

    def interrupted(journal: JsonlStore, rows: Iterable[Row]) -> None:
        put(journal, rows)
        raise KeyboardInterrupt

    monkeypatch.setattr(JsonlStore, "put", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.write([outcomes.success(2, 2)])
    monkeypatch.undo()
    store.close(KeyboardInterrupt())
    with store.reader() as reader:
        assert [row.task for row in reader.rows()] == ["1", "2"]
