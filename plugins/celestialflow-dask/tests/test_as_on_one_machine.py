"""What a manager does with tasks is the same on a cluster as on one machine."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from celestialflow_core import Stop, TaskGraph, TaskManager, current_worker
from celestialflow_core.errors import TooManyErrors, WorkerSetupError


@pytest.fixture(params=["process", "dask"])
def new(request: pytest.FixtureRequest, address: str) -> Callable[..., Any]:
    """Makes managers of a mode; all tests run with both."""
    options = {"address": address} if request.param == "dask" else {}

    def make(func: Callable[..., Any], **given: Any) -> Any:
        return TaskManager(func, request.param, 2, log_dir=None, executor_options=options, **given)

    return make


def _function() -> Callable[[int], int]:
    """A function that travels by value."""

    def third(task: int) -> int:
        if task % 10 == 3:
            raise ValueError(f"{task} is unlucky")
        return task // 3

    return third


def test_results_errors_and_duplicates_are_the_same(new: Callable[..., Any]) -> None:
    """Each task once, under itself; the error is the function's own."""
    manager = new(_function(), enable_success_cache=True, enable_error_cache=True)
    summary = manager.start([*range(100), *range(50)])

    assert (summary.succeeded, summary.failed, summary.duplicates) == (90, 10, 50)
    assert manager.get_success_dict() == {task: task // 3 for task in range(100) if task % 10 != 3}
    errors = manager.get_error_dict()
    assert set(errors) == set(range(3, 100, 10))
    assert str(errors[3]) == "3 is unlucky"


def test_order_is_kept_where_it_is_asked_for(new: Callable[..., Any]) -> None:
    """Whatever worker was first."""
    values = [outcome.value for outcome in new(lambda task: -task).stream(range(500), ordered=True)]

    assert values == [-task for task in range(500)]


def test_failing_call_is_tried_again(new: Callable[..., Any]) -> None:
    """As often as it may be, and no more."""
    manager = new(_function(), max_retries=2, retry_exceptions=(ValueError,), enable_error_cache=True)
    outcomes = {outcome.task: outcome for outcome in manager.stream(range(10))}

    assert outcomes[3].attempts == 3
    assert all(outcome.attempts == 1 for task, outcome in outcomes.items() if task != 3)


def test_stop_rule_ends_the_run(new: Callable[..., Any]) -> None:
    """With the error that says so, and every task that was taken in the account."""
    with pytest.raises(TooManyErrors) as raised:
        new(_function(), stop=Stop(errors=2)).start(range(100_000))

    summary: Any = raised.value.summary
    assert summary.failed >= 2
    assert summary.total == summary.succeeded + summary.failed + summary.cancelled < 100_000


def test_set_up_gives_each_worker_its_state_and_is_torn_down(new: Callable[..., Any], tmp_path: Any) -> None:
    """A generator's rest runs when the run is over."""
    folder = str(tmp_path)

    def setup() -> Iterator[str]:
        yield f"state {current_worker().index}"
        with open(f"{folder}/{current_worker().index}", "w"):
            pass

    def state(task: int) -> str:
        import time

        time.sleep(0.01)
        return f"{current_worker().state}"

    values = Counter(outcome.unwrap() for outcome in new(state, worker_setup=setup).stream(range(100)))

    assert set(values) == {"state 0", "state 1"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]


def test_set_up_that_fails_ends_the_run(new: Callable[..., Any]) -> None:
    """With its traceback, and no task is charged."""

    def setup() -> None:
        raise RuntimeError("no licence")

    with pytest.raises(WorkerSetupError, match="no licence"):
        new(_function(), worker_setup=setup).start(range(10))


def test_workers_stay_warm_from_run_to_run(new: Callable[..., Any]) -> None:
    """The set-up runs once for all runs of a ``with``."""

    def setup() -> object:
        return object()

    def state(task: int) -> int:
        return id(current_worker().state)

    with new(state, worker_setup=setup) as manager:
        first = {outcome.unwrap() for outcome in manager.stream(range(50))}
        second = {outcome.unwrap() for outcome in manager.stream(range(50))}

    assert len(first | second) <= 2


def test_start_async_runs_in_a_loop(new: Callable[..., Any]) -> None:
    """The caller's loop goes on meanwhile."""

    async def main() -> tuple[Any, int]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.001)
                ticks += 1

        ticking = asyncio.create_task(tick())
        summary = await new(_function()).start_async(range(100))
        ticking.cancel()
        return summary, ticks

    summary, ticks = asyncio.run(main())
    assert (summary.succeeded, summary.failed) == (90, 10)
    assert ticks > 0


def test_stages_of_a_graph_run_there(new: Callable[..., Any]) -> None:
    """Each result goes on as a task of the next stage."""
    first, second = new(lambda task: task + 1, name="first"), new(lambda task: 10 * task, name="second")
    graph = TaskGraph("pair", log_dir=None)
    graph.connect(first, second)

    values = sorted(outcome.unwrap() for outcome in graph.stream({first: range(200)}))

    assert values == [10 * (task + 1) for task in range(200)]


def test_task_knows_its_dask_worker(address: str) -> None:
    """Though it runs in a thread that is not Dask's."""

    def where(task: int) -> str:
        from distributed import get_worker

        return str(get_worker().address)

    options = {"address": address}
    manager = TaskManager(where, "dask", 2, log_dir=None, executor_options=options, enable_success_cache=True)
    manager.start(range(20))
    assert all(address.startswith("tcp://127.0.0.1:") for address in manager.get_success_dict().values())
    assert len(manager.get_success_dict()) == 20
