"""When the program dies, its workers do: whatever they are doing, however it dies."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from celestialflow_core.testing import wait_until

SCRIPT = """
import os, re, sys, time
from celestialflow_core import TaskManager

def job(kind):
    with open(f"pid-{kind}.new", "w") as file:
        file.write(str(os.getpid()))
    os.rename(f"pid-{kind}.new", f"pid-{kind}")
    if kind == "idle":
        while not (os.path.exists("pid-sleep") and os.path.exists("pid-locked")):
            time.sleep(0.01)
    elif kind == "sleep":
        time.sleep(60)
    elif kind == "locked":
        re.match(r"(a+)+$", "a" * 80 + "b")   # C code that keeps the interpreter lock for years
    return kind

manager = TaskManager(job, "process", 3, log_dir=None)
for outcome in manager.stream(["idle", "sleep", "locked"]):
    open("ready", "w").close()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_the_program(child, gone, tmp_path, number):
    """One worker sleeps, one computes in C, one is idle: all are gone within five seconds."""
    program = child(SCRIPT)
    try:
        wait_until(lambda: Path("ready").exists() or program.poll() is not None, seconds=60)
        pids = [int(Path(f"pid-{kind}").read_text()) for kind in ("idle", "sleep", "locked")]
        assert len(set(pids)) == 3
        assert not any(map(gone, pids))
        program.send_signal(number)
        assert program.wait(30) == -number
        wait_until(lambda: all(map(gone, pids)), seconds=5)
    finally:
        program.kill()
        program.communicate()


def test_workers_that_are_starting_end_with_the_program(child, gone):
    """Killed while its workers set up, it leaves none of them either."""
    program = child(
        """
import os, time
from celestialflow_core import TaskManager

def setup():
    open(f"up-{os.getpid()}", "w").close()
    time.sleep(60)

TaskManager(abs, "process", 2, worker_setup=setup, log_dir=None).start(range(10))
"""
    )
    try:
        wait_until(lambda: len(list(Path().glob("up-*"))) == 2 or program.poll() is not None, seconds=60)
        pids = [int(path.name[3:]) for path in Path().glob("up-*")]
        assert len(pids) == 2
        program.kill()
        program.wait(30)
        wait_until(lambda: all(map(gone, pids)), seconds=5)
    finally:
        program.kill()
        program.communicate()
