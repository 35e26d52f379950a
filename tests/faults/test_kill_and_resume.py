"""A run that is killed with SIGKILL goes on where it stopped (faults.md, 35).

A child runs a manager, or a graph with a cycle and a join, on a store. It is killed when the store has grown by a
number of rows that follows from the seed, and started again with ``resume=True``, until it comes to its end. Each call
writes a line to a trace before it does anything, so that it can be told afterwards what ran twice.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from celestialflow_core.plugins import installed
from celestialflow_core.sinks import Readable, Row
from celestialflow_core.sinks._resolve import resolve_sink
from celestialflow_core.testing import wait_until

TASKS = 300
KILLS = 3

SCRIPT = """
import os, sys, time
from celestialflow_core import TaskGraph, TaskManager

kind, mode, store, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
trace = os.open("trace", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def note(stage, task):
    os.write(trace, f"{stage} {task}\\n".encode())

def work(task):
    note("work", task)
    time.sleep(0.002)
    return task * task

def fetch(page):
    note("fetch", page)
    time.sleep(0.002)
    return [page, [child for child in (2 * page + 1, 2 * page + 2) if child < count]]

def links(result):
    note("links", result[0])
    return result[1]

def index(family):
    note("index", family.root.task)
    return len(family.leaves)

options = {"execution_mode": mode, "worker_limit": 4, "log_dir": None, "log_level": "ERROR"}
if kind == "manager":
    manager = TaskManager(work, enable_success_cache=True, sinks=[store], resume=True, **options)
    summary = manager.start(range(count))
    assert manager.success_dict == {task: task * task for task in range(count)}
else:
    fetcher, linker = TaskManager(fetch, **options), TaskManager(links, log_dir=None)
    start, indexer = TaskManager(lambda task: [task], name="start", log_dir=None), TaskManager(index, log_dir=None)
    graph = TaskGraph("crawl", sinks=[store], resume=True, log_dir=None, log_level="ERROR")
    graph.connect(start, fetcher, each=True).connect(fetcher, linker).connect(linker, fetcher, each=True)
    graph.connect(start, indexer, gather=True)
    summary = graph.start({start: [0]})
assert summary.failed == summary.cancelled == 0, summary
print(summary.total, summary.restored)
"""


class Scene:
    """One store, and the child that works on it."""

    def __init__(self, kind: str, mode: str, url: str) -> None:
        self.kind, self.mode, self.url = kind, mode, url
        Path("job.py").write_text(SCRIPT)
        Path("trace").touch()

    def child(self, **options: Any) -> subprocess.Popen[bytes]:
        """The run."""
        command = [sys.executable, "job.py", self.kind, self.mode, self.url, str(TASKS)]
        return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, **options)

    def rows(self) -> list[Row]:
        """What can be read in the store."""
        store = resolve_sink(self.url, installed())
        assert isinstance(store, Readable)
        with store.reader() as reader:
            return list(reader.rows())

    def count(self) -> int:
        """How many rows can be read; 0 while there is no store."""
        try:
            return len(self.rows())
        except Exception:
            return 0

    def has_grown(self, child: subprocess.Popen[bytes], rows: int) -> bool:
        """Whether the store has so many rows, or the run is over."""
        return self.count() >= rows or child.poll() is not None

    def trace(self) -> list[str]:
        """The calls so far; a torn line at a kill is none."""
        return [line for line in Path("trace").read_text().splitlines(keepends=True) if line.endswith("\n")]


def is_done(row: Row) -> str | None:
    """The line of the trace of a row, where the call's argument is the task."""
    return f"{row.stage} {row.task}\n" if row.stage in ("work", "fetch") else None


def kill_and_resume(kind: str, mode: str, url: str, kills: int, seed: int) -> None:
    """Kill the run *kills* times, and then let it end."""
    dice = random.Random(seed)
    scene = Scene(kind, mode, url)
    done: set[str] = set()
    for _ in range(kills):
        before, ran = scene.count(), len(scene.trace())
        child = scene.child()
        more = dice.randrange(1, TASKS // (kills + 1))
        wait_until(partial(scene.has_grown, child, before + more), seconds=60)
        child.send_signal(signal.SIGKILL)
        _, said = child.communicate(timeout=60)
        assert child.returncode in (0, -signal.SIGKILL), said.decode()
        again = done.intersection(scene.trace()[ran:])
        assert not again, f"These ran although their rows could be read (seed {seed}): {sorted(again)[:5]}"
        keys = Counter(row.key for row in scene.rows())
        assert max(keys.values(), default=1) == 1
        new = {line for row in scene.rows() if (line := is_done(row))}
        assert done <= new, f"A row that could be read is gone (seed {seed})."
        done = new
    ran = len(scene.trace())
    child = scene.child()
    out, said = child.communicate(timeout=120)
    assert child.returncode == 0, said.decode()
    assert not done.intersection(scene.trace()[ran:])
    rows = scene.rows()
    stages = Counter(row.stage for row in rows)
    wanted = {"work": TASKS} if kind == "manager" else {"start": 1, "fetch": TASKS, "links": TASKS, "index": 1}
    assert stages == wanted
    assert {row.status for row in rows} == {"success"}
    total, _ = map(int, out.split())
    assert total == len(rows)
    # Another resume restores all and runs none.
    ran = len(scene.trace())
    out, said = (child := scene.child()).communicate(timeout=120)
    assert child.returncode == 0, said.decode()
    assert list(map(int, out.split())) == [total, total]
    assert scene.trace()[ran:] == []


STORES = ["sqlite:store.db", "jsonl:store.jsonl"]
scenes = pytest.mark.parametrize(
    ("kind", "mode", "url"),
    [(kind, mode, url) for kind in ("manager", "graph") for mode in ("thread", "process") for url in STORES],
)


@scenes
def test_killed_run_goes_on_where_it_stopped(kind: str, mode: str, url: str) -> None:
    """Three kills at moments that follow from a seed."""
    kill_and_resume(kind, mode, url, KILLS, seed=1)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(2, 12))
@scenes
def test_killed_run_goes_on_however_often(kind: str, mode: str, url: str, seed: int) -> None:
    """Fifty kills a combination, five in each of ten lives."""
    kill_and_resume(kind, mode, url, 5, seed)
