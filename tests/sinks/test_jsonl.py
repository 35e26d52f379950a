"""The jsonl store: its lines, what becomes of torn and damaged ones, and the index."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from celestialflow_core._digest import digest
from celestialflow_core.errors import SinkError
from celestialflow_core.sinks import Row, rows_of
from celestialflow_core.sinks._line_index import LineIndex, complete_size, last_line
from celestialflow_core.sinks._lines import key_in, key_text, lines_of, record_in, row_of
from celestialflow_core.sinks._slots import empty_slots
from celestialflow_core.sinks.jsonl import TornLine
from celestialflow_core.testing._outcomes import RUN, failure, success

FILE = Path("store.jsonl")


def lines() -> list[Any]:
    """What is in the file, line by line."""
    return [json.loads(line) for line in FILE.read_bytes().splitlines()]


def test_lines_are_json_for_everybody(opened: Callable[..., Any]) -> None:
    """A first line on the store; then a line a task, with the value as it is, and the pickle of what is no JSON."""
    store = opened("jsonl")
    store.write([success({"url": "a"}, {"títle": [1, None]}), success(2, (1,), seconds=None, worker=None, stage=None)])
    store.write([failure("t", ValueError("bad"), traceback="Traceback")])

    first, one, two, three = lines()
    at = one.pop("at")
    assert first["celestialflow_store"] == 1
    assert first["manifest"]["name"] == "work"
    assert one == {
        "key": digest({"url": "a"}),
        "stage": "work",
        "task": {"url": "a"},
        "status": "success",
        "value": {"títle": [1, None]},
        "seconds": 0.25,
        "worker": 0,
        "attempts": 1,
    }
    assert "títle".encode() in FILE.read_bytes()
    assert (two["value"], sorted(two)) == ("(1,)", ["at", "attempts", "key", "status", "task", "value", "value_pickle"])
    assert (three["status"], three["error_type"], three["error_message"]) == ("error", "ValueError", "bad")
    assert three["error_traceback"] == "Traceback"
    assert three["at"] >= at > 1_500_000_000


@pytest.mark.parametrize("torn", [b"{", b'{"key":"cf1:0', b"\0" * 3_000_000, b'{"key":"a"}'])
def test_torn_last_line_is_set_aside(opened: Callable[..., Any], torn: bytes) -> None:
    """It is moved beside the store, reported once, and never taken for a row; what was before it is there."""
    store = opened("jsonl")
    store.write([success(1, "a"), success(2, "b")])
    store.close(None)
    whole = FILE.read_bytes()
    FILE.write_bytes(whole + torn)

    with pytest.warns(TornLine, match=f"the last line was incomplete \\({len(torn)} bytes\\)") as caught:
        store = opened("jsonl")

    assert len(caught) == 1
    assert caught[0].filename == __file__ or caught[0].filename.endswith("conftest.py")
    assert FILE.read_bytes() == whole
    assert Path("store.jsonl.torn").read_bytes() == torn + b"\n"
    store.write([success(3, "c")])
    store.close(None)
    store = opened("jsonl")
    assert len(store.restore([digest(number) for number in range(5)])) == 3


def test_second_torn_line_is_put_behind_the_first(opened: Callable[..., Any]) -> None:
    """Nothing that was set aside is written over."""
    opened("jsonl").close(None)
    for torn in (b'{"one', b'{"two'):
        with FILE.open("ab") as file:
            file.write(torn)
        with pytest.warns(TornLine):
            opened("jsonl", attrs.evolve(RUN, resume=False)).close(None)

    assert Path("store.jsonl.torn").read_bytes() == b'{"one\n{"two\n'


def test_torn_first_line_is_a_store_without_rows(opened: Callable[..., Any]) -> None:
    """A process that was killed when the file was new leaves a part of the first line."""
    opened("jsonl").close(None)
    whole = FILE.read_bytes()
    FILE.write_bytes(whole[:30])

    with pytest.warns(TornLine):
        store = opened("jsonl")
    assert FILE.read_bytes() == whole
    store.write([success(1)])


def test_reader_leaves_a_torn_line_aside(opened: Callable[..., Any]) -> None:
    """It reads what is whole and touches nothing: the writer may be in the middle of that line."""
    store = opened("jsonl")
    store.write([success(1)])
    with FILE.open("ab") as file:
        file.write(b'{"key":"cf1:')
    before = FILE.read_bytes()

    with store.reader() as reader:
        assert [row.key for row in reader.rows()] == [digest(1)]
    assert FILE.read_bytes() == before


@pytest.mark.parametrize(
    "line", [b"hello", b"[]", b'{"task":1}', b'{"key":3}', b'{"key":"a', b'{"key":"a"} x', b'{"key":"cf1:0"', b"\0\0\0"]
)
def test_damaged_line_refuses_the_run(opened: Callable[..., Any], line: bytes) -> None:
    """With where it is and what to do; a damaged store is not guessed at."""
    store = opened("jsonl")
    store.write([success(1)])
    store.close(None)
    size = FILE.stat().st_size
    with FILE.open("ab") as file:
        file.write(line + b"\n")

    with pytest.raises(SinkError) as caught:
        opened("jsonl").restore(["a"])

    assert f"is damaged (the line at byte {size} is no row" in str(caught.value)
    assert "Remove that line, and its task runs again; or give another file." in str(caught.value)
    with pytest.raises(SinkError, match="is damaged"), store.reader() as reader:
        list(reader.rows())


def test_damage_inside_of_a_line_is_found_when_it_is_read(opened: Callable[..., Any]) -> None:
    """A line that begins and ends well is not parsed before it is wanted."""
    store = opened("jsonl")
    store.write([success(1, "value")])
    store.close(None)
    FILE.write_bytes(FILE.read_bytes().replace(b'"value"}', b'"value}').replace(b'"value":"value"', b'"value":"val\1"'))

    with pytest.raises(SinkError, match="is damaged"):
        opened("jsonl").restore([digest(1)])


def test_line_that_somebody_edited_is_read(opened: Callable[..., Any]) -> None:
    """Spaces, another order of the keys, escapes, blank lines: a row is a row."""
    store = opened("jsonl")
    store.write([success(1, "a"), success(2, "b", "cf1:é")])
    store.close(None)
    edited = [json.dumps(dict(reversed(line.items()))) for line in lines()[1:]]
    first = FILE.read_text(encoding="utf-8").splitlines()[0]
    FILE.write_text("\n".join([first, "", *edited, ""]), encoding="utf-8")

    found = opened("jsonl").restore([digest(1), "cf1:é"])

    assert {key: record.value for key, record in found.items()} == {digest(1): "a", "cf1:é": "b"}


def test_store_of_another_format_is_refused(opened: Callable[..., Any]) -> None:
    """Lines of a later version are not guessed at."""
    opened("jsonl").close(None)
    FILE.write_bytes(FILE.read_bytes().replace(b'_store":1', b'_store":2'))

    with pytest.raises(
        SinkError, match="its lines are of version 2, and this one knows 1.. Use that version, or give a"
    ):
        opened("jsonl")


def test_write_that_fails_leaves_no_part_of_it(opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernel took of a batch is taken away again; if that fails too, nothing more is written."""
    store = opened("jsonl")
    store.write([success(1)])
    before = FILE.read_bytes()
    real = os.write

    def part(fd: int, data: Any) -> int:
        if len(data) > 10:
            return real(fd, data[:10])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", part)
        with pytest.raises(SinkError, match="No space left") as caught:
            store.write([success(2)])
        assert len(caught.value.unwritten) == 1
        assert FILE.read_bytes() == before

        patched.setattr(os, "ftruncate", lambda fd, size: part(fd, b""))
        with pytest.raises(SinkError, match="No space left"):
            store.write([success(2)])
    with pytest.raises(SinkError, match="not open"):
        store.write([success(3)])
    store.close(None)
    with pytest.warns(TornLine):
        store = opened("jsonl")
    assert len(store.restore([digest(number) for number in (1, 2, 3)])) == 1


texts = st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\0"))
rows = st.builds(
    Row,
    key=st.text(st.characters(codec="utf-8", exclude_characters="\0")),
    stage=texts,
    task=st.just('{"a":[1,"é"]}'),
    task_pickle=st.none() | st.binary(),
    status=st.sampled_from(["success", "error"]),
    value=st.just("[1]"),
    value_pickle=st.none() | st.binary(),
    error_type=texts,
    error_message=texts,
    error_place=texts,
    error_traceback=texts,
    error_pickle=st.none() | st.binary(),
    attempts=st.integers(0, 1 << 62),
    seconds=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    worker=st.none() | st.integers(0, 1 << 62),
    at=st.floats(0, 1e12),
)


@given(st.lists(rows))
def test_row_is_its_line(given: list[Row]) -> None:
    """A row that is written as a line and read again is the same row, but for what its status has no use for."""
    nothing = dict.fromkeys(("value", "value_pickle"))
    no_error = dict.fromkeys(("error_type", "error_message", "error_place", "error_traceback", "error_pickle"))
    expected = [row._replace(**(no_error if row.status == "success" else nothing)) for row in given]

    written = lines_of(given).split(b"\n")[:-1]

    assert [row_of(line + b"\n") for line in written] == expected
    assert [key_in(line + b"\n") for line in written] == [key_text(row.key).encode() for row in given]


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans(), st.integers(0, 3))), st.randoms())
def test_index_finds_the_last_line_of_each_key(tmp_path_factory: Any, written: Any, random: Any) -> None:
    """Against a dict: whatever keys come again, in whatever order they are asked for, however long they are."""
    path = tmp_path_factory.mktemp("index") / "file"
    keys = [f'{digest(number)}@ü"{number % 3}' if odd else digest(number) for number, odd, _ in written]
    lengths = [10**length for _, _, length in written]
    outcomes = [success(n, "long" * n * lengths[n], key) for n, key in enumerate(keys)]
    path.write_bytes(lines_of(rows_of(outcomes, 1.0)))
    expected = {outcome.key: outcome.value for outcome in outcomes}

    with path.open("rb") as file:
        index = LineIndex(path, file.fileno(), path.stat().st_size)
        wanted = [*expected, digest("missing")]
        random.shuffle(wanted)
        found = {key: record_in(key, line) for key, line in index.lines_of(wanted)}

    assert {key: record.value for key, record in found.items() if record is not None} == expected
    assert (index.count, index.lines) == (len(expected), len(outcomes))


@pytest.mark.parametrize("size", [0, 1, 5, 3_000_000])
def test_complete_size_is_that_of_the_lines(own_folder: Path, size: int) -> None:
    """However long the part after the last line feed is, and whether there is one at all."""
    path = own_folder / "file"
    for before in (b"", b"\n", b"a\nb\n"):
        path.write_bytes(before + b"x" * size)
        with path.open("rb") as file:
            assert complete_size(file.fileno(), path.stat().st_size) == len(before)


@pytest.mark.parametrize("between", [0, 1, 10, 1_048_560, 1_048_576, 3_000_000])
def test_last_line_that_begins_so_is_found(own_folder: Path, between: int) -> None:
    """Wherever it is, also across the border of two reads; the first line, where no other begins so."""
    path = own_folder / "file"
    for shift in range(12):
        head, tail = b'{"begin":1}\n', b"y" * (shift + between) + b"\n"
        for data, expected in ((head + tail, head), (head + tail + b'{"begin":2}\n' + tail, b'{"begin":2}\n')):
            path.write_bytes(data + b'{"begin":"torn')
            with path.open("rb") as file:
                assert last_line(file.fileno(), len(data), b'{"begin":') == expected


def test_index_costs_sixteen_bytes_a_row(own_folder: Path) -> None:
    """And not more with the length of the lines."""
    path = own_folder / "file"
    path.write_bytes(lines_of(rows_of([success(number, "x" * 100) for number in range(20_000)], 1.0)))
    with path.open("rb") as file:
        index = LineIndex(path, file.fileno(), path.stat().st_size)

    assert index._table.itemsize * len(index._table) <= 16 * 20_000 + 64


def test_index_gives_its_memory_back(own_folder: Path, run_child: Any) -> None:
    """And has malloc keep none of what the process frees later, as it does when it has seen a large block go."""
    (own_folder / "file").write_bytes(b"\n" * 1_000_000)
    code = """
import re
from pathlib import Path
from celestialflow_core.sinks._line_index import LineIndex

def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

with open("file", "rb") as file:
    index = LineIndex(Path("file"), file.fileno(), 1_000_000)
del index
before = resident()
freed, kept = b"x" * 8_000_000, b"x" * 1_000_000
del freed
print(resident() - before)
"""
    done = run_child(code)

    assert done.stderr == ""
    assert float(done.stdout) < 3


def test_index_without_room_says_so() -> None:
    """What the system has no memory for is a MemoryError, as anywhere else, and no error of the file."""
    with pytest.raises(MemoryError, match="An index of 1,125,899,906,842,624 slots has no room"):
        empty_slots(1 << 50)
