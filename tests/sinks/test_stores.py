"""What both built-in stores do when the world is against them: full disks, folders that cannot be written, damage."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from celestialflow_core._digest import digest
from celestialflow_core.errors import SinkError
from celestialflow_core.testing._outcomes import RUN, failure, success

FILLS_THE_DISK = """
import resource, sys
from celestialflow_core.errors import SinkError
from celestialflow_core.plugins.registry import installed
from celestialflow_core.sinks._resolve import resolve_sink
from celestialflow_core.testing._outcomes import RUN, success

resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
store = resolve_sink(sys.argv[1], installed())
store.open(RUN)
accepted = 0
try:
    while True:
        store.write([success(number, "x" * 1000) for number in range(accepted, accepted + 20)])
        accepted += 20
except SinkError as error:
    print(accepted, len(error.unwritten), error)
    store.close(error)
"""


def url_of(kind: str) -> str:
    return {"sqlite": "sqlite:store.db", "jsonl": "jsonl:store.jsonl"}[kind]


def file_of(kind: str) -> Path:
    return Path(url_of(kind).partition(":")[2])


def test_full_disk_loses_nothing_that_was_accepted(
    kind: str, run_child: Callable[..., subprocess.CompletedProcess[str]], opened: Callable[..., Any]
) -> None:
    """The batch that did not fit is in the error, nothing of it is in the store, and the next run goes on."""
    done = run_child(FILLS_THE_DISK, url_of(kind))
    assert done.stderr == ""
    accepted, unwritten, said = done.stdout.split(" ", 2)

    assert unwritten == "20"
    assert said.startswith(f"{url_of(kind)}: ")
    assert "What was accepted is stored; a run with resume=True goes on from there." in said
    store = opened(kind)
    assert len(store.restore([digest(number) for number in range(100_000)])) == int(accepted) > 0
    store.write([success(number, "again") for number in range(int(accepted), int(accepted) + 20)])
    with store.reader() as reader:
        assert reader.count() == int(accepted) + 20


def test_closed_folder_is_refused(
    kind: str, opened: Callable[..., Any], closed_folder: Path, unprivileged: Callable[[], Any]
) -> None:
    """With what to do, and nothing is left open."""
    closed_folder.chmod(0o555)

    with (
        unprivileged(),
        pytest.raises(SinkError, match=r"cannot be written .Permission denied.\. Give a path where this"),
    ):
        opened(f"{kind}:{closed_folder}/store")
    assert list(closed_folder.iterdir()) == []


def test_store_in_a_closed_folder_can_be_read(
    kind: str, opened: Callable[..., Any], closed_folder: Path, unprivileged: Callable[[], Any]
) -> None:
    """Reading needs no permission to write."""
    store = opened(f"{kind}:{closed_folder}/store")
    store.write([success(1)])
    store.close(None)
    closed_folder.chmod(0o555)

    with unprivileged(), store.reader() as reader:
        assert reader.count() == 1


def test_store_that_may_not_be_read_says_so(
    kind: str, opened: Callable[..., Any], closed_folder: Path, unprivileged: Callable[[], Any]
) -> None:
    """Rather than that there is none."""
    store = opened(f"{kind}:{closed_folder}/store")
    store.close(None)
    closed_folder.chmod(0)

    with unprivileged(), pytest.raises(SinkError, match="cannot be read .Permission denied"), store.reader():
        pytest.fail("It was entered.")


@pytest.mark.parametrize("path", ["/proc/store", "missing/store", "/dev/null/store"])
def test_path_that_cannot_be_is_refused(kind: str, path: str, opened: Callable[..., Any]) -> None:
    """A SinkError that names the path or the folder, and says what to do."""
    with pytest.raises(SinkError, match="Give a path|Make it, or give another path") as caught:
        opened(f"{kind}:{path}")
    assert path.rpartition("/")[0] in str(caught.value)


def test_folder_in_its_place_is_refused(kind: str, opened: Callable[..., Any], own_folder: Path) -> None:
    """A folder of that name is no store."""
    (own_folder / "store").mkdir()

    with pytest.raises(SinkError, match="no ordinary file|cannot be written"):
        opened(f"{kind}:store")
    assert [path.name for path in own_folder.iterdir()] == ["store"]


@pytest.mark.parametrize(
    "content", [b"hello\n", b'{"task": 1}\n{"task": 2}\n', b"{}", b'{"cel', b"\0" * 5000, b"[1, 2]"]
)
def test_file_of_somebody_else_is_refused_and_not_touched(
    kind: str, content: bytes, opened: Callable[..., Any]
) -> None:
    """A list of tasks that was given as the store by mistake is as it was."""
    file_of(kind).write_bytes(content)

    with pytest.raises(SinkError, match="ive (a|another) file|give another file"):
        opened(kind)

    assert file_of(kind).read_bytes() == content
    assert os.listdir() == [str(file_of(kind))]


def test_refusal_leaves_nothing_open(kind: str, opened: Callable[..., Any]) -> None:
    """After a refusal of any kind the store can be opened at once."""
    opened(kind).close(None)
    for change in ({"version": "2"}, {"name": "other"}, {"keys": "cf0"}):
        with pytest.raises(SinkError):
            opened(kind, attrs.evolve(RUN, **change))

    opened(kind).write([success(1)])


def test_path_is_that_of_the_folder_in_which_the_sink_was_made(
    kind: str, opened: Callable[..., Any], own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A function that changes the folder does not move the store."""
    store = opened(kind)
    store.close(None)
    (own_folder / "elsewhere").mkdir()
    monkeypatch.chdir(own_folder / "elsewhere")
    store.open(RUN)
    store.write([success(1)])
    store.close(None)

    assert os.listdir() == []


def test_interrupt_in_a_batch_stores_nothing_of_it(kind: str, opened: Callable[..., Any]) -> None:
    """Ctrl-C while a value is pickled: the batch is not accepted, nothing of it is there, and the store goes on."""

    class Slow:
        def __reduce__(self) -> Any:
            raise KeyboardInterrupt

    store = opened(kind)
    with pytest.raises(KeyboardInterrupt):
        store.write([success(1, "a"), success(2, Slow())])
    store.write([success(3, "b")])

    with store.reader() as reader:
        assert [row.key for row in reader.rows()] == [digest(3)]


def test_reader_sees_a_store_that_is_written_to(kind: str, opened: Callable[..., Any]) -> None:
    """What has been accepted when it is entered; the writer is not held up."""
    store = opened(kind)
    store.write([success(1)])
    with store.reader() as reader:
        rows = reader.rows()
        first = next(rows)
        store.write([success(2), failure(3, ValueError())])
        assert first.key == digest(1)
        rows.close()
        with store.reader() as second:
            assert second.count() == 3


def test_reader_of_nothing_says_so(kind: str, opened: Callable[..., Any]) -> None:
    """No store is made by looking for one."""
    store = opened(kind)
    store.close(None)
    file_of(kind).unlink()

    with pytest.raises(SinkError, match="There is no store at"), store.reader():
        pytest.fail("It was entered.")
    assert os.listdir() == []


def test_reader_that_was_left_says_so(kind: str, opened: Callable[..., Any]) -> None:
    """Instead of an error of the file or the database."""
    reader = opened(kind).reader()
    with reader:
        assert reader.count() == 0
    for question in (lambda: reader.count(), lambda: list(reader.rows())):
        with pytest.raises(SinkError, match="not open. Use it in a with statement"):
            question()


def test_readers_and_refused_stores_leave_nothing(kind: str, opened: Callable[..., Any], own_folder: Path) -> None:
    """A closed store is one file."""
    store = opened(kind)
    store.write([success(1)])
    with store.reader() as reader:
        assert reader.count() == 1
    store.close(None)

    assert os.listdir() == [str(file_of(kind))]


def test_later_runs_are_remembered_by_the_manifest(kind: str, opened: Callable[..., Any]) -> None:
    """Stages are added up, the target is the last one, and a store of two shards is of none."""
    opened(kind, attrs.evolve(RUN, shard="1/2", target=None)).close(None)
    opened(kind, attrs.evolve(RUN, shard="2/2", stages=("more", "work"), target="a:b")).close(None)
    store = opened(kind, attrs.evolve(RUN, shard="2/2", target=None))

    with store.reader() as reader:
        manifest = reader.manifest
    assert (manifest.stages, manifest.target, manifest.shard) == (("work", "more"), "a:b", None)
    assert (manifest.name, manifest.version) == ("work", "1")


def test_memory_is_flat(kind: str, run_child: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """A hundred thousand rows, written, restored and read, take a few megabytes."""
    code = """
import resource, sys
from celestialflow_core.plugins.registry import installed
from celestialflow_core.sinks._resolve import resolve_sink
from celestialflow_core.testing._outcomes import RUN, success

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

def batches():
    for first in range(0, 100_000, 1000):
        yield [success(number, "value %d" % number) for number in range(first, first + 1000)]

def write(count):
    store.open(RUN)
    for batch, _ in zip(batches(), range(count)):
        store.write(batch)
    store.close(None)

store = resolve_sink(sys.argv[1], installed())
write(2)
before = peak()
write(100)
store.open(RUN)
assert sum(len(store.restore([outcome.key for outcome in batch])) for batch in batches()) == 100_000
with store.reader() as reader:
    assert sum(1 for _ in reader.rows()) == 100_000
store.close(None)
print(peak() - before)
"""
    done = run_child(code, url_of(kind))

    assert done.stderr == ""
    assert float(done.stdout) < 25
