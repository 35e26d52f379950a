"""What a manager does, on the user's Ray: as in every other mode."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celestialflow_core import Stop, TaskGraph, TaskManager, current_worker
from celestialflow_core.errors import TaskTimeout, TooManyErrors, WorkerSetupError

pytestmark = pytest.mark.usefixtures("local_ray")


def square(number: int) -> int:
    if number == 13:
        raise ValueError("bad luck")
    return number * number


def add(left: int, right: int) -> int:
    return left + right


def manager(func: Any, **options: Any) -> TaskManager[Any, Any]:
    """A manager that keeps results, and writes no log."""
    given: dict[str, Any] = {"execution_mode": "ray", "log_dir": None, **options}
    return TaskManager(func, enable_success_cache=True, enable_error_cache=True, **given)


def test_results_are_those_of_process_mode() -> None:
    """Successes, errors, duplicates and counts."""
    tasks = [*range(500), *range(100)]
    found = []
    for mode in ("ray", "process"):
        one = manager(square, execution_mode=mode, worker_limit=2, max_retries=2, retry_exceptions=(ValueError,))
        summary = one.start(tasks)
        counts = (summary.total, summary.succeeded, summary.failed, summary.duplicates, summary.retries)
        errors = [(task, type(error), str(error)) for task, error in one.get_error_dict().items()]
        found.append((counts, sorted(one.get_success_dict().items()), errors))

    assert found[0] == found[1]
    assert found[0][0] == (600, 499, 1, 100, 2)


def test_local_functions_and_closures_are_shipped() -> None:
    """With what they close over, and arguments unpacked."""
    offset = 5

    one = manager(lambda left, right: left + right + offset, unpack_task_args=True)
    one.start([(1, 2), (3, 4)])

    assert one.get_success_dict() == {(1, 2): 8, (3, 4): 12}


def test_large_functions_arguments_and_results_are_shipped() -> None:
    """Through the object store, where each is more than travels with a call."""
    table = bytes(2_000_000)

    one = manager(lambda given: (len(table), given))
    one.start([bytes([number]) * 1_000_000 for number in range(5)])

    assert sorted((size, given[0], len(given)) for size, given in one.get_success_dict().values()) == [
        (2_000_000, number, 1_000_000) for number in range(5)
    ]


def test_stop_rule_ends_the_run() -> None:
    """After so many errors, with every task accounted for."""

    def fail(number: int) -> int:
        raise KeyError(number)

    one = manager(fail, stop=Stop(errors=10), max_retries=0)
    with pytest.raises(TooManyErrors):
        one.start(range(10_000))

    summary = one.summary
    assert summary is not None
    assert summary.failed >= 10
    assert summary.total == summary.failed + summary.cancelled


def test_stream_gives_outcomes_in_order_and_can_be_left() -> None:
    """Lazily: what has not been asked for is not taken."""
    taken: list[int] = []

    def tasks() -> Iterator[int]:
        for number in range(1_000_000):
            taken.append(number)
            yield number

    with manager(add, unpack_task_args=True).stream(zip(tasks(), tasks(), strict=True), ordered=True) as outcomes:
        first = [next(outcomes).value for _ in range(3)]

    assert first == [0, 2, 4]
    assert len(taken) < 100_000


def test_start_async_leaves_the_loop_free() -> None:
    """The caller's loop turns while the tasks run elsewhere."""
    turns = 0

    async def main() -> Any:
        nonlocal turns

        async def turn() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0.01)

        turning = asyncio.create_task(turn())
        try:
            return await manager(time.sleep).start_async([0.3, 0.31])
        finally:
            turning.cancel()

    assert asyncio.run(main()).succeeded == 2
    assert turns > 10


def test_warm_workers_are_those_of_the_run_before() -> None:
    """With the manager as a context, the second run finds the same processes."""

    def pid(_: int) -> int:
        time.sleep(0.01)
        return os.getpid()

    with manager(pid, worker_limit=2) as one:
        one.start(range(50))
        first = set(one.get_success_dict().values())
        one.start(range(50))
        second = set(one.get_success_dict().values())

    assert first & second
    assert len(first | second) <= 2  # one of the two may have started late
    assert os.getpid() not in first


def test_stages_of_a_graph_share_the_cpus() -> None:
    """Three stages on two CPUs: a stage that reserved them all for itself would keep the others waiting for ever."""
    stages = [manager(square, name=f"stage {number}") for number in range(3)]
    graph = TaskGraph("squares", log_dir=None)
    graph.connect(stages[0], stages[1])
    graph.connect(stages[1], stages[2])

    summary = graph.start({stages[0]: range(2, 12)})

    assert summary.succeeded == 30
    assert set(stages[2].get_success_dict().values()) == {number**8 for number in range(2, 12)}


def test_setup_runs_once_a_worker_and_is_torn_down(tmp_path: Path) -> None:
    """Its value is the worker's state; the rest of the generator runs at the end."""

    def setup() -> Iterator[str]:
        (tmp_path / f"up-{os.getpid()}").touch()
        yield "ready"
        (tmp_path / f"down-{os.getpid()}").touch()

    def who(_: int) -> Any:
        time.sleep(0.01)
        worker = current_worker()
        return worker.index, worker.state, os.getpid()

    one = manager(who, worker_setup=setup, worker_limit=2)
    one.start(range(100))

    found = set(one.get_success_dict().values())
    assert {state for _, state, _ in found} == {"ready"}
    assert {index for index, _, _ in found} <= {0, 1}
    pids = {str(pid) for *_, pid in found}
    names = {path.name for path in tmp_path.iterdir()}
    assert {f"{way}-{pid}" for way in ("up", "down") for pid in pids} <= names


def test_setup_that_fails_ends_the_run() -> None:
    """With its traceback, and no task is charged."""

    def setup() -> None:
        raise RuntimeError("no licence")

    one = manager(square, worker_setup=setup)
    with pytest.raises(WorkerSetupError, match="no licence"):
        one.start(range(10))

    assert one.summary is not None
    assert one.summary.failed == 0


def test_timeout_ends_what_runs_too_long_and_goes_on() -> None:
    """The error has the stack of the stuck code; the worker is replaced."""

    def nap(seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    one = manager(nap, task_timeout=0.5, max_retries=0)
    summary = one.start([0.0, 60.0, 0.01, 0.02, 0.03])

    assert (summary.succeeded, summary.failed) == (4, 1)
    error = one.get_error_dict()[60.0]
    assert isinstance(error, TaskTimeout)
    assert "in nap" in (error.stack or "")


def test_resources_are_asked_of_the_cluster(local_ray: Any) -> None:
    """Each worker takes what was asked, so that there are as many as fit."""

    def held(_: int) -> Any:
        import ray

        time.sleep(0.05)
        return os.getpid(), tuple(sorted(ray.get_runtime_context().get_assigned_resources().items()))

    one = manager(held, executor_options={"resources": {"stove": 2}, "num_cpus": 0.5})
    one.start(range(20))

    assert len(set(one.get_success_dict().values())) == 1
    assert next(iter(one.get_success_dict().values()))[1] == (("CPU", 0.5), ("stove", 2.0))


@pytest.mark.parametrize("asked", [{"num_gpus": 1}, {"resources": {"fpga": 1}}, {"num_cpus": 64}])
def test_what_the_cluster_does_not_have_is_waited_for_and_then_said(asked: dict[str, Any]) -> None:
    """A node that has it may come; `wait_for_workers` says how long."""
    one = manager(square, executor_options={**asked, "wait_for_workers": 2})

    with pytest.raises(WorkerSetupError, match="no worker for 2 seconds"):
        one.start(range(10))

    assert one.summary is not None
    assert 0 < one.summary.total == one.summary.cancelled
