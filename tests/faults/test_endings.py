"""Every way in which a run can end before its tasks do, in every mode (faults.md, 6, 27, 32 and 33).

What `tests/_manager/test_endings.py` asserts of ``start`` and of task errors is asserted here of streams, of runs in
the user's own event loop, of runs off the main thread and under a foreign handler; each scene is an interpreter of its
own that gets a real signal, says what it found, and must end quietly.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from celestialflow_core.testing import Resources, wait_until

MODES = ["serial", "thread", "async", "process"]
ALL = pytest.mark.parametrize("mode", MODES, indirect=True)

HEAD = """
import asyncio, json, os, signal, sys, threading, time
from celestialflow_core import TaskManager, hookimpl
from celestialflow_core.testing import Resources

mode, seconds, grace, how = sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
def began(task):
    if task == 1:
        open("began", "w").close()

if mode == "async":
    async def job(task):
        began(task)
        await asyncio.sleep(0 if task == 0 else seconds)
        return task
else:
    def job(task):
        began(task)
        time.sleep(0 if task == 0 else seconds)
        return task

class Ready:
    @hookimpl
    def on_success(self, outcome):
        if outcome.task == 0:
            print("ready", flush=True)

# Whatever the interpreter opens once and for good at the first run of a kind is open.
warm_up = TaskManager(job, mode, 1, log_dir=None, log_level="ERROR")
warm_up.start([0])
manager = TaskManager(job, mode, 4, enable_success_cache=True, enable_error_cache=True, log_dir=None, grace=grace,
                      plugins=[Ready()])
before = Resources()
caught = None

def report(**more):
    summary = manager.summary
    left = []
    try:
        before.expect_no_leaks(lambda leak: "celestialflow-thread" in leak and bool(summary.abandoned), 10)
    except AssertionError as error:
        left = [str(error)]
    print(json.dumps({
        "caught": caught, "kept": len(manager.success_dict), "errors": len(manager.error_dict),
        "succeeded": summary.succeeded, "failed": summary.failed, "cancelled": summary.cancelled,
        "total": summary.total, "pending": manager.counts.pending + manager.counts.running, "left": left,
        "stopped": summary.stopped, "abandoned": summary.abandoned,
        "default": signal.getsignal(signal.SIGINT) is signal.default_int_handler, **more,
    }), flush=True)
"""

SCENES = """
tasks = range(10_000)

def start():
    manager.start(tasks)

def stream():
    for outcome in manager.stream(tasks):
        pass

def with_stream():
    with manager.stream(tasks, ordered=True) as outcomes:
        for outcome in outcomes:
            pass

def start_async():
    asyncio.run(manager.start_async(tasks))

def stream_async():
    async def main():
        async with manager.stream_async(tasks) as outcomes:
            async for outcome in outcomes:
                pass
    asyncio.run(main())

try:
    globals()[how]()
except KeyboardInterrupt:
    caught = "KeyboardInterrupt"
report()
"""


def begin(child: Any, source: str, *arguments: object) -> subprocess.Popen[str]:
    """Starts a scene, and returns when its first task has succeeded and others run."""
    process: subprocess.Popen[str] = child(source, *map(str, arguments), start_new_session=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line == "ready\n", process.communicate(timeout=60)
    wait_until(Path("began").exists, 60)
    return process


def end(process: subprocess.Popen[str], returncode: int = 0) -> dict[str, Any]:
    """What the scene reports; its account is whole, nothing is left, and it has been quiet."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == returncode, err
    assert len(err.splitlines()) <= 10, err
    assert "Traceback" not in err, err
    account: dict[str, Any] = json.loads(out.splitlines()[-1])
    assert account["total"] == account["succeeded"] + account["failed"] + account["cancelled"]
    assert (account["kept"], account["errors"]) == (account["succeeded"], account["failed"])
    assert account["pending"] == 0
    assert account["left"] == []
    with pytest.raises(ProcessLookupError):  # of the session nobody is there any more
        os.killpg(process.pid, 0)
    return account


def deserted(session: int) -> bool:
    """Whether nobody is left of a session."""
    try:
        os.killpg(session, 0)
    except ProcessLookupError:
        return True
    return False


def press(process: subprocess.Popen[str], group: bool) -> float:
    """Ctrl-C, to the whole group or to the parent alone; gives the moment."""
    if group:
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGINT)
    return time.monotonic()


@pytest.mark.parametrize("how", ["with_stream", "start_async", "stream_async"])
@pytest.mark.parametrize(
    ("name", "group"), [("serial", True), ("thread", True), ("async", True), ("process", True), ("process", False)]
)
def test_ctrl_c_ends_streams_and_loops_too(child: Any, name: str, how: str, group: bool) -> None:
    """KeyboardInterrupt reaches the caller within a second of the running tasks; all that finished is kept."""
    with begin(child, HEAD + SCENES, name, 0.1, 5, how) as process:
        pressed = press(process, group)
        account = end(process)
        assert time.monotonic() - pressed < 5
    assert account["caught"] == "KeyboardInterrupt"
    assert account["failed"] == account["abandoned"] == 0
    assert 1 <= account["succeeded"] < 10_000
    assert account["stopped"]
    assert account["default"]


@pytest.mark.parametrize("how", ["stream", "start_async", "stream_async"])
@pytest.mark.parametrize("name", ["thread", "async", "process"])
def test_second_ctrl_c_ends_the_grace_of_streams_and_loops_too(child: Any, name: str, how: str) -> None:
    """Tasks of a minute with a minute of grace: two Ctrl-C are out within seconds."""
    with begin(child, HEAD + SCENES, name, 60, 60, how) as process:
        press(process, False)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)  # the grace has begun, and nothing shows it
        pressed = press(process, False)
        account = end(process)
        assert time.monotonic() - pressed < 8
    assert account["caught"] == "KeyboardInterrupt"
    assert account["succeeded"] == 1
    assert account["cancelled"] >= 1


FOREIGN = """
presses = []
def foreign(number, frame):
    presses.append(number)
    if how == "close":
        stop.set()
signal.signal(signal.SIGINT, foreign)
stop = threading.Event()
with manager.stream(range(10_000)) as outcomes:
    for outcome in outcomes:
        if stop.is_set():
            break
        if how == "ignore" and presses and outcome.task > 40:
            break
report(presses=len(presses), mine=signal.getsignal(signal.SIGINT) is foreign)
"""


@pytest.mark.parametrize("how", ["close", "ignore"])
@pytest.mark.parametrize("name", MODES)
def test_foreign_handler_gets_the_signal_and_close_ends_the_run(child: Any, name: str, how: str) -> None:
    """It stays installed; what it does decides, and what it ignores disturbs nobody."""
    with begin(child, HEAD + FOREIGN, name, 0.02, 5, how) as process:
        press(process, name == "process")
        account = end(process)
    assert account["presses"] == 1
    assert account["mine"]
    assert account["stopped"] == "The stream was closed."
    assert account["failed"] == 0
    assert account["succeeded"] > (40 if how == "ignore" else 0)


ELSEWHERE = """
stop, over, pressed = threading.Event(), threading.Event(), threading.Event()
def sixty():
    for task in range(60):
        if task == 40:
            pressed.wait(60)  # on a busy machine the run could else be over before anybody presses
        yield task
def run():
    with manager.stream(sixty() if how == "alone" else range(10_000)) as outcomes:
        for outcome in outcomes:
            if stop.is_set():
                break
    over.set()
try:  # from here on, since the run may be ready, and be interrupted, before this thread goes on
    threading.Thread(target=run).start()
    while not over.wait(0.1):  # not longer: a signal that comes just before a wait is seen only after it
        pass
except KeyboardInterrupt:
    caught = "KeyboardInterrupt"
    pressed.set()
    if how == "close":
        stop.set()
over.wait(60)
report()
"""


@pytest.mark.parametrize("how", ["close", "alone"])
@pytest.mark.parametrize("name", MODES)
def test_ctrl_c_of_a_run_off_the_main_thread_is_the_main_threads(child: Any, name: str, how: str) -> None:
    """It is raised there; the run goes on to its end, unless somebody closes it."""
    with begin(child, HEAD + ELSEWHERE, name, 0.02, 5, how) as process:
        press(process, name == "process")
        account = end(process)
    assert account["caught"] == "KeyboardInterrupt"
    assert account["failed"] == 0
    if how == "alone":
        assert (account["succeeded"], account["stopped"]) == (60, None)
    else:
        assert account["stopped"] == "The stream was closed."
        assert account["succeeded"] < 10_000


UNCAUGHT = """
for outcome in manager.stream(range(10_000)):
    pass
"""


@pytest.mark.parametrize("name", MODES)
def test_script_that_catches_nothing_dies_of_the_signal_with_one_traceback(child: Any, name: str) -> None:
    """Python's own last words are all there is to read, and no worker is left."""
    with begin(child, HEAD + UNCAUGHT, name, 0.1, 5, "stream") as process:
        press(process, True)
        _, err = process.communicate(timeout=60)
    assert process.returncode in (-signal.SIGINT, 130)
    assert err.count("Traceback") == 1, err
    assert err.rstrip().endswith("KeyboardInterrupt")
    # Raised in the loop itself, nobody has closed the stream: the workers end with the program, a moment later.
    wait_until(lambda: deserted(process.pid), 5)


def quick(task: int) -> int:
    """A task of two milliseconds."""
    time.sleep(0.002)
    return task


def keeping(mode: Any, **options: Any) -> Any:
    """A manager that keeps everything."""
    return mode.manager(quick, enable_success_cache=True, enable_error_cache=True, **options)


def pull(pulled: list[int]) -> Any:
    """Endless tasks, noted as they are pulled."""
    for task in itertools.count():
        pulled.append(task)
        yield task


@ALL
def test_close_from_another_method_has_everything_accounted_for(
    mode: Any, account: Callable[..., None], resources: Resources
) -> None:
    """27: after 20 outcomes of an endless iterable, close() without a with block."""
    pulled: list[int] = []
    manager = keeping(mode, max_in_flight=8)
    outcomes = manager.stream(pull(pulled))
    for _ in range(20):
        next(outcomes)
    assert len(pulled) <= 20 + 8
    outcomes.close()
    resources.expect_no_leaks()
    account(manager, len(pulled))


@ALL
def test_exception_in_the_consumer_leaves_a_whole_account(
    mode: Any, account: Callable[..., None], resources: Resources
) -> None:
    """The consumer's error comes out of the block; what finished is in the dicts."""
    pulled: list[int] = []
    manager = keeping(mode)
    with pytest.raises(LookupError, match="of the consumer"), manager.stream(pull(pulled)) as outcomes:
        for outcome in outcomes:
            if outcome.value == 10:
                raise LookupError("of the consumer")
    resources.expect_no_leaks()
    account(manager, len(pulled))
    assert manager.success_dict[10] == 10
    assert manager.start([1]).succeeded == 1


@ALL
def test_stream_that_is_collected_leaves_a_whole_account(
    mode: Any, account: Callable[..., None], resources: Resources
) -> None:
    """A break out of a plain for: what was running is cancelled, what was handed over is in the dicts."""
    pulled: list[int] = []
    delivered: list[int] = []  # in the order of their ends: 11 may be before 10
    manager = keeping(mode)
    with pytest.warns(ResourceWarning, match="A stream was dropped"):
        for outcome in manager.stream(pull(pulled)):
            delivered.append(outcome.value)
            if outcome.value >= 10:
                break
        gc.collect()
    resources.expect_no_leaks()
    account(manager, len(pulled))
    assert manager.summary.stopped == "The stream was dropped."
    assert max(delivered) >= 10
    assert set(delivered) <= set(manager.success_dict)


@ALL
@pytest.mark.parametrize("ending", ["aclose", "block", "error", "dropped"])
def test_async_stream_ends_with_a_whole_account(
    mode: Any, account: Callable[..., None], resources: Resources, ending: str
) -> None:
    """aclose(), leaving the block, an exception in it, and a stream that is collected."""
    pulled: list[int] = []
    delivered: list[int] = []  # in the order of their ends: 11 may be before 10
    manager = keeping(mode)

    async def main() -> None:
        stream = manager.stream_async(pull(pulled))
        if ending in ("block", "error"):
            async with stream:
                async for outcome in stream:
                    delivered.append(outcome.value)
                    if outcome.value >= 10 and ending == "error":
                        raise LookupError("of the consumer")
                    if outcome.value >= 10:
                        break
        else:
            async for outcome in stream:
                delivered.append(outcome.value)
                if outcome.value >= 10:
                    break
            if ending == "aclose":
                await stream.aclose()
            else:
                with pytest.warns(ResourceWarning, match="A stream was dropped"):
                    del stream
                    gc.collect()
                await asyncio.sleep(0.05)  # in which its tasks, which are cancelled, may end

    if ending == "error":
        with pytest.raises(LookupError, match="of the consumer"):
            asyncio.run(main())
    else:
        asyncio.run(main())
    resources.expect_no_leaks()
    account(manager, len(pulled))
    assert max(delivered) >= 10
    assert set(delivered) <= set(manager.success_dict)
