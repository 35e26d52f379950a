"""Tasks that hang, in the modes that can end them (faults.md, 30 and 31)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from celestialflow_core import TaskAbandoned, TaskManager, TaskTimeout, hookimpl
from celestialflow_core.testing import wait_until

TIMED = pytest.mark.parametrize("mode", ["thread", "async", "process"], indirect=True)
OUTSIDE = pytest.mark.parametrize("mode", ["thread", "process"], indirect=True)
LIMIT = 0.3


@pytest.fixture
def gate(own_folder: Path) -> Iterator[Path]:
    """A file that lets go of whatever still hangs when the test ends."""
    path = own_folder / "gate"
    yield path
    path.touch()


def hanging(mode: Any, gate: Path, bad: set[int]) -> Callable[[int], Any]:
    """A function whose *bad* tasks hang until the test is over, and which notes when each call begins."""
    name, log = mode.name, gate.parent / "begun"

    def job(task: int) -> Any:
        with log.open("a") as file:
            file.write(f"{task} {time.time()}\n")
        if task in bad:
            if name == "async":
                return asyncio.sleep(120)
            wait_until(gate.exists, 120)
        return task

    return job


def begun(gate: Path) -> dict[int, float]:
    """When the call of each task began, of those that have."""
    if not (gate.parent / "begun").exists():
        return {}
    lines = [line.split() for line in (gate.parent / "begun").read_text().splitlines()]
    return {int(task): float(moment) for task, moment in lines}


@TIMED
def test_five_hung_tasks_on_two_workers_cost_five_errors_and_three_limits(
    mode: Any, gate: Path, account: Callable[..., None]
) -> None:
    """30: the others succeed, and the whole run takes at most three times the limit and two seconds."""
    bad = {3, 7, 8, 15, 19}
    manager = mode.manager(
        hanging(mode, gate, bad), task_timeout=LIMIT, max_retries=0, enable_success_cache=True, enable_error_cache=True
    )
    begin = time.monotonic()
    summary = manager.start(range(20))
    assert time.monotonic() - begin < 3 * LIMIT + 2
    assert set(manager.error_dict) == bad
    assert {type(error) for error in manager.error_dict.values()} == {
        TaskAbandoned if mode.name == "thread" else TaskTimeout
    }
    assert summary.abandoned == (5 if mode.name == "thread" else 0)
    assert summary.crashes == 0
    account(manager, 20)


@TIMED
def test_next_call_starts_within_a_second(mode: Any, gate: Path) -> None:
    """30: with one worker, which hangs, the next task begins at most a second after the limit."""
    manager = mode.manager(hanging(mode, gate, {0}), worker_limit=1, task_timeout=LIMIT, max_retries=0)
    assert manager.start(range(3)).failed == 1
    moments = begun(gate)
    assert moments[1] - moments[0] + 0.05 >= LIMIT  # two clocks
    assert moments[1] - moments[0] < LIMIT + 1


@OUTSIDE
@pytest.mark.parametrize("busy", ["iterable", "hook", "consumer"])
def test_busy_caller_delays_no_time_limit(mode: Any, gate: Path, busy: str) -> None:
    """While the caller's thread is in user code, for long, a hung task is ended at its own."""

    def dawdle() -> None:
        wait_until(lambda: 0 in begun(gate) and time.time() - begun(gate)[0] > LIMIT + 1.2, 60)

    class Plugin:
        @hookimpl
        def on_success(self, outcome: Any) -> None:
            if outcome.task == 9 and busy == "hook":
                dawdle()

    def tasks() -> Iterator[int]:
        yield 9  # succeeds at once
        yield 0  # hangs
        if busy == "iterable":
            dawdle()
        yield 1

    manager = mode.manager(hanging(mode, gate, {0}), task_timeout=LIMIT, max_retries=0, plugins=[Plugin()])
    outcomes: dict[int, Any] = {}
    # A list is read in one go, so that the hung task runs before the caller is busy.
    for outcome in manager.stream(tasks() if busy == "iterable" else [9, 0, 1]):
        outcomes[outcome.task] = outcome
        if outcome.task == 9 and busy == "consumer":
            dawdle()
    assert {task: outcome.status for task, outcome in outcomes.items()} == {9: "success", 0: "error", 1: "success"}
    assert time.time() - begun(gate)[0] > LIMIT + 1.2
    assert LIMIT <= outcomes[0].seconds < LIMIT + 1


def test_loop_that_is_blocked_is_charged_to_nobody() -> None:
    """31: a task that holds the loop for longer than the limit, again and again, makes no other task late."""

    async def job(task: int) -> int:
        if task % 4 == 0:
            time.sleep(0.4)
        else:
            await asyncio.sleep(0.02)
        return task

    manager: TaskManager[int, int] = TaskManager(
        job, "async", 8, task_timeout=0.3, max_retries=0, enable_error_cache=True, log_dir=None
    )
    manager.start(range(12))
    assert {task % 4 for task in manager.error_dict} <= {0}


def test_coroutine_that_swallows_its_cancellation_gives_its_slot_away() -> None:
    """31: one slot; the next task begins while the first is still there, and the run returns."""
    events: list[str] = []

    async def job(task: int) -> int:
        events.append(f"begin {task}")
        if task == 0:
            end = time.monotonic() + 3
            while time.monotonic() < end:
                try:
                    await asyncio.sleep(0.2)
                except asyncio.CancelledError:
                    events.append("swallowed")
            events.append("end 0")
        return task

    manager: TaskManager[int, int] = TaskManager(
        job, "async", 1, task_timeout=0.2, max_retries=0, enable_error_cache=True, log_dir=None, grace=0.1
    )
    summary = manager.start(range(4))
    assert (summary.succeeded, summary.failed, summary.abandoned) == (3, 1, 1)
    assert isinstance(manager.error_dict[0], TaskAbandoned)
    assert events[:3] == ["begin 0", "swallowed", "begin 1"]
