"""What is in the folder: while a run writes, when it has ended, and when it was killed at the worst moment."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from celestialflow_arrow import ParquetStore
from celestialflow_core import SinkError

Opened = Callable[..., ParquetStore]


def names() -> list[str]:
    """The names in the folder."""
    return sorted(path.name for path in Path("results").iterdir())


def parts() -> dict[str, list[str]]:
    """The tasks in each part."""
    return {
        path.name: pq.read_table(path).column("task").to_pylist() for path in sorted(Path("results").glob("*.parquet"))
    }


def read(store: ParquetStore) -> dict[str, str | None]:
    """What the store says: each task with its value or error."""
    with store.reader() as reader:
        rows = list(reader.rows())
        assert reader.count() == len(rows)
    return {row.task: row.value or row.error_message for row in rows}


def test_parts_appear_while_a_run_goes_on_and_none_changes(opened: Opened, outcomes: Any) -> None:
    """One for each ``rows`` outcomes; what is not yet in one is in the journal, and read from there."""
    store = opened("parquet:results/?rows=2")
    assert parts() == {"part-000000.parquet": []}
    for task in range(5):
        store.write([outcomes.success(task, task)])
    before = {path: path.stat().st_mtime_ns for path in Path("results").glob("*.parquet")}

    store.write([outcomes.success(5, 5), outcomes.success(6, 6)])

    assert parts() == {
        "part-000000.parquet": [],
        "part-000001.parquet": ["0", "1"],
        "part-000002.parquet": ["2", "3"],
    }
    assert names()[:2] == ["_journal-000003.jsonl", "_journal-000003.jsonl.lock"]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert read(store) == {str(task): str(task) for task in range(7)}


def test_time_makes_a_part_of_few_rows(opened: Opened, outcomes: Any) -> None:
    """A run of slow tasks can be read too."""
    store = opened("parquet:results/?seconds=0")
    store.write([outcomes.success(1)])
    store.write([outcomes.success(2)])

    assert parts()["part-000001.parquet"] == ["1"]


def test_close_leaves_full_parts_and_nothing_else(opened: Opened, outcomes: Any) -> None:
    """Small neighbours are one part then, in the order of the rows; full ones stay as they are."""
    store = opened("parquet:results/?rows=4&seconds=0")
    for task in range(7):
        store.write([outcomes.success(task)])
    store.write(outcomes.all(range(7, 14)))
    store.close(None)

    assert parts() == {
        "part-000004-1.parquet": ["0", "1", "2", "3"],
        "part-000007-1.parquet": ["4", "5", "6"],
        "part-000008.parquet": ["7", "8", "9", "10", "11", "12", "13"],
    }
    assert names() == ["_store.jsonl", *parts()]


def test_later_outcome_leaves_one_row_in_the_files(opened: Opened, outcomes: Any) -> None:
    """A failed task that is tried again in the next run; the row that was replaced is in no part after that."""
    first = opened("parquet:results/?rows=3")
    first.write([outcomes.success(1, 1), outcomes.failure(2, ValueError("no")), outcomes.success(3, 3)])
    first.write([outcomes.failure(4, ValueError("no"))])
    first.close(None)
    assert parts() == {"part-000001.parquet": ["1", "2", "3"], "part-000002.parquet": ["4"]}

    second = opened("parquet:results/?rows=3")
    second.write([outcomes.success(2, "two"), outcomes.success(4, "four"), outcomes.success(5, "five")])
    assert read(second) == {"1": "1", "3": "3", "2": '"two"', "4": '"four"', "5": '"five"'}
    second.close(None)

    assert parts() == {"part-000001-1.parquet": ["1", "3"], "part-000003.parquet": ["2", "4", "5"]}
    assert read(second) == {"1": "1", "3": "3", "2": '"two"', "4": '"four"', "5": '"five"'}


def test_kill_between_part_and_journal_doubles_nothing(opened: Opened, outcomes: Any) -> None:
    """The part has its name and the journal is still there: it is known to be in the part."""
    store = opened("parquet:results/?rows=2")
    store.write(outcomes.all(range(2)))
    shutil.copy("results/_journal-000001.jsonl", "kept")
    store.write(outcomes.all(range(2, 4)))
    shutil.copy("kept", "results/_journal-000001.jsonl")
    Path("results/_journal-000001.jsonl.lock").touch()
    assert read(store) == {str(task): str(task) for task in range(4)}
    store.close(None)

    again = opened()
    assert names() == ["_store.jsonl", "_store.jsonl.lock", "part-000001.parquet", "part-000002.parquet"]
    assert read(again) == {str(task): str(task) for task in range(4)}
    assert len(again.restore([outcomes.key(task) for task in range(10)])) == 4


def test_kill_before_the_part_has_its_name_loses_nothing(opened: Opened, outcomes: Any) -> None:
    """What was half written goes, and the journal becomes a part when the store is opened the next time."""
    store = opened()
    store.write(outcomes.all(range(3)))
    shutil.copytree("results", "killed")
    Path("killed/_part-000001.parquet.tmp").write_bytes(b"PAR1 and no more")
    assert read(ParquetStore("parquet:killed")) == {"0": "0", "1": "1", "2": "2"}

    again = opened("parquet:killed")

    assert sorted(path.name for path in Path("killed").iterdir()) == [
        "_store.jsonl", "_store.jsonl.lock", "part-000000.parquet", "part-000001.parquet",
    ]  # fmt: skip
    assert read(again) == {"0": "0", "1": "1", "2": "2"}
    assert len(again.restore([outcomes.key(task) for task in range(10)])) == 3


def test_kill_while_parts_are_joined_doubles_nothing(opened: Opened, outcomes: Any) -> None:
    """Those that went into the joined one are still there: their rows count once, and are gone after the next run."""
    store = opened("parquet:results/?seconds=0")
    for task in range(3):
        store.write([outcomes.success(task, task)])
    first = Path("results/part-000001.parquet").read_bytes()
    store.close(None)
    assert list(parts()) == ["part-000003-1.parquet"]
    Path("results/part-000001.parquet").write_bytes(first)

    again = opened()
    assert read(again) == {"0": "0", "1": "1", "2": "2"}
    again.close(None)

    assert parts() == {"part-000003-1.parquet": ["0", "1", "2"]}


def test_torn_line_is_set_aside_and_its_task_is_not_known(opened: Opened, outcomes: Any) -> None:
    """As the jsonl store does it, and says it."""
    store = opened()
    store.write(outcomes.all(range(3)))
    shutil.copytree("results", "killed")
    journal = Path("killed/_journal-000001.jsonl")
    journal.write_bytes(journal.read_bytes()[:-9])
    assert read(ParquetStore("parquet:killed")) == {"0": "0", "1": "1"}

    with pytest.warns(UserWarning, match="the last line was incomplete"):
        again = opened("parquet:killed")

    assert set(again.restore([outcomes.key(task) for task in range(3)])) == {outcomes.key(0), outcomes.key(1)}
    assert '"task":2' in Path("killed/_journal-000001.jsonl.torn").read_text()


def test_damaged_part_is_refused_by_name(opened: Opened, outcomes: Any) -> None:
    """A part that is cut off, or that is none: a SinkError that names it and says what to do, and harms nothing."""
    store = opened()
    store.write(outcomes.all(range(3)))
    store.close(None)
    part = Path("results/part-000001.parquet")
    whole = part.read_bytes()
    for data in (b"", whole[:-20], b"something else"):
        part.write_bytes(data)
        for attempt in (lambda: opened(), lambda: read(store)):
            with pytest.raises(SinkError, match=r"part-000001\.parquet is damaged.*Remove that file"):
                attempt()
    part.write_bytes(whole)
    assert len(read(opened())) == 3


def test_damage_inside_a_part_is_found_when_it_is_read(opened: Opened, outcomes: Any) -> None:
    """A byte that is another one: never a value that is another one."""
    store = opened()
    store.write([outcomes.success(task, f"a text of some length, {task}") for task in range(200)])
    store.close(None)
    part = Path("results/part-000001.parquet")
    data = bytearray(part.read_bytes())
    begin = pq.read_metadata(part).row_group(0).column(5)
    data[begin.data_page_offset + begin.total_compressed_size // 2] ^= 0x10
    part.write_bytes(data)

    again = opened()
    with pytest.raises(SinkError, match="is damaged"):
        again.restore([outcomes.key(task) for task in range(200)])
    with pytest.raises(SinkError, match="is damaged"):
        read(again)
    part.unlink()


def test_part_of_another_version_is_refused(opened: Opened, outcomes: Any) -> None:
    """So is a file of somebody else under a part's name."""
    store = opened()
    store.close(None)
    part = Path("results/part-000001.parquet")
    for metadata, said in (({b"celestialflow_store": b"9"}, "another version"), ({}, "no part of a result store")):
        pq.write_table(pq.read_table("results/part-000000.parquet").replace_schema_metadata(metadata), part)
        with pytest.raises(SinkError, match=said):
            opened()
    part.unlink()


def test_folder_of_others_is_refused(opened: Opened, own_folder: Path) -> None:
    """Parquet files of which we know nothing are not mixed with ours; other files do no harm."""
    (own_folder / "mine").mkdir()
    (own_folder / "mine" / "a.txt").touch()
    opened("parquet:mine").close(None)

    (own_folder / "theirs").mkdir()
    (own_folder / "theirs" / "a.parquet").touch()
    with pytest.raises(SinkError, match="Give a folder of its own"):
        opened("parquet:theirs")
    assert [path.name for path in (own_folder / "theirs").iterdir()] == ["a.parquet"]


def test_version_of_the_work_is_in_the_folder(opened: Opened, outcomes: Any) -> None:
    """Results of another version are refused, and what was left of a killed run is not touched by that."""
    store = opened()
    store.write(outcomes.all(range(3)))
    shutil.copytree("results", "killed")
    before = {path.name: path.read_bytes() for path in Path("killed").iterdir()}

    with pytest.raises(SinkError, match=r"version '1'.*version '2'"):
        opened("parquet:killed", attrs.evolve(outcomes.run, version="2"))

    before.pop("_store.jsonl.lock")
    assert {path.name: path.read_bytes() for path in Path("killed").iterdir()} == before


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("parquet:", "names no folder"),
        ("parquet://", "names no folder"),
        ("parquet://results", "Write parquet:results, or"),
        ("parquet:results?row=3", "no option 'row'"),
        ("parquet:results?rows=0", "rows must be a number, 1 or more"),
        ("parquet:results?rows=1.5", "rows must be a number"),
        ("parquet:results?seconds=-1", "seconds must be a number, 0 or more"),
        ("parquet:results?seconds=inf", "seconds must be a number"),
        ("parquet:results?synchronous=yes", "normal or full"),
    ],
)
def test_url_that_is_wrong_is_refused(url: str, said: str) -> None:
    """Before anything is made."""
    with pytest.raises(SinkError, match=said):
        ParquetStore(url)


def test_url_may_be_absolute_or_relative(opened: Opened, own_folder: Path) -> None:
    """With a slash at its end or without."""
    for url in ("parquet:a", "parquet:b/", f"parquet:{own_folder}/c", f"parquet://{own_folder}/d/"):
        opened(url).close(None)
    assert sorted(path.name for path in own_folder.iterdir()) == ["a", "b", "c", "d"]


def test_full_synchronisation_is_one_for_each_batch(
    opened: Opened, outcomes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ``synchronous=full``; a part is made safe in either case, before its journal goes."""
    synced: list[str] = []
    fsync = os.fsync

    def noted(fd: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{fd}")).name)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", noted)
    for synchronous, batches in (("normal", 0), ("full", 3)):
        store = opened(f"parquet:{synchronous}?synchronous={synchronous}")
        synced.clear()
        for task in range(3):
            store.write([outcomes.success(task)])
        assert synced[-3:] == ["_journal-000001.jsonl"] * batches
        synced.clear()
        store.close(None)
        assert synced == ["_part-000001.parquet.tmp", synchronous]


def test_rows_of_other_stores_are_taken_as_they_are(opened: Opened, outcomes: Any) -> None:
    """As ``celestialflow merge`` carries them: nothing is unpickled, and the later of two rows of a key counts."""
    one, two = opened("parquet:one"), opened("parquet:two")
    one.write([outcomes.success(1, {1}), outcomes.failure(2, ValueError("no"))])
    two.write([outcomes.success(2, "yes"), *outcomes.all(range(3, 2500))])
    target = opened()
    for source in (one, two):
        with source.reader() as reader:
            target.put(reader.rows())

    assert len(read(target)) == 2499
    restored = target.restore([outcomes.key(1), outcomes.key(2)])
    assert [restored[outcomes.key(task)].value for task in (1, 2)] == [{1}, "yes"]
    with one.reader() as before, target.reader() as after:
        assert next(before.rows()) == next(after.rows())


def test_rows_that_come_one_by_one_take_little_memory(opened: Callable[..., ParquetStore], outcomes: Any) -> None:
    """A run that pulls from a generator in series writes each outcome alone; a journal of them is no larger for it."""
    store = opened()
    before = pa.total_allocated_bytes()
    for task in range(1050):
        store.write(outcomes.all(range(task, task + 1)))

    assert pa.total_allocated_bytes() - before < 600_000  # as tables of one row they have three times that
    with store.reader() as reader:
        assert [row.task for row in reader.rows()] == [str(task) for task in range(1050)]
    store.close(None)
    with opened().reader() as reader:
        assert reader.count() == 1050
