"""Workers that are replaced after some calls or at some size, and what they are told by their environment."""

from __future__ import annotations

import itertools
import os
import sys
import time

import pytest

from celestialflow_core.errors import WorkerSetupError
from celestialflow_core.executors.interface import current_worker
from celestialflow_core.executors.process import ProcessExecutor


@pytest.mark.parametrize("option", ["max_tasks_per_worker", "max_worker_memory"])
def test_limits_of_a_worker_are_validated(option):
    """What is no positive int is refused by the constructor."""
    for value in (0, -1, True):
        with pytest.raises(ValueError, match=f"{option} must be a positive int or None, got {value}"):
            ProcessExecutor(1, **{option: value})
    with pytest.raises(TypeError, match=f"{option} must be a positive int or None, got 1.5"):
        ProcessExecutor(1, **{option: 1.5})


@pytest.mark.parametrize(("most", "calls"), [(1, 6), (3, 10), (50, 400)])
def test_worker_runs_no_more_calls_than_it_may(run, most, calls):
    """Every call runs once, no process runs more than the limit, and only two indices exist."""
    results = run(lambda x: (x, os.getpid(), current_worker().index), range(calls), max_tasks_per_worker=most)
    assert [result.error for result in results] == [None] * calls
    assert [result.value[0] for result in results] == list(range(calls))
    assert [result.reruns for result in results] == [0] * calls
    pids = [result.value[1] for result in results]
    assert max(pids.count(pid) for pid in pids) == min(most, calls)
    assert {result.value[2] for result in results} <= {0, 1}


def test_heir_is_ready_when_its_predecessor_leaves(run, tmp_path):
    """The next worker is started before the last call of the one that it replaces has ended."""

    def setup():
        (tmp_path / str(os.getpid())).write_text(repr(time.monotonic()))

    def job(x):
        begin = time.monotonic()
        time.sleep(1.0)
        return os.getpid(), begin, time.monotonic()

    results = [result.value for result in run(job, range(3), workers=1, setup=setup, max_tasks_per_worker=1)]
    for (_, _, ended), (pid, begun, _) in itertools.pairwise(results):
        assert float((tmp_path / str(pid)).read_text()) < ended <= begun


def test_worker_that_is_replaced_tears_down(run, tmp_path):
    """Each worker's set-up is torn down, and its successor does not run calls at the same time."""

    def setup():
        yield
        (tmp_path / f"down-{os.getpid()}").touch()

    results = run(lambda x: os.getpid(), range(8), workers=1, setup=setup, max_tasks_per_worker=2)
    pids = {result.value for result in results}
    assert len(pids) == 4
    assert {int(path.name[5:]) for path in tmp_path.glob("down-*")} >= pids


def test_calls_behind_a_slow_one_do_not_wait_for_a_replacement(bench):
    """A worker that may run no more calls gives those that it has not started to an idle one."""
    one = bench(lambda x: time.sleep(1000) if x == "slow" else x, max_tasks_per_worker=100)
    one.submit([1] * 60)
    while len(one.results) < 60:
        one.take()
    one.submit(["slow"] + list(range(150)))
    while len(one.results) < 210:
        one.take()
    assert 60 not in one.results
    one.executor.stop(0)


def test_crashes_and_replacements_go_together(run):
    """A call that kills its worker is charged; every other has its value, whoever replaces whom."""
    results = run(lambda x: os._exit(5) if x % 10 == 7 else x, range(40), max_tasks_per_worker=4)
    assert [n for n, result in enumerate(results) if result.error] == [7, 17, 27, 37]
    assert [result.value for result in results if not result.error] == [n for n in range(40) if n % 10 != 7]


def test_worker_that_holds_too_much_memory_is_replaced(run):
    """What a task leaves behind is gone with the worker; nothing is lost, and nothing is a crash."""

    def job(x):
        if x % 4 == 1:
            sys.modules["hoard"] = bytearray(b"x" * 150_000_000)
        time.sleep(0.02)  # one call at a time is enough for a lease
        return x, os.getpid(), "hoard" in sys.modules

    results = run(job, range(12), workers=1, max_worker_memory=140_000_000)
    assert [result.error for result in results] == [None] * 12
    assert [result.value[0] for result in results] == list(range(12))
    assert len({result.value[1] for result in results}) == 4


def test_env_is_set_before_anything_is_imported(run):
    """A dict holds for every worker, at the start of its interpreter, and is in current_worker().env."""
    env = {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "7", "MODEL": "a=b"}
    job = lambda x: (hash("text"), os.environ["MODEL"], os.environ["OMP_NUM_THREADS"], current_worker().env)  # noqa: E731
    results = run(job, range(2), env=env)
    for result in results:
        assert result.value[1:3] == ("a=b", "7")
        assert {name: result.value[3][name] for name in env} == env
    (again,) = run(lambda x: hash("text"), [1], env=env)
    assert again.value == results[0].value[0]


def test_env_may_depend_on_the_worker(run):
    """A function gets the index; a worker that replaces another has the same variables."""
    asked: list[int] = []

    def env(index):
        asked.append(index)
        return {"GPU": f"gpu{index}"}

    def job(x):
        if x == 3:
            os._exit(1)
        time.sleep(0.01)
        return os.environ["GPU"] == f"gpu{current_worker().index}" == current_worker().env["GPU"]

    results = run(job, range(10), env=env)
    assert [result.value for result in results] == [True] * 3 + [None] + [True] * 6
    assert asked == [0, 1]


@pytest.mark.parametrize(
    ("env", "error", "message"),
    [
        (3, TypeError, "env must be a dict of environment variables, got 3"),
        ({"THREADS": 4}, TypeError, "env must hold strings only, got 'THREADS': 4. Write '4' instead."),
        ({"A=B": "x"}, ValueError, "env holds what cannot be an environment variable: 'A=B'"),
        ({"A": "x\0"}, ValueError, "env holds what cannot be an environment variable"),
    ],
)
def test_env_is_validated(env, error, message):
    """What cannot be an environment is refused by the constructor."""
    with pytest.raises(error, match=message):
        ProcessExecutor(1, env=env)


@pytest.mark.parametrize("env", [lambda index: {}[index], lambda index: {"A": index}])
def test_env_function_that_fails_ends_the_run(bench, env):
    """start() says for which worker, and why."""
    with pytest.raises(WorkerSetupError, match=r"environment of worker 0 cannot be had: env\(0\) raised") as caught:
        bench(lambda x: x, env=env)
    assert "Error: " in caught.value.details


def test_env_that_breaks_the_interpreter_ends_the_run(bench):
    """Three starts, and then the end with what the interpreter had to say."""
    one = bench(lambda x: x, workers=1, env={"PYTHONHOME": "/nonexistent"})
    one.submit(range(5))
    assert one.finish() == []
    assert isinstance(one.fatal, WorkerSetupError)
    assert "3 worker processes in a row ended before they could run a call" in str(one.fatal)
    assert "encodings" in one.fatal.details
