"""Runs that are killed with SIGKILL go on where they stopped; full and read-only disks lose nothing."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from celestialflow_arrow import ParquetStore
from celestialflow_core import SinkError
from celestialflow_core.sinks import Manifest
from celestialflow_core.testing import wait_until

TASKS = 300
SCRIPT = """
import os, sys, time
from celestialflow_core import TaskGraph, TaskManager

kind, mode, store, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
trace = os.open("trace", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def work(task):
    os.write(trace, f"{task}\\n".encode())
    time.sleep(0.002)
    return task * task

def tree(task):
    work(task)
    return [child for child in (2 * task + 1, 2 * task + 2) if child < count]

options = {"execution_mode": mode, "worker_limit": 4, "log_dir": None, "log_level": "ERROR"}
if kind == "manager":
    manager = TaskManager(work, enable_success_cache=True, sinks=[store], resume=True, **options)
    summary = manager.start(range(count))
    assert manager.success_dict == {task: task * task for task in range(count)}
else:
    stage = TaskManager(tree, **options)
    graph = TaskGraph("crawl", sinks=[store], resume=True, log_dir=None, log_level="ERROR")
    graph.connect(stage, stage, each=True)
    summary = graph.start({stage: [0]})
assert summary.failed == summary.cancelled == 0, summary
print(summary.total, summary.restored)
"""


def child(kind: str, mode: str, url: str) -> subprocess.Popen[str]:
    """The run."""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "job.py", kind, mode, url, str(TASKS)]
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def stored(url: str) -> list[str]:
    """The tasks in the store; none while there is none."""
    try:
        with ParquetStore(url).reader() as reader:
            return [row.task for row in reader.rows()]
    except SinkError as error:
        if "There is no store" in str(error) or "is no result store" in str(error):  # it is just being made
            return []
        raise


def has_grown(process: subprocess.Popen[str], url: str, rows: int) -> bool:
    """Whether the store has so many rows, or the run is over."""
    return len(stored(url)) >= rows or process.poll() is not None


def traced() -> list[str]:
    """The calls so far; a torn line at a kill is none."""
    return [line.strip() for line in Path("trace").read_text().splitlines(keepends=True) if line.endswith("\n")]


def kill_and_resume(kind: str, mode: str, url: str, kills: int, seed: int) -> None:
    """Kill the run *kills* times, and then let it end."""
    dice = random.Random(seed)
    Path("job.py").write_text(SCRIPT)
    Path("trace").touch()
    done: set[str] = set()
    for _ in range(kills):
        before, ran = len(done), len(traced())
        more = dice.randrange(1, TASKS // (kills + 1))
        with child(kind, mode, url) as process:
            wait_until(partial(has_grown, process, url, before + more), seconds=60)
            process.send_signal(signal.SIGKILL)
            _, said = process.communicate(timeout=60)
        assert process.returncode in (0, -signal.SIGKILL), said
        assert not done.intersection(traced()[ran:]), f"These ran although their rows could be read (seed {seed})."
        now = Counter(stored(url))
        assert max(now.values(), default=1) == 1
        assert done <= set(now), f"A row that could be read is gone (seed {seed})."
        done = set(now)
    for restored in (len(done), TASKS):
        ran = len(traced())
        with child(kind, mode, url) as process:
            out, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
        assert not done.intersection(traced()[ran:])
        assert [int(number) for number in out.split()] == [TASKS, restored]
        done = set(stored(url))
        assert Counter(stored(url)) == Counter(str(task) for task in range(TASKS))
        parts = [pq.read_table(path).column("task").to_pylist() for path in Path("results").glob("*.parquet")]
        assert sorted(task for part in parts for task in part) == sorted(str(task) for task in range(TASKS))


scenes = pytest.mark.parametrize(
    ("kind", "mode", "url"),
    [
        ("manager", "thread", "parquet:results/"),
        ("manager", "process", "parquet:results/?rows=40"),
        ("graph", "thread", "parquet:results/?rows=40"),
        ("graph", "process", "parquet:results/?seconds=0.1"),
    ],
)


@scenes
@pytest.mark.filterwarnings("ignore:.*last line was incomplete")
def test_killed_run_goes_on_where_it_stopped(own_folder: Path, kind: str, mode: str, url: str) -> None:
    """Three kills at moments that follow from a seed: each task once, nothing that could be read runs again."""
    kill_and_resume(kind, mode, url, 3, seed=1)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(2, 12))
@scenes
def test_killed_run_goes_on_however_often(own_folder: Path, kind: str, mode: str, url: str, seed: int) -> None:
    """Fifty kills a combination, five in each of ten lives."""
    kill_and_resume(kind, mode, url, 5, seed)


FULL = """
import sys
from celestialflow_core import SinkError, TaskManager
from celestialflow_arrow import ParquetStore
import random, shutil

def work(task):
    return random.Random(task).randbytes(2000).hex()

kept = []
manager = TaskManager(work, sinks=["parquet:disk/results/?rows=100"], log_dir=None, log_level="ERROR")
try:
    for outcome in manager.stream(range(10_000)):
        kept.append(outcome.task)
except SinkError as error:
    print(error)
    assert {outcome.task for outcome in error.unwritten}.isdisjoint(kept)
with ParquetStore("parquet:disk/results").reader() as reader:
    stored = [int(row.task) for row in reader.rows()]
assert len(stored) == len(set(stored)) and set(kept) <= set(stored), (kept, stored)
# Somewhere with room it goes on, and what had been accepted does not run again.
shutil.copytree("disk/results", "elsewhere", ignore=shutil.ignore_patterns("*.lock"))
again = TaskManager(work, name="work", sinks=["parquet:elsewhere"], resume=True, log_dir=None, log_level="ERROR")
summary = again.start(range(len(stored) + 10))
assert (summary.restored, summary.succeeded) == (len(stored), 10) or set(stored) != set(range(len(stored))), summary
print(len(stored))
"""


def on_disk(options: str, script: str) -> subprocess.CompletedProcess[str]:
    """Run *script* where "disk" is a file system with these *options*."""
    unshare = shutil.which("unshare")
    prefix = [unshare or "unshare", "--mount", *(() if os.geteuid() == 0 else ("--map-root-user",))]
    mount = f"mount -t tmpfs -o {options} none disk"
    if not unshare or subprocess.run([*prefix, "sh", "-c", mount], capture_output=True, check=False).returncode:
        pytest.skip("this system does not let us mount anything")
    Path("script.py").write_text(script)
    return subprocess.run(
        [*prefix, "sh", "-c", f"{mount} && exec {sys.executable} script.py"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("size", ["200k", "1m", "3m"])
def test_full_disk_ends_the_run_and_loses_nothing(own_folder: Path, size: str) -> None:
    """In a journal or in a part: a SinkError that says it; all that came out of the run is stored."""
    (own_folder / "disk").mkdir()
    done = on_disk(f"size={size}", FULL)
    assert done.returncode == 0, done.stderr
    assert "No space left on device" in done.stdout
    assert "Give a" in done.stdout
    assert int(done.stdout.split()[-1]) > 0


def test_read_only_folder_is_refused(own_folder: Path) -> None:
    """Before any task has run."""
    (own_folder / "disk").mkdir()
    script = (
        "from celestialflow_core import TaskManager, SinkError\n"
        "for url in ('parquet:disk/results', 'parquet:disk'):\n"
        "    try:\n"
        "        TaskManager(print, sinks=[url], log_dir=None, log_level='ERROR').start([1])\n"
        "    except SinkError as error:\n"
        "        print(error)\n"
    )
    done = on_disk("ro", script)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert "Read-only file system" in first
    assert "Read-only file system" in second
    assert "cannot be written" in second


def test_part_that_cannot_be_made_is_made_later(
    opened: Callable[..., ParquetStore], outcomes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch that came next is not accepted, and said to be so; what was in the journal stays there until it can."""
    store = opened("parquet:results/?rows=2")
    store.write(outcomes.all(range(2)))
    (Path("results") / "_part-000001.parquet.tmp").mkdir()  # so no file of that name can be made
    with pytest.raises(SinkError) as caught:
        store.write(outcomes.all(range(2, 5)))
    assert len(caught.value.unwritten) == 3
    with pytest.raises(SinkError):
        store.close(None)
    with store.reader() as reader:
        assert reader.count() == 2

    (Path("results") / "_part-000001.parquet.tmp").rmdir()
    again = opened()
    assert len(again.restore([outcomes.key(task) for task in range(5)])) == 2


def test_missing_folder_is_said(own_folder: Path) -> None:
    """One folder is made; that in which it shall be must be there. A file is no folder."""
    Path("file").touch()
    for url, said in (("parquet:no/results", "does not exist. Make it"), ("parquet:file", "is no folder")):
        store = ParquetStore(url)
        with pytest.raises(SinkError, match=said):
            store.open(Manifest(name="w", stages=()))
        store.close(None)
