"""I3: at most max_in_flight tasks are anywhere between the iterable and the consumer."""

from __future__ import annotations

import itertools
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from celestialflow_core import Backoff, TaskManager
from celestialflow_core.testing import wait_until


def uneven(task: int) -> int:
    """Some tasks take longer than others."""
    if task % 10 == 0:
        time.sleep(0.002)
    return task


class Counting:
    """An endless iterable that knows how far it has been pulled."""

    def __init__(self) -> None:
        self.pulled = 0

    def __iter__(self) -> Iterator[int]:
        for task in itertools.count():
            self.pulled += 1
            yield task


@pytest.mark.parametrize("ordered", [False, True], ids=["unordered", "ordered"])
@pytest.mark.parametrize("most", [2, 7, 64])
def test_endless_iterable_is_pulled_no_further_than_room(mode: Any, ordered: bool, most: int) -> None:
    """pulled <= delivered + max_in_flight at every moment, and after the end nothing is pulled any more."""
    tasks = Counting()
    with mode.manager(uneven, max_in_flight=most).stream(tasks, ordered=ordered) as outcomes:
        for delivered, _outcome in enumerate(itertools.islice(outcomes, 150), 1):
            assert tasks.pulled <= delivered + most
        at_the_end = tasks.pulled
    assert tasks.pulled == at_the_end


def test_default_bound_holds_too(mode: Any) -> None:
    """4,096 + 16 x worker_limit."""
    tasks = Counting()
    with mode.manager(uneven).stream(tasks) as outcomes:
        for delivered, _outcome in enumerate(itertools.islice(outcomes, 500), 1):
            assert tasks.pulled <= delivered + 4096 + 16 * 2


def test_tasks_in_memory_are_pulled_no_further_either(mode: Any) -> None:
    """A list is read in chunks; the bound is the same."""
    source = iter(range(10_000))
    with mode.manager(uneven, max_in_flight=16).stream(source) as outcomes:
        for _outcome in itertools.islice(outcomes, 100):
            pass
    rest = next(source)
    assert rest <= 100 + 16


@pytest.mark.parametrize("ordered", [False, True], ids=["unordered", "ordered"])
def test_tasks_that_wait_for_a_retry_count(ordered: bool) -> None:
    """Where all wait, nothing is pulled: the bound holds also for what is neither running nor ready."""
    tasks = Counting()
    failed_once: set[int] = set()

    def job(task: int) -> int:
        if task not in failed_once:
            failed_once.add(task)
            assert tasks.pulled - delivered <= 5
            raise TimeoutError
        return task

    delivered = 0
    manager: TaskManager[int, int] = TaskManager(
        job, max_in_flight=5, backoff=Backoff(initial=0.002, jitter=0), log_dir=None
    )
    with manager.stream(tasks, ordered=ordered) as outcomes:
        for outcome in itertools.islice(outcomes, 40):
            delivered += 1
            assert outcome.ok
            assert outcome.attempts == 2


def test_early_outcomes_of_an_ordered_stream_count() -> None:
    """While the first task runs, the others that are held back fill the bound, and the iterable rests."""
    import threading

    tasks, gate = Counting(), threading.Event()

    def job(task: int) -> int:
        if task == 0:
            gate.wait(30)
        return task

    manager: TaskManager[int, int] = TaskManager(job, "thread", 2, max_in_flight=8, log_dir=None)
    with manager.stream(tasks, ordered=True) as outcomes:

        def release() -> None:
            try:
                wait_until(lambda: manager.counts.succeeded >= 7)
                pulled.append(tasks.pulled)
            finally:
                gate.set()

        pulled: list[int] = []
        thread = threading.Thread(target=release)
        thread.start()
        first = next(outcomes)
        thread.join()
    assert first.task == 0
    assert pulled == [8]


@pytest.mark.parametrize("mode", ["serial", "thread", "async", "futures"], indirect=True)
@pytest.mark.parametrize("how", ["start", "stream", "ordered"])
def test_memory_does_not_grow_with_the_number_of_tasks(mode: Any, how: str) -> None:
    """With caches and the duplicate check off, 30,000 further tasks leave the peak where 3,000 had it."""
    manager = mode.manager(lambda task: task, enable_duplicate_check=False, max_in_flight=256)

    def run(number: int) -> None:
        if how == "start":
            assert manager.start(iter(range(number))).succeeded == number
        else:
            seen = 0
            for _outcome in manager.stream(iter(range(number)), ordered=how == "ordered"):
                seen += 1
            assert seen == number

    run(3000)
    tracemalloc.start()
    try:
        run(3000)
        few = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        run(12_000)
        many = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert many < few + 200_000, f"{few} bytes at most with 3,000 tasks, {many} with 12,000"
