"""The sqlite store: its tables, and what its errors say."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celestialflow_core._digest import digest
from celestialflow_core.errors import SinkError
from celestialflow_core.sinks import Row
from celestialflow_core.sinks._sqlite import key_from_stored, key_to_stored, what_happened
from celestialflow_core.testing._outcomes import RUN, failure, success

FILE = Path("store.db")


def ask(question: str) -> list[tuple[Any, ...]]:
    """What anybody's SQLite says about the store."""
    connection = sqlite3.connect(FILE)
    try:
        return connection.execute(question).fetchall()
    finally:
        connection.close()


def change(*statements: str) -> None:
    """Somebody changes the database."""
    connection = sqlite3.connect(FILE, isolation_level=None)
    try:
        for statement in statements:
            connection.execute(statement)
    finally:
        connection.close()


def test_rows_are_there_for_everybody(opened: Callable[..., Any]) -> None:
    """With plain SQL, while the store is open: columns by name, values as JSON, the digits of the key by hex()."""
    store = opened("sqlite")
    store.write([success({"url": "a"}, {"title": "A"}), failure(2, ValueError("bad"), traceback="Traceback")])

    assert ask("SELECT json_extract(value, '$.title') FROM results WHERE status = 'success'") == [("A",)]
    assert ask("SELECT 'cf1:' || lower(hex(key)), task FROM results WHERE status = 'error'") == [(digest(2), "2")]
    assert ask("SELECT error_type, error_message, error_traceback, attempts FROM results WHERE value IS NULL") == [
        ("ValueError", "bad", "Traceback", 3)
    ]
    assert ask("SELECT count(*) FROM results WHERE value_pickle IS NULL AND task_pickle IS NULL") == [(2,)]
    assert [name for _, name, *_ in ask("PRAGMA table_info(results)")] == list(Row._fields)


@pytest.mark.parametrize(("option", "level"), [("", 1), ("?synchronous=normal", 1), ("?synchronous=full", 2)])
def test_synchronous_is_what_the_url_says(opened: Callable[..., Any], option: str, level: int) -> None:
    """Normal in write-ahead mode is safe from the death of the process, full from a power failure."""
    store = opened(f"sqlite:store.db{option}")

    assert store._connection.execute("PRAGMA synchronous").fetchone() == (level,)
    assert store._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_database_of_somebody_else_is_refused_and_not_touched(opened: Callable[..., Any]) -> None:
    """Also one that has no rows yet; its journal mode stays what it was."""
    change("CREATE TABLE theirs (x)", "INSERT INTO theirs VALUES (1)")
    before = FILE.read_bytes()

    with pytest.raises(SinkError, match="This database belongs to something else. Give another file."):
        opened("sqlite")
    assert FILE.read_bytes() == before
    assert os.listdir() == ["store.db"]


def test_tables_of_another_version_are_refused(opened: Callable[..., Any]) -> None:
    """A store of a later version of this package is not guessed at, not even for reading."""
    store = opened("sqlite")
    store.close(None)
    change("PRAGMA user_version = 7")

    said = "its tables are of version 7, and this one knows 1.. Use that version, or give a new file"
    with pytest.raises(SinkError, match=said):
        opened("sqlite")
    with pytest.raises(SinkError, match=said), store.reader():
        pytest.fail("It was entered.")


@pytest.mark.parametrize("manifest", ["'no json'", "'[]'", "'{}'", "'{\"name\": 3}'"])
def test_damaged_manifest_is_refused(opened: Callable[..., Any], manifest: str) -> None:
    """As a damaged file is."""
    store = opened("sqlite")
    store.close(None)
    change(f"UPDATE manifest SET json = {manifest}")

    with pytest.raises(SinkError, match="store.db is damaged.*the manifest cannot be read.*Move it away"):
        opened("sqlite")
    with pytest.raises(SinkError, match="is damaged"), store.reader():
        pytest.fail("It was entered.")


def test_corrupted_database_is_refused_with_what_to_do(opened: Callable[..., Any]) -> None:
    """Wherever it is noticed: when it is opened, when it is asked, or when it is read."""
    store = opened("sqlite")
    store.write([success(number, "x" * 3000) for number in range(200)])
    store.close(None)
    data = bytearray(FILE.read_bytes())
    data[8192:] = b"\xaa" * (len(data) - 8192)
    FILE.write_bytes(data)

    def use() -> None:
        store.open(RUN)
        try:
            store.restore([digest(number) for number in range(200)])
            with store.reader() as reader:
                list(reader.rows())
        finally:
            store.close(ValueError())

    with pytest.raises(SinkError, match="is damaged, or no SQLite database.*Move it away, or give another file"):
        use()


def test_full_disk_rolls_back(opened: Callable[..., Any]) -> None:
    """SQLite's own word for it; the batch is in the error, and smaller ones may still fit."""
    store = opened("sqlite")
    store.write([success(1)])
    store._connection.execute("PRAGMA max_page_count = 20")

    with pytest.raises(SinkError, match="There is no room left on the disk of .*Make room.*resume=True") as caught:
        store.write([success(number, "x" * 10_000) for number in range(2, 100)])

    assert len(caught.value.unwritten) == 98
    store.write([success(100)])
    assert len(store.restore([digest(number) for number in range(101)])) == 2


def test_database_that_another_program_holds_is_waited_for(
    opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And then it is an error that says so, not a loss."""
    store = opened("sqlite")
    store._connection.execute("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(FILE, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(SinkError, match="Another program has held the database.*End it") as caught:
            store.write([success(1)])
        other.execute("ROLLBACK")
    finally:
        other.close()

    store.write(caught.value.unwritten)
    assert len(store.restore([digest(1)])) == 1


def test_error_without_advice_is_told_in_its_own_words() -> None:
    """What nobody has thought of is not hidden."""
    assert what_happened(sqlite3.ProgrammingError("odd."), Path("a")) == "It failed (odd)."
    assert what_happened(ValueError("odd."), Path("a")) == "odd."


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\0")), st.binary(min_size=16, max_size=16), st.booleans()
)
def test_key_is_stored_without_loss(text: str, data: bytes, is_digest: bool) -> None:
    """A digest as its bytes, with the stage behind it; any other key as text: never two keys as one."""
    key = f"cf1:{data.hex()}" + (f"@{text}" if is_digest else text)

    assert key_from_stored(key_to_stored(key)) == key
    assert key_from_stored(key_to_stored(text)) == text
    assert isinstance(key_to_stored(f"cf1:{data.hex()}@{text}"), bytes)


def test_many_keys_are_asked_at_a_time(opened: Callable[..., Any]) -> None:
    """More than SQLite takes as variables in one question, some of them twice."""
    store = opened("sqlite")
    store.write([success(number, number) for number in range(3000)])

    keys = [digest(number) for number in range(40_000)] * 2
    found = store.restore(keys)

    assert {key: record.value for key, record in found.items()} == {digest(number): number for number in range(3000)}
