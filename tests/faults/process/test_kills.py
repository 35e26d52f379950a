"""Workers killed at any moment: each call is delivered once, and a death costs at most the call that was running."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

from celestialflow_core._call import Call
from celestialflow_core.errors import WorkerCrashed
from celestialflow_core.executors.process import wire
from celestialflow_core.testing import wait_until

KILLS_A_SEED = 10

# Three deaths at the start while the other worker is at work: the run rightly goes on with that one.
pytestmark = pytest.mark.filterwarnings("ignore:Running with 1 of 2 worker processes. others end before:RuntimeWarning")


def job(log, id, kind, payload):
    """Notes its start, and is short, slow, or returns a lot."""
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, b"%d %d\n" % (os.getpid(), id))
    os.close(file)
    if kind == "slow":
        time.sleep(0.02)
    elif kind == "prints":
        print("x" * 3000)
    elif kind == "large":
        return bytes(3_000_000), len(payload)
    return id, len(payload)


def batch(chance, log, first):
    """Some calls of one kind or of all; none at all leaves the workers idle."""
    kinds = [chance.choice(["fast", "slow", "prints", "large", "mixed"])]
    if kinds == ["mixed"]:
        kinds = ["fast", "slow", "prints", "large"]
    calls: list[Call] = []
    for id in range(first, first + chance.choice([0, 1, 5, 5, 40])):
        kind = chance.choice(kinds)
        payload = bytes(2_000_000) if kind == "large" else b"small"
        calls.append(Call(id, (log, id, kind, payload)))
    return calls


def check(results, calls, log, killed):
    """Every call once; every value right; every error a death of ours, charged to what that worker ran last."""
    ran: dict[int, list[int]] = {}
    with open(log) as file:
        for line in file:
            pid, id = map(int, line.split())
            ran.setdefault(pid, []).append(id)
    assert sorted(results) == sorted(call.id for call in calls)
    charged: set[int] = set()
    for call in calls:
        result = results[call.id]
        if result.error is None:
            expected = bytes(3_000_000) if call.args[2] == "large" else call.id
            assert result.value == (expected, len(call.args[3]))
            continue
        assert isinstance(result.error, WorkerCrashed), result.error
        assert result.error.pid in killed, "a worker died that nobody had killed"
        assert result.error.exitcode == -killed[result.error.pid]
        assert result.error.pid not in charged, "one death was charged twice"
        # It may have died on its way to the line that notes the start.
        assert call.id not in ran.get(result.error.pid, [])[:-1], "a call was charged that was not the one that ran"
        charged.add(result.error.pid)


def storm(seed, bench, children, log):
    """Kill workers at ten moments of a run that are chosen by *seed*."""
    chance = random.Random(seed)
    one = bench(**chance.choice([{}, {}, {"max_tasks_per_worker": 7}])).start(job)
    calls: list[Call] = []
    killed: dict[int, int] = {}
    while len(killed) < KILLS_A_SEED:
        more = batch(chance, log, len(calls))
        calls += more
        one.submit(more)
        moment = time.monotonic() + chance.choice([0.0, 0.001, 0.01, 0.05, 0.2]) * chance.random()
        while time.monotonic() < moment:
            one.step()
        workers = sorted(children() - killed.keys())
        if workers:
            pid, number = chance.choice(workers), chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGSEGV])
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue  # it has just been replaced
            killed[pid] = number
        if len(killed) % 2 == 0:
            # Three deaths in a row at the start, with no call in between, would rightly end the run.
            more = [Call(id, (log, id, "slow", b"")) for id in range(len(calls), len(calls) + 8)]
            calls += more
            one.submit(more)
            one.wait_for_all()
    one.wait_for_all()
    assert one.ended_by is None
    check(one.by_id(), calls, log, killed)
    one.stop()


@pytest.mark.parametrize("seed", range(4))
def test_kills_at_forty_moments(bench, children, tmp_path, seed):
    """Ten kills in each of four runs."""
    storm(seed, bench, children, str(tmp_path / "log"))


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 120))
def test_kills_at_two_hundred_moments(bench, children, tmp_path, seed):
    """Ten kills in each of twenty runs."""
    storm(seed, bench, children, str(tmp_path / "log"))


def test_kill_while_starting_costs_nothing(bench, children):
    """A worker that dies before it is ready is started anew, and no call is charged or counted as run again."""
    one = bench(1).start(lambda x: x)
    one.submit([Call(0, (0,))])
    pid = wait_until(lambda: next(iter(children()), None))
    os.kill(pid, signal.SIGKILL)
    one.wait_for_all()
    result = one.by_id()[0]
    assert (result.value, result.error, result.reruns) == (0, None, 0)
    one.stop()


def test_kill_while_setting_up_costs_nothing(bench, tmp_path):
    """The same in the middle of worker_setup."""

    def setup():
        with open(tmp_path / "pids", "a") as file:
            file.write(f"{os.getpid()}\n")
        if not (tmp_path / "go").exists():
            time.sleep(1000)

    one = bench(1).start(lambda x: x, setup=setup)
    one.submit([Call(n, (n,)) for n in range(3)])
    text = wait_until(lambda: (tmp_path / "pids").exists() and (tmp_path / "pids").read_text())
    (tmp_path / "go").touch()
    os.kill(int(text), signal.SIGKILL)
    one.wait_for_all()
    assert [(each.value, each.reruns) for _, each in sorted(one.by_id().items())] == [(0, 0), (1, 0), (2, 0)]
    one.stop()


def test_kill_while_idle_costs_nothing(bench, children):
    """Again and again: each call runs in a fresh process, and none is charged."""
    one = bench(1).start(lambda x: os.getpid())
    for n in range(5):
        one.submit([Call(n, (n,))])
        one.wait_for_all()
        os.kill(one.results[-1].value, signal.SIGKILL)
    assert [result.error for result in one.results] == [None] * 5
    assert len({result.value for result in one.results}) == 5
    one.stop()


def test_kill_while_a_lease_is_half_written_costs_nothing(bench):
    """A worker that has stopped reading dies: the calls that were on their way run elsewhere, and never ran before."""
    one = bench(1).start(lambda x: (os.getpid(), len(x)))
    one.submit([Call(0, (b"",))])
    one.wait_for_all()
    pid = one.results[0].value[0]
    os.kill(pid, signal.SIGSTOP)
    one.submit([Call(1, (bytes(30_000_000),)), Call(2, (b"12",))])
    pool = one.executor._pool
    wait_until(lambda: pool._handles and bool(pool._handles[0].sender), seconds=30)
    os.kill(pid, signal.SIGKILL)
    one.wait_for_all()
    results = one.by_id()
    assert [results[n].value[1] for n in (1, 2)] == [30_000_000, 2]
    assert [results[n].reruns for n in (1, 2)] == [0, 0]
    assert results[1].value[0] != pid
    one.stop()


def test_kill_while_a_result_is_half_read_costs_a_rerun(bench, tmp_path):
    """The worker dies in the middle of writing: the result is computed again, which is counted and not charged."""

    def job(x):
        if x == 1 and not (tmp_path / "once").exists():
            (tmp_path / "once").touch()
            writev = os.writev

            def half(fd, buffers):
                writev(fd, [memoryview(buffers[0])[: len(buffers[0]) // 2]])
                os.kill(os.getpid(), signal.SIGKILL)

            wire.os.writev = half
        return bytes(10_000_000) if x == 1 else x

    one = bench(1).start(job)
    for n in range(3):
        one.submit([Call(n, (n,))])
        one.wait_for_all()
    results = one.by_id()
    assert [result.error for result in results.values()] == [None] * 3
    assert results[1].value == bytes(10_000_000)
    assert [results[n].reruns for n in range(3)] == [0, 1, 0]
    one.stop()


def test_kill_in_the_middle_of_a_lease_reruns_exactly_what_had_started(bench, tmp_path):
    """Of a lease of fast calls: what had ended unsent counts one rerun, the culprit is charged, the rest has none."""

    def job(x):
        with open(tmp_path / "log", "a") as file:
            file.write(f"{x}\n")
        if x == 150:
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    one = bench(1).start(job)
    one.submit([Call(n, (n,)) for n in range(300)])
    one.wait_for_all()
    runs = [0] * 300
    for line in (tmp_path / "log").read_text().split():
        runs[int(line)] += 1
    results = one.by_id()
    assert [n for n in range(300) if results[n].error] == [150]
    assert [results[n].reruns for n in range(300)] == [count - 1 for count in runs]
    one.stop()
