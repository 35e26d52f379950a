"""Time limits, stopping, and calls that move from a busy worker to an idle one."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest

from celestialflow_core.errors import TaskTimeout
from celestialflow_core.executors.process import stacks


def test_timeout_kills_and_the_next_call_goes_on(run):
    """Hung calls, deaf to SIGTERM, end at the limit as their own errors; every other call has its value."""

    def job(x):
        if x in (1, 4):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(1000)
        return x

    begin = time.monotonic()
    results = run(job, range(8), timeout=0.4)
    assert time.monotonic() - begin < 10
    assert [n for n, result in enumerate(results) if result.error] == [1, 4]
    for n in (1, 4):
        assert isinstance(results[n].error, TaskTimeout)
        assert str(results[n].error).startswith(f"task {n} ran longer than task_timeout=0.4 s")
        assert results[n].seconds >= 0.4
    assert [result.value for result in results if not result.error] == [0, 2, 3, 5, 6, 7]


def sleeps(x):
    """Waits in the kernel."""
    time.sleep(1000)


def computes(x):
    """Runs Python code."""
    while True:
        pass


def keeps_the_lock(x):
    """Runs C code that never gives the interpreter lock back."""
    re.match(r"(a+)+$", "a" * 60 + "b")


@pytest.mark.parametrize("stuck", [sleeps, computes, keeps_the_lock])
def test_timeout_tells_where_the_call_was_stuck(run, stuck):
    """The stack begins with the task's own function and ends in the line that does not return."""

    def job(x):
        stuck(x)

    (result,) = run(job, [1], timeout=0.3)
    assert isinstance(result.error, TaskTimeout)
    lines = (result.error.stack or "").splitlines()
    assert lines[0].endswith(" in job")
    assert f'File "{__file__}", line ' in lines[2]
    assert f" in {stuck.__name__}" in lines[2]
    assert "It was at:\n" in str(result.error)


def test_timeout_needs_no_stack(run):
    """A task that blocks the signal, or takes it for itself, is killed in time without a stack."""

    def job(x):
        if x:
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        else:
            signal.signal(stacks.ASK_FOR_STACK, lambda *_: None)
        time.sleep(1000)

    begin = time.monotonic()
    results = run(job, [0, 1], timeout=0.3)
    assert time.monotonic() - begin < 10
    assert [type(result.error) for result in results] == [TaskTimeout] * 2
    assert [result.error.stack for result in results] == [None, None]


def test_timeout_of_a_stack_of_a_thousand_frames_is_cut(run):
    """The innermost hundred frames are enough, and the same line is shown once."""

    def job(x):
        time.sleep(1000) if not x else job(x - 1)

    (result,) = run(job, [900], timeout=0.3)
    assert "[Previous line repeated 97 more times]" in result.error.stack
    assert len(result.error.stack) < 2000


def test_stack_without_frames_of_the_user_is_none():
    """A function written in C, called directly, leaves nothing to show."""
    ours = str(Path(stacks.__file__).with_name("_worker.py"))
    dump = f'Stack (most recent call first):\n  File "{ours}", line 1 in _run\n  File "<string>", line 1 in <module>\n'
    assert stacks.is_whole(dump.encode())
    assert stacks.readable(dump.encode()) is None


def test_timeout_does_not_count_the_time_in_the_queue(run):
    """Calls that wait behind others, longer than the limit in all, are not late."""
    results = run(lambda x: time.sleep(0.2), range(6), workers=1, timeout=0.5)
    assert [result.error for result in results] == [None] * 6


def test_waiting_calls_move_from_a_busy_worker_to_an_idle_one(bench):
    """A call queued behind a slow one is handed back and runs elsewhere while the slow one still runs."""

    def job(x):
        if x == "slow":
            time.sleep(1000)
        return x

    one = bench(job, workers=2)
    one.submit([1] * 40)
    while len(one.results) < 40:
        one.take()
    one.submit(["slow"] + list(range(60)))
    while len(one.results) < 100:
        one.take()
    assert 40 not in one.results
    one.executor.stop(0)


def test_finished_results_of_a_lease_do_not_wait_for_a_slow_call(bench):
    """With one worker, what ran before a slow call of the same lease is delivered while that still runs."""

    def job(x):
        if x == "slow":
            time.sleep(1000)
        return x

    one = bench(job, workers=1)
    one.submit([1] * 100)
    while len(one.results) < 100:
        one.take()
    one.submit(list(range(30)) + ["slow"] + list(range(30)))
    while len(one.results) < 130:
        one.take()
    assert 130 not in one.results
    one.executor.stop(0)


def test_stop_delivers_what_ends_within_the_grace(bench, tmp_path, until):
    """The running call is delivered, what has not started is dropped."""

    def job(x):
        (tmp_path / f"started-{x}").touch()
        time.sleep(0.5)
        return x

    one = bench(job, workers=1)
    one.submit(range(10))
    until(lambda: (tmp_path / "started-1").exists())
    one.executor.stop(10)
    while not one.queue.empty():
        one.take()
    assert [result.value for result in one.results.values()] == [0, 1]
    assert not (tmp_path / "started-2").exists()


def test_workers_ignore_an_interrupt(run):
    """Ctrl-C goes to the whole group; only the parent acts on it."""

    def job(x):
        os.kill(os.getpid(), signal.SIGINT)
        return x

    assert [result.value for result in run(job, range(4))] == [0, 1, 2, 3]


def test_stop_kills_what_does_not_end_within_the_grace(bench, until, tmp_path):
    """After the grace the workers are killed, and nothing is delivered for them."""

    def job(x):
        if x == "pid":
            return os.getpid()
        (tmp_path / "started").touch()
        return time.sleep(1000)

    one = bench(job, workers=1)
    one.submit(["pid", 1, 2])
    one.take()
    until(lambda: (tmp_path / "started").exists())
    begin = time.monotonic()
    one.executor.stop(0.3)
    assert 0.25 < time.monotonic() - begin < 5
    assert one.queue.empty()
    assert not os.path.exists(f"/proc/{one.results[0].value}")


def test_second_stop_cuts_the_grace_short(bench, until, tmp_path):
    """While a stop waits for a running call, another with less grace ends both."""

    def job(x):
        (tmp_path / "started").touch()
        time.sleep(1000)

    one = bench(job, workers=1)
    one.submit([1])
    until(lambda: (tmp_path / "started").exists())
    patient = threading.Thread(target=one.executor.stop, args=(1000,))
    patient.start()
    one.executor.stop(0)
    patient.join(30)
    assert not patient.is_alive()


def test_stop_may_be_called_at_any_time(bench):
    """Before the start, twice, and while workers are being started."""
    from celestialflow_core.executors.process import ProcessExecutor

    ProcessExecutor(1).stop(1)
    one = bench(time.sleep, workers=2)
    one.submit([1000, 1000])
    one.executor.stop(0)
    one.executor.stop(0)


def test_thread_that_a_task_leaves_running_does_not_delay_the_end(bench):
    """A worker with a non-daemon thread still ends at once."""
    one = bench(lambda x: threading.Thread(target=time.sleep, args=(1000,)).start())
    one.submit([1, 2])
    results = one.finish()
    assert [result.error for result in results] == [None, None]


def test_executor_can_be_used_again_after_stop(bench):
    """Stopped and started, it is as new; started twice with the same work, it keeps its workers."""
    one = bench(lambda x: os.getpid(), workers=1)
    one.submit([1])
    first = one.finish()[0].value
    from celestialflow_core.executors.interface import Work

    work = Work(lambda x: os.getpid())
    one.executor.start(work, one.queue.put)
    one.submit([1])
    one.take()
    one.executor.start(work, one.queue.put)
    one.submit([1])
    results = one.finish()
    assert results[1].value == results[2].value != first
