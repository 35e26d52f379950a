"""Runs that are killed with SIGKILL and go on, again and again, until they are done."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from celestialflow_core.testing import wait_until
from celestialflow_sql import make_store

SCRIPT = """
import os, sys, time
from celestialflow_core import TaskManager

trace = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def work(number):
    os.write(trace, b"%d\\n" % number)
    time.sleep(0.002)
    if number % 50 == 7:
        raise ValueError(number)
    return [number, "x" * (number % 7)]

manager = TaskManager(work, sys.argv[3], worker_limit=2, max_in_flight=300, max_retries=0, sinks=[sys.argv[1]],
                      resume="unfinished", log_dir=None, log_level="ERROR")
summary = manager.start(range(int(sys.argv[4])))
print(summary.succeeded, summary.failed, summary.restored)
"""


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(3, id="3 kills"),
        pytest.param(50, id="50 kills", marks=[pytest.mark.soak, pytest.mark.timeout(1800)]),
    ],
)
@pytest.mark.parametrize("mode", ["thread", "serial"])
def test_killed_run_goes_on(server: Any, tmp_path: Path, mode: str, kills: int) -> None:
    """Each task is in the store exactly once, nothing runs again after its row was there, and no result is missing."""
    url, trace, tasks = server.url(), tmp_path / "trace", 250 * (kills + 1)
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    trace.touch()
    command = [sys.executable, str(script), url, str(trace), mode, str(tasks)]
    known: dict[str, tuple[str, str | None]] = {}
    ran: Counter[str] = Counter()
    for kill in range(kills):
        wanted = sum(ran.values()) + 60 + 37 * kill % 90  # some in the middle of a batch, some at its end
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        wait_until(lambda wanted=wanted: _lines(trace) >= wanted or process.poll() is not None, 120)  # noqa: B023
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL  # it was not done yet
        before, ran = ran, Counter(trace.read_text().split())
        again = {task for task in ran if ran[task] > before[task]}
        assert again.isdisjoint(known)
        stored = _stored(url)
        assert known.items() <= stored.items()
        known = stored

    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    before, ran = ran, Counter(trace.read_text().split())
    assert {task for task in ran if ran[task] > before[task]}.isdisjoint(known)
    succeeded, failed, restored = map(int, done.stdout.split())
    assert restored == len(known)
    assert succeeded + failed == tasks - restored
    stored = _stored(url)
    assert {task for task, (status, _) in stored.items() if status == "error"} == {str(n) for n in range(7, tasks, 50)}
    assert {task: value for task, (status, value) in stored.items() if status == "success"} == {
        str(number): f'[{number},"{"x" * (number % 7)}"]' for number in range(tasks) if number % 50 != 7
    }


def _stored(url: str) -> dict[str, tuple[str, str | None]]:
    with make_store(url).reader() as reader:
        rows = list(reader.rows())
    found = {row.task: (row.status, row.value) for row in rows}
    assert len(found) == len(rows)
    return found


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n")
