"""Others read while a run goes on: DuckDB, pyarrow, our own reader, the command line."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.dataset as ds
import pytest

import celestialflow_arrow
from celestialflow_arrow import ParquetStore
from celestialflow_core import SinkError, TaskManager
from celestialflow_core.plugins import installed
from celestialflow_core.sinks import Mergeable, Readable, Store

LATEST = "select distinct on (key) * from 'results/*.parquet' order by finished desc"
"""As the README has it."""


def squared(task: int) -> dict[str, int]:
    """A result with a part."""
    return {"square": task * task}


def asked(question: str) -> list[tuple[Any, ...]]:
    """What DuckDB answers."""
    with duckdb.connect() as connection:
        return connection.execute(question).fetchall()


def test_plugin_declares_the_sink() -> None:
    """Installed, it is there, and its stores can do all that a store can."""
    assert "parquet" in installed().sinks
    store = ParquetStore("parquet:results")
    assert isinstance(store, Store)
    assert isinstance(store, Readable)
    assert isinstance(store, Mergeable)
    assert not hasattr(celestialflow_arrow, "SqliteStore")
    assert repr(store) == "<ParquetStore parquet:results>"


def test_duckdb_and_pyarrow_read_while_a_run_goes_on(own_folder: Path) -> None:
    """From its first moment, at every moment: each part is whole, each row is there once."""
    manager = TaskManager(squared, sinks=["parquet:results/?rows=500"], log_dir=None)
    seen = []
    for number, outcome in enumerate(manager.stream(range(5000))):
        assert outcome.ok
        if number % 250 == 0:
            counted = asked("select count(*), count(distinct key) from 'results/*.parquet'")
            table = ds.dataset("results", format="parquet").to_table(columns=["key", "status"])
            assert counted == [(table.num_rows, len(set(table.column("key").to_pylist())))]
            assert counted[0][0] == counted[0][1]
            seen.append(counted[0][0])
    assert seen == sorted(seen)
    assert seen[0] < 1000
    assert seen[-1] >= 3000

    query = "select sum((value::json->>'$.square')::bigint), max(worker), min(finished) > timestamptz '2020-01-01'"
    assert asked(f"{query} from 'results/*.parquet'") == [(sum(task * task for task in range(5000)), 0, True)]
    assert len(list(Path("results").glob("*.parquet"))) <= 10


def test_readers_in_other_threads_see_whole_rows_while_runs_come_and_go(
    opened: Callable[..., ParquetStore], outcomes: Any
) -> None:
    """Parts that appear, and at the end of each run are joined and replaced: never a row that is missing or double."""
    opened().close(None)
    ended = threading.Event()
    problems: list[BaseException] = []
    looks: Counter[str] = Counter()

    def look() -> None:
        try:
            known = 0
            while not ended.is_set():
                with ParquetStore("parquet:results").reader() as reader:
                    count = reader.count()
                assert count >= known
                known = count
                looks["ours"] += 1
        except BaseException as error:
            problems.append(error)

    def query() -> None:
        connection = duckdb.connect()
        try:
            known = 0
            while not ended.is_set():
                try:
                    (count,) = connection.execute(f"select count(*) from ({LATEST})").fetchall()[0]
                except duckdb.IOException:
                    continue  # a part that it had listed was joined with its neighbour when a run ended
                # A list of files is older than the files: a row that was replaced may be gone from an earlier part, and
                # the part with the later one not yet be in the list. A run replaces 30.
                assert count >= known - 30
                known = max(known, count)
                looks["duckdb"] += 1
        except BaseException as error:
            problems.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=look), threading.Thread(target=query)]
    for thread in threads:
        thread.start()
    try:
        for run in range(25):
            store = opened("parquet:results/?rows=40")
            for start in range(run * 30, run * 30 + 60, 10):  # each row is written by two runs
                store.write(outcomes.all(range(start, start + 10)))
            store.close(None)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert problems == []
    assert min(looks["ours"], looks["duckdb"]) >= 3
    assert asked("select count(*), count(distinct key) from 'results/*.parquet'") == [(780, 780)]


def test_latest_query_gives_the_later_outcome_while_both_are_there(
    opened: Callable[..., ParquetStore], outcomes: Any
) -> None:
    """A run may have stored anew what an earlier one had: the query of the README takes the later; in the end there is
    but one."""
    first = opened()
    first.write([outcomes.failure(task, ValueError("no")) for task in range(3)])
    first.close(None)
    second = opened("parquet:results/?rows=2")
    second.write([outcomes.success(1, "yes"), outcomes.success(2, "yes")])
    second.write([outcomes.success(3, "yes")])
    statuses = "select task, status from {} order by task, status"

    assert asked(statuses.format("'results/*.parquet'")) == [
        ("0", "error"), ("1", "error"), ("1", "success"), ("2", "error"), ("2", "success"),
    ]  # fmt: skip
    latest = asked(statuses.format(f"({LATEST})"))
    assert latest == [("0", "error"), ("1", "success"), ("2", "success")]

    second.close(None)
    assert asked(statuses.format("'results/*.parquet'")) == [*latest, ("3", "success")]


def test_reader_filters_by_what_is_asked(opened: Callable[..., ParquetStore], outcomes: Any) -> None:
    """In parts and in the journal."""
    store = opened("parquet:results/?rows=2")
    for task in range(6):
        store.write([outcomes.success(task, task), outcomes.failure(-task - 1, (KeyError, ValueError)[task % 2](task))])

    with store.reader() as reader:
        assert reader.count() == 12
        assert [row.task for row in reader.rows(status="error", error_type="KeyError")] == ["-1", "-3", "-5"]
        assert [row.task for row in reader.rows(status="success", stage="work")] == [str(task) for task in range(6)]
        assert list(reader.rows(stage="other")) == []
        assert list(reader.rows(status="success", error_type="KeyError")) == []
        assert reader.manifest.name == "work"


def test_reader_says_where_nothing_is(own_folder: Path) -> None:
    """Without making anything."""
    with pytest.raises(SinkError, match="There is no store at"), ParquetStore("parquet:nothing").reader():
        pass
    assert not Path("nothing").exists()
    reader = ParquetStore("parquet:nothing").reader()
    with pytest.raises(SinkError, match="not open"):
        reader.count()
    with pytest.raises(SinkError, match="not open"):
        _ = reader.manifest


def test_store_that_never_stands_still_is_an_error(
    opened: Callable[..., ParquetStore], outcomes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not an endless loop, and nothing is left open."""
    store = opened()
    journal = iter(range(1, 1000))
    monkeypatch.setattr("celestialflow_arrow._folder.Folder.journals", lambda _: [next(journal) * 1000])
    with pytest.raises(SinkError, match="changes faster than it can be read"), store.reader():
        pass
    assert next(journal) > 10


def test_reader_of_a_store_with_too_many_parts_says_when_one_was_joined(
    opened: Callable[..., ParquetStore], outcomes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot keep all of them open; what it reads is right, or an error that says to read it again."""
    store = opened("parquet:results/?seconds=0")
    for task in range(3):
        store.write([outcomes.success(task, task)])
    with monkeypatch.context() as patch:
        patch.setattr("resource.getrlimit", lambda _: (0, 0))
        reader = store.reader()
        reader.__enter__()
    with store.reader() as holding:
        store.close(None)

        assert [row.task for row in holding.rows()] == ["0", "1", "2"]
    with pytest.raises(SinkError, match="Read it again"):
        list(reader.rows())
    reader.__exit__(None, None, None)


def test_part_that_is_taken_away_from_a_run_ends_it(opened: Callable[..., ParquetStore], outcomes: Any) -> None:
    """Somebody has deleted it: what it had cannot be restored, and that is said."""
    opened().close(None)
    store = opened()
    store.write(outcomes.all(range(3)))
    store.close(None)
    again = opened()
    again.restore([outcomes.key(5)])
    Path("results/part-000001.parquet").unlink()
    with pytest.raises(SinkError, match="was removed while the store was in use"):
        again.restore([outcomes.key(1)])


def test_store_that_is_open_is_not_opened_again(opened: Callable[..., ParquetStore], outcomes: Any) -> None:
    """One object for two runs at a time would mix them up."""
    store = opened()
    with pytest.raises(SinkError, match="open already"):
        store.open(outcomes.run)
    store.write(outcomes.all(range(3)))
