"""Handlers of the application that raise, in every mode: what asks a program to end, ends its run as Ctrl-C does.

Each scene is an interpreter of its own that gets real signals, again and again at moments that nobody chose.
"""

from __future__ import annotations

import json
import signal
import time
from typing import Any

import pytest

MODES = ["serial", "thread", "async", "process"]

STORM = """
import asyncio, json, os, random, signal, sys, threading
from celestialflow_core import TaskManager
from celestialflow_core.testing import Resources

mode, how, times = sys.argv[1], sys.argv[2], int(sys.argv[3])

class Quit(BaseException):
    pass

def handler(number, frame):
    raise Quit("by the application")

if mode == "async":
    async def job(task):
        await asyncio.sleep(0)
        return task
else:
    def job(task):
        return task

def new():
    return TaskManager(job, mode, 2, enable_success_cache=True, enable_error_cache=True, log_dir=None,
                       log_level="ERROR", grace=1)

def endless():
    number = 0
    while True:
        yield number
        number += 1

new().start([0])  # whatever is opened once and for good is open
signal.signal(signal.SIGINT, handler)
before, found = Resources(), []
chance = random.Random(7)
for attempt in range(times):
    manager = new()
    killer = threading.Timer(chance.random() / 20, os.kill, (os.getpid(), signal.SIGINT))
    try:  # from here on: on a busy machine the signal may come before the run has begun
        killer.start()
        if how == "start":
            manager.start(range(10**9))
        elif how == "stream":
            with manager.stream(endless(), ordered=True) as outcomes:
                for outcome in outcomes:
                    pass
        found.append("The run ended by itself.")
    except Quit as error:
        text = str(error)
    killer.join()
    counts = manager.counts
    if counts.pending or counts.running or counts.taken != counts.settled:
        found.append(f"torn: {counts}")
    if len(manager.success_dict) != counts.succeeded or len(manager.error_dict) != counts.failed:
        found.append(f"dicts: {len(manager.success_dict)} and {len(manager.error_dict)} of {counts}")
    if manager.summary is not None and manager.summary.total != counts.taken:
        found.append(f"summary: {manager.summary} and {counts}")
    if signal.getsignal(signal.SIGINT) is not handler:
        found.append("The handler is not the application's any more.")
try:
    before.expect_no_leaks()
except AssertionError as error:
    found.append(str(error))
print(json.dumps(found))
"""


@pytest.mark.parametrize("how", ["start", "stream"])
@pytest.mark.parametrize("name", MODES)
def test_handler_that_raises_tears_nothing_and_leaves_nothing(child: Any, name: str, how: str) -> None:
    """At ten moments of ten runs: what it raises reaches the caller, counts and dicts agree, no worker is left."""
    with child(STORM, name, how, "10") as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert json.loads(out) == []
    assert err == ""


ASKED = """
import asyncio, json, signal, sys, time
from celestialflow_core import TaskManager, hookimpl

mode, where = sys.argv[1], sys.argv[2]

def asked(number, frame):
    sys.exit(7)

def wait(task):
    time.sleep(0.02)
    return task

async def wait_async(task):
    await asyncio.sleep(0.02)
    return task

class Ready:
    @hookimpl
    def on_success(self, outcome):
        if outcome.task == 3:
            print("ready", flush=True)
            if where == "hook":
                time.sleep(60)

def tasks():
    for task in range(10_000):
        if task == 8 and where == "iterable":
            time.sleep(60)
        yield task

def report():
    with open("report", "w") as file:
        json.dump([manager.summary.total, manager.counts.settled, manager.counts.taken, len(manager.success_dict),
                   manager.summary.succeeded, manager.summary.stopped], file)

signal.signal(signal.SIGTERM, asked)
manager = TaskManager(wait_async if mode == "async" else wait, mode, 2, enable_success_cache=True, log_dir=None,
                      log_level="ERROR", plugins=[Ready()])
try:
    manager.start(tasks())
finally:
    report()
"""


@pytest.mark.parametrize("where", ["task", "hook", "iterable"])
@pytest.mark.parametrize("name", MODES)
def test_sigterm_that_exits_ends_the_run_wherever_it_arrives(
    child: Any, own_folder: Any, name: str, where: str
) -> None:
    """A handler that calls sys.exit, as services have: the program exits with that code, soon, and all is counted."""
    with child(ASKED, name, where) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        pressed = time.monotonic()
        _, err = process.communicate(timeout=60)
        assert time.monotonic() - pressed < 8
    assert (process.returncode, err) == (7, "")
    total, settled, taken, kept, succeeded, stopped = json.loads((own_folder / "report").read_text())
    assert total == settled == taken
    assert kept == succeeded >= 4
    assert stopped == "SystemExit: 7"


CHAINED = """
import signal
from celestialflow_core import TaskManager

def first(number, frame):
    print("first", flush=True)

calls = []
def install(task):
    if task == 1:
        before = signal.getsignal(signal.SIGINT)
        def second(number, frame):
            calls.append("second")
            before(number, frame)
        signal.signal(signal.SIGINT, second)
    if task in (2, 5):
        signal.raise_signal(signal.SIGINT)
    return task

signal.signal(signal.SIGINT, first)
manager = TaskManager(install, log_dir=None, log_level="ERROR")
for tasks in ([0, 1, 2], [3, 5]):
    print(manager.start(tasks).succeeded, calls, flush=True)
signal.raise_signal(signal.SIGINT)
print(calls)
"""


def test_handler_that_calls_the_one_before_it_has_an_end(child: Any) -> None:
    """A task sets one that hands on to what it found: each is called once a signal, in this run and later."""
    with child(CHAINED) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.splitlines() == [
        "first",
        "3 ['second']",
        "first",
        "2 ['second', 'second']",
        "first",
        "['second', 'second', 'second']",
    ]
