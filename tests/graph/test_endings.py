"""Every way in which the run of a graph can end before its tasks do: the account is whole, and nothing is left."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from celestialflow_core import GraphError, Stop, TaskGraph, TaskManager, TooManyErrors, WorkerCrashed, current_worker
from celestialflow_core.testing import Resources, wait_until

SCRIPT = """
import asyncio, json, os, signal, sys, threading, time
from celestialflow_core import TaskGraph, TaskManager, hookimpl
from celestialflow_core.testing import Resources

modes, seconds, grace, how = sys.argv[1].split("+"), float(sys.argv[2]), float(sys.argv[3]), sys.argv[4]

def job(task):
    time.sleep(0 if task == 0 else seconds)
    return task

async def job_awaited(task):
    await asyncio.sleep(0 if task == 0 else seconds)
    return task

class Ready:
    @hookimpl
    def on_success(self, outcome):
        if outcome.task == 0:
            print("ready", flush=True)

def manager(mode, name, **more):
    func = job_awaited if mode == "async" else job
    return TaskManager(func, mode, 3, name=name, enable_success_cache=True, log_dir=None, **more)

for mode in modes:  # whatever the interpreter opens once and for good at the first run of a kind is open
    TaskManager(job_awaited if mode == "async" else job, mode, 1, log_dir=None, log_level="ERROR").start([0])
before = Resources()
first = manager(modes[0], "first")
second = manager(modes[1], "second", plugins=[Ready()])
graph = TaskGraph(grace=grace, log_dir=None, max_in_flight=50).connect(first, second)
caught = None

async def in_a_loop():
    if how == "start_async":
        await graph.start_async({first: range(10_000)})
    else:
        async with graph.stream_async({first: range(10_000)}) as outcomes:
            async for outcome in outcomes:
                pass

try:
    if "async" in how:
        asyncio.run(in_a_loop())
    elif how == "start":
        graph.start({first: range(10_000)})
    else:
        for outcome in graph.stream({first: range(10_000)}):
            pass
except KeyboardInterrupt:
    caught = "KeyboardInterrupt"
summary = graph.summary
left = []
try:
    before.expect_no_leaks(lambda leak: "celestialflow-thread" in leak and bool(summary.abandoned), 10)
except AssertionError as error:
    left = [str(error)]
print(json.dumps({
    "caught": caught, "left": left, "stopped": summary.stopped, "stages": [stage.stopped for stage in summary.stages],
    "failed": summary.failed, "succeeded": summary.succeeded, "cancelled": summary.cancelled, "total": summary.total,
    "kept": [len(first.success_dict), len(second.success_dict)],
    "by_stage": [stage.succeeded for stage in summary.stages],
    "pending": [counts.pending + counts.running for counts in (first.counts, second.counts)],
    "default": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
    "idle": repr(graph), "free": first.start([0]).total + second.start([0]).total,
}), flush=True)
"""


def begin(child: Callable[..., subprocess.Popen[str]], *arguments: Any) -> subprocess.Popen[str]:
    """Start the script as the leader of a group, and wait until a task has come through."""
    process = child(SCRIPT, *map(str, arguments), process_group=0)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate()
    return process


def account_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What the script said at its end."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "Traceback" not in err, err
    account: dict[str, Any] = json.loads(out.splitlines()[-2 if out.splitlines()[-1] == "ready" else -1])
    assert account["left"] == []
    assert account["default"]
    assert account["pending"] == [0, 0]
    assert account["kept"] == account["by_stage"]
    assert account["total"] == account["succeeded"] + account["failed"] + account["cancelled"]
    assert account["idle"] == "<TaskGraph(graph) idle: 2 managers, 1 edges>"
    assert account["free"] == 2
    return account


@pytest.mark.parametrize(
    ("modes", "how"),
    [
        *[("thread+process", "start"), ("process+async", "stream_async")],
        *[("serial+thread", "stream"), ("async+serial", "start_async"), ("thread+serial", "stream")],
    ],
)
def test_ctrl_c_ends_a_graph_with_a_whole_account(child: Any, modes: str, how: str) -> None:
    """To the whole group: what runs has its grace, what finished is kept, and KeyboardInterrupt comes out."""
    process = begin(child, modes, 0.05, 5, how)
    os.killpg(process.pid, signal.SIGINT)
    account = account_of(process)
    assert account["caught"] == "KeyboardInterrupt"
    assert account["failed"] == 0
    assert 1 < account["succeeded"] < 10_000
    assert account["stopped"]
    assert set(account["stages"]) == {account["stopped"]}


@pytest.mark.parametrize(("modes", "how"), [("thread+process", "start"), ("thread+async", "stream_async")])
def test_second_ctrl_c_ends_the_grace_of_all_stages(child: Any, modes: str, how: str) -> None:
    """Tasks of a minute with a minute of grace: two Ctrl-C are out within seconds."""
    process = begin(child, modes, 60, 60, how)
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)  # the grace has begun, and nothing shows it
    pressed = time.monotonic()
    process.send_signal(signal.SIGINT)
    account = account_of(process)
    assert time.monotonic() - pressed < 10
    assert account["caught"] == "KeyboardInterrupt"
    assert account["cancelled"] >= 1


def test_workers_of_a_graph_end_with_the_program(child: Any) -> None:
    """kill -9 of the parent, while the workers of two stages are busy."""
    process = child(
        """
import os, time
from celestialflow_core import TaskGraph, TaskManager

def first(task):
    open(f"pid-{os.getpid()}", "w").close()
    if task:
        time.sleep(60)
    return task

def second(task):
    return first(1)

a, b = TaskManager(first, "process", 2, log_dir=None), TaskManager(second, "process", 2, log_dir=None)
TaskGraph(log_dir=None).connect(a, b).start({a: [0, 1, 2]})
"""
    )
    try:
        wait_until(lambda: len(list(Path().glob("pid-*"))) >= 3 or process.poll() is not None, seconds=60)
        pids = [int(path.name[4:]) for path in Path().glob("pid-*")]
        assert len(pids) >= 3
        process.kill()
        process.wait(30)
        wait_until(lambda: not any(_alive(pid) for pid in pids), seconds=10)
    finally:
        process.kill()
        process.communicate()


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def die(task: int) -> int:
    """Takes its worker along."""
    if task == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def test_killed_worker_of_a_stage_charges_its_task_only(make: Any, graph: Any) -> None:
    """WorkerCrashed is the error of that one task, and goes along its error edge; the others come through."""
    a, b, c = make(abs, name="a"), make(die, "process", 2, name="b"), make(abs, "thread", 2, name="c")
    fallback = make(lambda outcome: outcome.task, name="fallback")
    flow = graph().connect(a, b).connect(b, c).connect(b, fallback, on="error")
    summary = flow.start({a: range(20)})
    assert list(b.error_dict) == [3]
    assert type(b.error_dict[3]) is WorkerCrashed
    assert sorted(c.success_dict) == [task for task in range(20) if task != 3]
    assert list(fallback.success_dict.values()) == [3]
    assert (summary.crashes, summary.stages[1].crashes) == (1, 1)


def quick(task: int) -> int:
    """A task of two milliseconds."""
    time.sleep(0.002)
    return task


async def quick_awaited(task: int) -> int:
    """The same, as a coroutine."""
    await asyncio.sleep(0.002)
    return task


def endless(pulled: list[int]) -> Iterator[int]:
    """Endless tasks, noted as they are pulled."""
    for task in itertools.count():
        pulled.append(task)
        yield task


MIXES = [(None, "thread"), ("thread", "async")]
ENDINGS = [
    *[(modes, ending) for modes in MIXES for ending in ("block", "close", "error", "dropped")],
    *[(("thread", "process"), "block"), (("process", "async"), "dropped")],
]


def two(make: Any, graph: Any, modes: Any, **options: Any) -> tuple[TaskGraph, Any, Any]:
    """A graph of two managers."""
    first, second = (
        make(quick_awaited if mode == "async" else quick, mode, 2 if mode else None, name=name)
        for name, mode in zip(("first", "second"), modes, strict=True)
    )
    return graph(max_in_flight=8, **options).connect(first, second), first, second


def check_account(flow: TaskGraph, first: Any, second: Any, pulled: int) -> None:
    """The counts add up in each stage and in all, and agree with the dicts; everything can run again."""
    summary: Any = flow.summary
    drawn = flow.to_mermaid()
    for manager, stage in zip((first, second), summary.stages, strict=True):
        settled = stage.succeeded + stage.failed + stage.duplicates + stage.cancelled
        assert stage.total == settled == manager.counts.taken
        assert manager.counts.running == manager.counts.pending == 0
        assert (len(manager.success_dict), len(manager.error_dict)) == (stage.succeeded, stage.failed)
    assert summary.stages[0].total == pulled
    assert f'-->|"{summary.stages[1].total}"| s1' in drawn
    assert flow.start({first: [0]}).succeeded == 2


@pytest.mark.parametrize(("modes", "ending"), ENDINGS)
def test_stream_that_is_left_leaves_a_whole_account(make: Any, graph: Any, modes: Any, ending: str) -> None:
    """break out of the block, close(), an error of the consumer, and a stream that is collected."""
    pulled: list[int] = []
    flow, first, second = two(make, graph, modes)
    before = Resources()
    outcomes = flow.stream({first: endless(pulled)})
    if ending == "error":
        with pytest.raises(LookupError, match="of the consumer"), outcomes:
            for outcome in outcomes:
                if outcome.task >= 10:
                    raise LookupError("of the consumer")
    elif ending == "block":
        with outcomes:
            assert len(list(itertools.islice(outcomes, 12))) == 12
    else:
        assert len(list(itertools.islice(outcomes, 12))) == 12
        if ending == "close":
            outcomes.close()
        else:
            with pytest.warns(ResourceWarning, match="A stream was dropped"):
                del outcomes
                gc.collect()
    before.expect_no_leaks()
    stopped = "The stream was dropped." if ending == "dropped" else "The stream was closed."
    assert flow.summary is not None
    assert flow.summary.stopped == stopped
    check_account(flow, first, second, len(pulled))


@pytest.mark.parametrize(("modes", "ending"), ENDINGS)
def test_async_stream_that_is_left_leaves_a_whole_account(make: Any, graph: Any, modes: Any, ending: str) -> None:
    """The same in an event loop."""
    pulled: list[int] = []
    flow, first, second = two(make, graph, modes)
    before = Resources()

    async def main() -> None:
        stream = flow.stream_async({first: endless(pulled)})
        if ending in ("block", "error"):
            async with stream:
                async for outcome in stream:
                    if outcome.task >= 10 and ending == "error":
                        raise LookupError("of the consumer")
                    if outcome.task >= 10:
                        break
        else:
            async for outcome in stream:
                if outcome.task >= 10:
                    break
            if ending == "close":
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
    before.expect_no_leaks()
    check_account(flow, first, second, len(pulled))


@pytest.mark.parametrize("modes", MIXES)
def test_iterable_that_raises_ends_after_all_that_was_taken(make: Any, graph: Any, modes: Any) -> None:
    """Its error comes out when what it had given has gone through the whole graph."""

    def broken() -> Iterator[int]:
        yield from range(20)
        raise LookupError("no more pages")

    flow, first, second = two(make, graph, modes)
    with pytest.raises(LookupError, match="no more pages"):
        flow.start({first: broken(), second: range(100, 110)})
    assert flow.summary is not None
    assert [stage.succeeded for stage in flow.summary.stages] == [20, 30]


@pytest.mark.parametrize("modes", MIXES)
@pytest.mark.parametrize("when", ["soon", "now"])
def test_stop_rule_of_the_graph_counts_all_stages(make: Any, graph: Any, modes: Any, when: Any) -> None:
    """Errors anywhere end it with TooManyErrors, which has the summary; successes end it without an error."""
    flow, first, second = two(make, graph, modes, stop=Stop(successes=15, when=when))
    pulled: list[int] = []
    summary = flow.start({first: endless(pulled)})
    assert summary.succeeded >= 15
    assert re.fullmatch(r"1[5-9] tasks succeeded \(stop at successes=15\)", str(summary.stopped))
    for manager, stage in zip((first, second), summary.stages, strict=True):
        assert stage.stopped == summary.stopped
        assert len(manager.success_dict) == stage.succeeded
    assert summary.stages[0].total == len(pulled)


def fail(task: int) -> int:
    """An error."""
    raise ValueError(task)


def test_errors_of_all_stages_add_up_for_the_rule_of_the_graph(make: Any, graph: Any) -> None:
    """Two in one, two in the other: four are too many."""
    a, b = make(fail, name="a"), make(fail, "thread", 1, name="b")
    flow = graph(stop=4).add(a, b)
    with pytest.raises(TooManyErrors) as caught:
        flow.start({a: [1, 2], b: [1, 2, *range(10, 5000)]})
    summary: Any = caught.value.summary
    assert summary is flow.summary
    assert summary.failed >= 4
    assert summary.total < 5002


def test_error_that_ends_the_graph_from_an_override_comes_out(make: Any, graph: Any) -> None:
    """process_result_dict raises at the end: everything has been released, and the managers are free."""

    class Broken(TaskManager[Any, Any]):
        """Cannot make an end."""

        def process_result_dict(self) -> Any:
            """Fails."""
            raise OSError("disk full")

    a, b = make(abs, "thread", 2, name="a"), make(abs, kind=Broken, name="b")
    flow = graph().connect(a, b)
    before = Resources()
    with pytest.raises(OSError, match="disk full"):
        flow.start({a: range(10)})
    before.expect_no_leaks()
    assert flow.summary.succeeded == 20
    assert a.start([1]).succeeded == 1
    assert repr(flow).startswith("<TaskGraph(graph) idle")


# -------------------------------------------------------------------- warm workers


def worker_pid(task: Any) -> tuple[int, Any]:
    """Who runs it."""
    return os.getpid(), current_worker().state


def set_up() -> int:
    """What a worker keeps."""
    return os.getpid()


def test_warm_workers_serve_graphs_and_runs_alike(make: Any, graph: Any) -> None:
    """Inside ``with manager:`` the processes stay from run to run, of the manager alone and of two graphs."""
    warm = make(worker_pid, "process", 2, name="warm", worker_setup=set_up, enable_duplicate_check=False)
    a, b = make(abs, name="a"), make(lambda value: value, "thread", 2, name="b", enable_duplicate_check=False)
    before = Resources()
    with warm:
        pids: set[int] = set()
        for run in range(4):
            flow = graph(f"g{run % 2}").connect(a, warm).connect(warm, b)
            assert flow.start({a: range(20)}).succeeded == 60
            pids |= {pid for pid, _ in b.success_dict}
            warm.start(range(20))
            pids |= {pid for _, (pid, _) in warm.get_success_pairs()}
        assert 1 <= len(pids) <= 2
        assert all(state == pid for _, (pid, state) in warm.get_success_pairs())
        assert all(_alive(pid) for pid in pids)
    before.expect_no_leaks()
    assert not any(_alive(pid) for pid in pids)


def test_warm_workers_survive_a_graph_that_is_refused(make: Any, graph: Any) -> None:
    """It did not touch them; a run that ended early has stopped them, and the next one has new ones."""
    warm, b = make(worker_pid, "process", 1, name="warm"), make(abs, name="b")
    with warm:
        (first,) = {pid for _, (pid, _) in warm.start([0]) and warm.get_success_pairs()}
        with pytest.raises(GraphError):
            graph().connect(warm, b).start({b: [1]})
        flow = graph().add(warm)
        (outcome,) = flow.stream({warm: [1]})
        assert outcome.value[0] == first
        with flow.stream({warm: itertools.count()}) as outcomes:
            next(outcomes)
        (outcome,) = flow.stream({warm: [1]})
        assert outcome.ok
    assert not _alive(first)
