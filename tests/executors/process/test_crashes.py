"""A worker that dies: who is charged, and what becomes of the other calls."""

from __future__ import annotations

import os
import pickle
import re
import signal
import time

import pytest

from celestialflow_core._call import Call
from celestialflow_core.errors import WorkerCrashed
from celestialflow_core.executors.process.crashes import Crashes
from celestialflow_core.executors.process.verdict import Verdict, judge


def test_crash_charges_exactly_the_guilty_calls(run):
    """Of twenty calls the first, one in the middle and the last kill their worker: three errors, seventeen values."""

    def job(x):
        if x in (0, 9, 19):
            os.kill(os.getpid(), signal.SIGKILL)
        return x * 2

    results = run(job, range(20))
    assert [n for n, result in enumerate(results) if result.error] == [0, 9, 19]
    assert [result.value for n, result in enumerate(results) if n not in (0, 9, 19)] == [
        n * 2 for n in range(20) if n not in (0, 9, 19)
    ]
    for n in (0, 9, 19):
        error = results[n].error
        assert isinstance(error, WorkerCrashed)
        assert error.signal_name == "SIGKILL"
        assert error.task == f"task {n}"
        assert f"(pid {error.pid}) got SIGKILL while running task {n}." in str(error)


def test_crash_names_the_exit_status(run):
    """os._exit(3) in a task is an error that says so."""
    (result,) = run(lambda x: os._exit(3), [1])
    assert isinstance(result.error, WorkerCrashed)
    assert result.error.exitcode == 3
    assert "exited with code 3" in str(result.error)


def test_crash_of_every_call_ends(run):
    """Each of six calls kills its worker: six errors, each of its own call, and no end of the run before."""
    results = run(lambda x: os.kill(os.getpid(), signal.SIGSEGV), range(6))
    assert [result.error.task for result in results] == [f"task {n}" for n in range(6)]


def test_crash_does_not_take_results_in_the_pipe(bench):
    """Results that were written before the worker died count, and are not computed again."""

    def job(x, folder=None):
        if x == "die":
            os._exit(1)
        with open(folder, "a") as file:
            file.write(f"{x}\n")
        time.sleep(0.02)
        return x

    import tempfile

    with tempfile.NamedTemporaryFile("r") as log:
        one = bench(job, workers=1)
        one.submit([(n, log.name) for n in range(5)] + ["die"] + [(n, log.name) for n in range(5, 8)])
        results = one.finish()
        assert [result.value for result in results] == [0, 1, 2, 3, 4, None, 5, 6, 7]
        assert isinstance(results[5].error, WorkerCrashed)
        assert log.read().split() == [str(n) for n in range(8)]
        assert [result.reruns for result in results] == [0] * 9


def test_crash_reruns_are_counted(bench):
    """Calls that had ended unsent when their neighbour killed the worker run again, and say how often."""
    one = bench(lambda x: os._exit(1) if x == 200 else x, workers=1)
    one.submit(range(64))  # the executor learns that the calls are fast
    while len(one.results) < 64:
        one.take()
    one.submit(range(150, 250))
    results = one.finish()
    assert [n for n, result in enumerate(results) if result.error] == [114]
    assert [result.value for result in results[64:] if not result.error] == [n for n in range(150, 250) if n != 200]
    reruns = [result.reruns for result in results[64:114]]
    assert set(reruns) <= {0, 1}
    assert all(result.reruns == 0 for result in results[115:])


def test_idle_worker_that_is_killed_is_replaced(bench):
    """A worker that dies without a call costs nothing: the next call runs in another process."""
    one = bench(lambda x: os.getpid(), workers=1)
    one.submit([1])
    one.take()
    first = one.results[0].value
    os.kill(first, signal.SIGKILL)
    one.submit([2])
    results = one.finish()
    assert [result.error for result in results] == [None, None]
    assert results[1].value != first


def test_task_that_closes_every_descriptor_is_charged(run):
    """A task that closes the connection under its worker is the only one that fails."""

    def job(x):
        if x == 5:
            os.closerange(3, 1000)
        return x

    results = run(job, range(12))
    assert [n for n, result in enumerate(results) if result.error] == [5]
    assert isinstance(results[5].error, WorkerCrashed)
    assert "closed the descriptor" in str(results[5].error)


def test_result_whose_pickling_kills_the_worker_is_charged(run):
    """A crash while a result is pickled belongs to the call that returned it."""

    def job(x):
        class Deadly:
            def __reduce__(self):
                os._exit(4)

        return Deadly() if x == 3 else x

    results = run(job, range(8))
    assert [n for n, result in enumerate(results) if result.error] == [3]
    assert results[3].error.exitcode == 4


def test_forked_copy_that_returns_from_the_task_delivers_nothing(run):
    """A task forks and both processes come back from it: one result for each call, and an unharmed pipe."""

    def job(x):
        if x % 3 == 0:
            os.fork()
        elif x % 3 == 1 and os.fork() == 0:
            raise ValueError("in the copy")
        return x

    results = run(job, range(12))
    assert [result.error for result in results] == [None] * 12
    assert [result.value for result in results] == list(range(12))


def test_call_that_is_submitted_again_counts_its_crashes(bench):
    """The error says how many workers the call has ended; another run counts anew."""
    one = bench(lambda x: os._exit(1), workers=1)
    work = one.executor._work

    def crash(id):
        one.executor.submit([Call(id, (id,))])
        one.take()
        return one.results.pop(id).error

    assert [crash(id).crashes for id in (5, 6, 5)] == [1, 1, 2]
    again = crash(6)
    assert str(again).endswith("This task has ended 2 workers by now, and is not tried again.")
    assert pickle.loads(pickle.dumps(again)).crashes == 2
    one.executor.start(work, one.queue.put)
    assert crash(6).crashes == 1
    one.executor.stop(1)


def test_peak_memory_is_named(run):
    """A call that held a lot when it died says how much."""

    def job(x):
        hoard = bytearray(b"x" * 700_000_000)
        os.kill(os.getpid(), signal.SIGKILL)
        return hoard

    (result,) = run(job, [1])
    assert 700_000_000 < result.error.peak_bytes < 1_500_000_000
    assert re.search(r"It had held up to \d{3,4} MiB\.", str(result.error))


def test_kills_of_the_kernel_explain_as_many_deaths():
    """Two kills explain the next two deaths by SIGKILL, and nothing that happens long afterwards."""
    kills, now = [7], [100.0]
    crashes = Crashes(lambda: kills[0], lambda: now[0])
    assert not crashes.out_of_memory()
    kills[0] = 9
    assert [crashes.out_of_memory() for _ in range(3)] == [True, True, False]
    kills[0] = 11
    assert crashes.out_of_memory()
    now[0] += 60
    assert not crashes.out_of_memory()
    assert not Crashes(lambda: None).out_of_memory()


@pytest.mark.parametrize(
    ("marks", "flags", "expected"),
    [
        ((5, 4, 2), (False, False), Verdict(ended=2, running=2, charged=2, alone=False)),
        ((5, 4, 2), (True, False), Verdict(ended=2, running=2, charged=None, alone=False)),
        ((5, 4, 5), (False, False), Verdict(ended=0, running=None, charged=None, alone=False)),
        ((5, 5, 5), (False, False), Verdict(ended=0, running=None, charged=None, alone=False)),
        ((5, 5, 3), (False, False), Verdict(ended=2, running=None, charged=None, alone=True)),
        ((5, 5, 4), (False, True), Verdict(ended=1, running=None, charged=0, alone=False)),
        ((5, 5, 4), (True, True), Verdict(ended=1, running=None, charged=None, alone=False)),
        ((0, 0, 0), (False, False), Verdict(ended=0, running=None, charged=None, alone=False)),
    ],
)
def test_verdict_table(marks, flags, expected):
    """The counts decide: running is charged unless we killed it; lost results without a culprit run alone."""
    assert judge(*marks, innocent=flags[0], was_alone=flags[1]) == expected
