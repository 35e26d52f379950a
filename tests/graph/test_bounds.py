"""What a graph holds is bounded: in tasks, in memory, in how far its sources are pulled."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celestialflow_core import TaskGraph
from celestialflow_core.executors import serial

SLACK = 25_000_000  # bytes
MOST = 1024  # calls that a serial manager asks for at a time


def status_of_process(name: str) -> int:
    """A line of this process's status, in bytes."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def fan_out(task: int) -> list[int]:
    """Ten tasks of one."""
    return list(range(10 * task, 10 * task + 10))


def run_wide(make: Any, number: int, how: str) -> int:
    """Explode *number* tasks into ten each, through three serial managers; gives the bytes by which memory grew."""
    most, sampled = 0, 0
    flow = TaskGraph(log_dir=None, log_level="ERROR", max_in_flight=500)

    def last(task: int) -> int:
        nonlocal most, sampled
        if task % 997 == 0:
            sampled += 1
            most = max(most, sum(stage.pending + stage.running for stage in flow.status().stages))
        return task

    off = {"enable_success_cache": False, "enable_error_cache": False, "enable_duplicate_check": False}
    a, b, c = make(fan_out, name="a", **off), make(abs, name="b", **off), make(last, name="c", **off)
    flow.connect(a, b, each=True).connect(b, c)

    def source(count: int) -> Iterator[int]:
        yield from range(count)

    assert flow.start({a: source(2000)}).succeeded == 42_000
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = status_of_process("VmRSS")
    if how == "start":
        flow.start({a: source(number)})
    else:
        assert sum(1 for outcome in flow.stream({a: source(number)}) if outcome.ok) == 10 * number
    assert flow.summary is not None
    assert flow.summary.succeeded == 21 * number
    assert sampled >= number // 1000
    assert most <= 500 + 3 * MOST
    return status_of_process("VmHWM") - before


@pytest.mark.parametrize("how", ["start", "stream"])
def test_wide_graph_holds_few_tasks_and_little_memory(make: Any, how: str) -> None:
    """5,000 tasks, 50,000 of each of the other managers."""
    assert run_wide(make, 5_000, how) < SLACK


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_wide_graph_of_a_million_tasks_holds_little_memory(make: Any) -> None:
    """A source of a million, ten million tasks of each of the other managers."""
    assert run_wide(make, 1_000_000, "start") < SLACK


@pytest.mark.parametrize("depth", [2, 3, 30])
@pytest.mark.parametrize("how", ["start", "stream"])
def test_first_leaf_settles_before_many_roots_are_pulled(make: Any, depth: int, how: str) -> None:
    """Of a serial graph: before the (slots + depth + 1)th."""
    pulled = 0
    at_first_leaf: list[tuple[int, int]] = []

    def source() -> Iterator[int]:
        nonlocal pulled
        for task in range(300):
            pulled += 1
            yield task

    def leaf(task: int) -> int:
        if not at_first_leaf:
            at_first_leaf.append((pulled, max(stage._core.stage.executor.slots for stage in stages)))
        return task

    stages = [make(abs, name=f"s{at}") for at in range(depth - 1)]
    stages.append(make(leaf, name="leaf"))
    flow = TaskGraph(log_dir=None, log_level="ERROR").chain(*stages)
    if how == "start":
        flow.start({stages[0]: source()})
    else:
        with flow.stream({stages[0]: source()}) as outcomes:
            next(outcomes)
    ((before, slots),) = at_first_leaf
    assert before <= slots + depth


@pytest.mark.parametrize("modes", [("thread", "thread"), (None, "thread"), ("async", "process")])
def test_consumer_that_takes_its_time_holds_the_sources(make: Any, graph: Any, modes: Any) -> None:
    """What waits for the consumer counts: an endless source is pulled no further than the graph may hold."""
    pulled = []

    def source() -> Iterator[int]:
        for task in itertools.count():
            pulled.append(task)
            yield task

    async def awaited(task: int) -> int:
        return task

    stages = [
        make(awaited if mode == "async" else abs, mode, 2 if mode else None, name=f"s{at}")
        for at, mode in enumerate(modes)
    ]
    flow = graph(max_in_flight=20).chain(*stages)
    with flow.stream({stages[0]: source()}) as outcomes:
        for number, outcome in enumerate(itertools.islice(outcomes, 200), 1):
            assert outcome.ok
            assert len(pulled) <= number + 20


def test_cycle_that_grows_keeps_its_frontier_only(make: Any, graph: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Newest first: a tree of two to the 14th is gone through with a frontier of hundreds, not of thousands."""
    monkeypatch.setattr(serial, "MOST", 32)  # else the clock decides how long a batch is, and with it the frontier
    most = 0

    def below(task: int) -> list[int]:
        nonlocal most
        status = flow.status()
        most = max(most, sum(stage.pending + stage.running for stage in status.stages))
        return [2 * task, 2 * task + 1] if task < 2**13 else []

    off = {"enable_success_cache": False, "enable_duplicate_check": False}
    a, b = make(below, name="a", **off), make(abs, name="b", **off)
    flow = graph(max_in_flight=10).connect(a, b, each=True).connect(b, a, when=bool)
    summary = flow.start({a: [1]})
    assert summary.succeeded == 2**14 - 1 + 2**14 - 2
    assert most < 1000
