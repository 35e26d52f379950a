"""I4: every task ends as exactly one Outcome, and the counts add up, however the run ends."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from celestialflow_core import Backoff, Stop, TaskManager, TooManyErrors, WorkerCrashed, hookimpl

STATUSES = ("success", "error", "duplicate", "cancelled")


def job(task: int) -> int:
    """Successes, errors and errors that are tried again, at uneven speed."""
    if task % 50 == 0:
        time.sleep(0.001)
    if task % 11 == 5:
        raise ValueError(task)
    if task % 13 == 7:
        raise TimeoutError(task)
    return task


def source(number: int, pulled: list[int], fail_at: int | None = None) -> Iterator[int]:
    """Tasks with some duplicates, which perhaps raises midway."""
    dice = random.Random(number)
    for task in range(number):
        if task == fail_at:
            raise LookupError("the source is dry")
        pulled.append(task if dice.random() < 0.9 else dice.randrange(task + 1))
        yield pulled[-1]


def check_account(manager: Any, pulled: list[int], outcomes: list[Any] | None) -> None:
    """The counts are those of the outcomes, and both are the account of what was pulled."""
    summary, counts = manager.summary, manager.counts
    assert summary.total == len(pulled)
    assert summary.total == summary.succeeded + summary.failed + summary.duplicates + summary.cancelled
    assert (counts.taken, counts.pending, counts.running) == (summary.total, 0, 0)
    assert counts.settled == summary.total
    if outcomes is None:
        return
    assert sorted(outcome.id for outcome in outcomes) == list(range(len(pulled)))
    assert all(outcome.task == pulled[outcome.id] for outcome in outcomes)
    by_status = Counter(outcome.status for outcome in outcomes)
    assert [by_status[status] for status in STATUSES] == [
        summary.succeeded,
        summary.failed,
        summary.duplicates,
        summary.cancelled,
    ]


ENDINGS = ["whole", "iterable raises", "stop soon", "stop now", "hook interrupts"]


@pytest.mark.parametrize("ordered", [False, True], ids=["unordered", "ordered"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_every_task_has_one_outcome_in_a_stream(mode: Any, ending: str, ordered: bool) -> None:
    """Whatever ends the run, each task that was pulled is given out once."""
    pulled: list[int] = []
    outcomes: list[Any] = []
    options: dict[str, Any] = {"backoff": Backoff(initial=0.001), "max_in_flight": 40}
    expected: type[BaseException] | None = None
    if ending.startswith("stop"):
        options["stop"] = Stop(errors=12, when="now" if ending == "stop now" else "soon")
        expected = TooManyErrors
    elif ending == "iterable raises":
        expected = LookupError
    elif ending == "hook interrupts":
        expected = KeyboardInterrupt

        class Impatient:
            calls = 0

            @hookimpl
            def process_result(self, task: int, result: int) -> int:
                self.calls += 1
                if self.calls == 100:
                    raise KeyboardInterrupt
                return result

        options["plugins"] = [Impatient()]
    manager = mode.manager(job, **options)
    tasks = source(400, pulled, fail_at=170 if ending == "iterable raises" else None)
    if expected is None:
        outcomes.extend(manager.stream(tasks, ordered=ordered))
    else:
        with pytest.raises(expected):
            for outcome in manager.stream(tasks, ordered=ordered):
                outcomes.append(outcome)
    # KeyboardInterrupt comes at once, ahead of the outcomes that were left.
    check_account(manager, pulled, None if ending == "hook interrupts" else outcomes)


@pytest.mark.parametrize("ending", ENDINGS[:4])
def test_counts_add_up_after_start(mode: Any, ending: str) -> None:
    """The dicts and the summary agree."""
    pulled: list[int] = []
    options: dict[str, Any] = {"backoff": Backoff(initial=0.001), "max_in_flight": 40}
    if ending.startswith("stop"):
        options["stop"] = Stop(errors=12, when="now" if ending == "stop now" else "soon")
    manager = mode.manager(job, enable_success_cache=True, enable_error_cache=True, **options)
    tasks = source(400, pulled, fail_at=170 if ending == "iterable raises" else None)
    try:
        manager.start(tasks)
    except (LookupError, TooManyErrors):
        assert ending != "whole"
    check_account(manager, pulled, None)
    assert len(manager.success_dict) == manager.summary.succeeded
    assert len(manager.error_dict) == manager.summary.failed
    assert not manager.success_dict.keys() & manager.error_dict.keys()


@pytest.mark.parametrize("left_after", [0, 1, 30])
def test_counts_add_up_after_a_stream_was_left(mode: Any, left_after: int) -> None:
    """What was running is settled or cancelled."""
    pulled: list[int] = []
    manager = mode.manager(job, max_in_flight=40)
    with manager.stream(source(10_000, pulled)) as outcomes:
        for _ in range(left_after):
            next(outcomes)
    check_account(manager, pulled, None)
    assert len(pulled) <= left_after + 40


def test_counts_add_up_after_dead_workers() -> None:
    """Workers that are killed, exit, or hang cost the task that did it, and no other."""

    def deadly(task: int) -> int:
        if task == 20:
            os.kill(os.getpid(), signal.SIGKILL)
        if task == 40:
            os._exit(3)
        if task == 60:
            time.sleep(60)
        return task

    pulled = list(range(80))
    manager: TaskManager[int, int] = TaskManager(
        deadly, "process", 2, max_retries=0, task_timeout=1.0, enable_error_cache=True, log_dir=None
    )
    check_account(manager, pulled, list(manager.stream(pulled)))
    assert set(manager.error_dict) == {20, 40, 60}
    assert isinstance(manager.error_dict[20], WorkerCrashed)
    assert isinstance(manager.error_dict[60], TimeoutError)
    assert manager.summary is not None
    assert manager.summary.crashes == 2
