"""Streams: outcomes as they settle, in order where it is asked for, and what happens when they are left early."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from celestialflow_core import TaskManager, hookimpl
from celestialflow_core.testing import Resources, wait_until


def jitter(task: int) -> int:
    """Later tasks may finish before earlier ones; some fail."""
    time.sleep((task * 7 % 5) / 2000)
    if task % 10 == 3:
        raise ValueError(task)
    return task * 2


def test_stream_gives_each_outcome_once(mode: Any) -> None:
    """Successes, errors and duplicates, each with its task, its value or error, and its id."""
    outcomes = list(mode.manager(jitter).stream([*range(40), 5, 13]))
    assert sorted(outcome.id for outcome in outcomes) == list(range(42))
    by_id = {outcome.id: outcome for outcome in outcomes}
    for id in range(40):
        assert by_id[id].task == id
        if id % 10 == 3:
            assert type(by_id[id].error) is ValueError
            assert "ValueError" in by_id[id].traceback
            with pytest.raises(ValueError, match=str(id)):
                by_id[id].unwrap()
        else:
            assert by_id[id].ok
            assert by_id[id].unwrap() == id * 2
            assert by_id[id].seconds >= 0
    assert [by_id[id].status for id in (40, 41)] == ["duplicate", "duplicate"]


def test_ordered_stream_lines_up_with_the_tasks(mode: Any) -> None:
    """zip(tasks, stream) pairs each task with its outcome, failures and duplicates included."""
    tasks = [*range(40), 7, 13, *range(50, 60)]
    manager = mode.manager(jitter, max_in_flight=8)
    pairs = list(zip(tasks, manager.stream(tasks, ordered=True), strict=False))
    assert len(pairs) == len(tasks)
    assert all(outcome.task == task for task, outcome in pairs)
    assert [outcome.id for _, outcome in pairs] == list(range(len(tasks)))


def test_with_block_can_be_left_early(mode: Any) -> None:
    """Leaving it ends the run: nothing is left behind, and the manager can run again."""
    manager = mode.manager(jitter)
    before = Resources()
    with manager.stream(itertools.count()) as outcomes:
        taken = list(itertools.islice(outcomes, 5))
    before.expect_no_leaks(lambda leak: "ThreadPoolExecutor" in leak)
    assert len(taken) == 5
    assert manager.summary.stopped == "The stream was closed."
    summary = manager.summary
    assert summary.total == summary.succeeded + summary.failed + summary.duplicates + summary.cancelled
    assert list(outcomes) == []
    assert manager.start([1]).succeeded == 1


def test_close_can_be_called_again_and_after_the_end() -> None:
    """It does nothing then."""
    manager: TaskManager[int, int] = TaskManager(abs, log_dir=None)
    stream = manager.stream([1, 2])
    assert len(list(stream)) == 2
    summary = manager.summary
    stream.close()
    stream.close()
    assert manager.summary is summary
    assert list(stream) == []


def test_exception_in_the_block_goes_through_and_the_run_is_released(mode: Any) -> None:
    """The user's own exception is what comes out of the with block."""
    manager = mode.manager(jitter)
    with pytest.raises(ZeroDivisionError), manager.stream(itertools.count()) as outcomes:
        next(outcomes)
        raise ZeroDivisionError
    assert manager.start([1]).succeeded == 1


class Told:
    """A plugin that counts what it is told."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    @hookimpl
    def on_success(self) -> None:
        """Noted."""
        self.calls.append("success")

    @hookimpl
    def on_finish(self) -> None:
        """Noted."""
        self.calls.append("finish")


@pytest.mark.parametrize("mode", ["serial", "thread", "async", "process"], indirect=True)
def test_stream_that_is_dropped_stops_its_workers_and_warns(mode: Any) -> None:
    """A break out of a plain for: ResourceWarning, no hook is called any more, no worker is left."""
    told = Told()
    manager = mode.manager(jitter, plugins=[told])
    before = Resources()
    with pytest.warns(ResourceWarning, match="A stream was dropped before its end, and its workers have been stopped"):
        for _outcome in manager.stream(itertools.count()):
            break
        calls = len(told.calls)
        gc.collect()
    before.expect_no_leaks()
    assert "finish" not in told.calls
    assert len(told.calls) == calls
    assert manager.start([1]).succeeded == 1


def test_stream_that_was_never_begun_holds_no_thread() -> None:
    """A stream is a run from the start: one that nobody iterates is released when it is closed."""
    manager: TaskManager[int, int] = TaskManager(abs, "thread", 2, log_dir=None)
    stream = manager.stream(iter([1, 2, 3]))
    stream.close()
    assert manager.summary is not None
    assert manager.summary.total == 0


def test_iterable_that_raises_midway_is_raised_after_what_was_taken(mode: Any) -> None:
    """Everything that was taken before is delivered first, then the very exception comes out."""
    error = LookupError("the source is dry")

    def tasks() -> Iterator[int]:
        yield from range(10)
        raise error

    manager = mode.manager(jitter)
    seen = []
    with pytest.raises(LookupError) as raised:
        for outcome in manager.stream(tasks()):
            seen.append(outcome)
    assert raised.value is error
    assert sorted(outcome.task for outcome in seen) == list(range(10))
    with pytest.raises(LookupError) as raised:
        manager.start(tasks())
    assert raised.value is error
    assert (manager.summary.total, manager.summary.succeeded, manager.summary.failed) == (10, 9, 1)


@pytest.mark.parametrize("where", ["__iter__", "__next__"])
def test_iterable_that_raises_at_once(where: str) -> None:
    """From iter() nothing has begun; from the first next() a run of no tasks has ended."""

    class Tasks:
        def __iter__(self) -> Tasks:
            if where == "__iter__":
                raise LookupError("at once")
            return self

        def __next__(self) -> int:
            raise LookupError("at once")

    manager: TaskManager[int, int] = TaskManager(abs, "thread", 2, log_dir=None)
    with pytest.raises(LookupError, match="at once"):
        manager.start(Tasks())
    assert manager.start([1]).succeeded == 1


def test_slow_iterable_hands_over_what_is_ready_before_each_pull(mode: Any) -> None:
    """While the source makes the consumer wait, no outcome that is ready is held back."""
    handed_over: list[int] = []
    at_pull: list[int] = []
    manager = mode.manager(abs)

    def tasks() -> Iterator[int]:
        for task in range(4):
            if task:
                wait_until(lambda: manager.counts.running == 0 or mode.name != "serial")
                time.sleep(0.1)
            at_pull.append(len(handed_over))
            yield task

    for outcome in manager.stream(tasks()):
        handed_over.append(outcome.task)
    assert sorted(handed_over) == [0, 1, 2, 3]
    # What finishes during a pull waits for it; everything before the last but one has been handed over by then. How
    # long a worker process takes to start, nobody can say.
    assert mode.name == "process" or all(count >= number - 1 for number, count in enumerate(at_pull))
    if mode.name == "serial":
        assert at_pull == [0, 1, 2, 3]


def test_hooks_hear_of_what_is_ready_before_each_pull_also_in_start() -> None:
    """The same for start, where hooks and dicts are the consumer."""
    told: list[int] = []

    class Plugin:
        @hookimpl
        def on_success(self, outcome: Any) -> None:
            told.append(outcome.task)

    seen: list[list[int]] = []

    def tasks() -> Iterator[int]:
        for task in range(3):
            seen.append(list(told))
            yield task

    TaskManager(abs, plugins=[Plugin()], log_dir=None).start(tasks())
    assert seen == [[], [0], [0, 1]]


@pytest.mark.parametrize(
    "tasks",
    [range(6), (n for n in range(6)), {n: n for n in range(6)}, set(range(6)), itertools.chain([0, 1, 2], [3, 4, 5])],
    ids=lambda tasks: type(tasks).__name__,
)
def test_any_iterable_is_tasks(tasks: Any) -> None:
    """Containers, generators, iterators, dicts by key."""
    manager: TaskManager[int, int] = TaskManager(abs, "thread", 2, log_dir=None)
    assert sorted(outcome.task for outcome in manager.stream(tasks)) == list(range(6))


def test_old_sequence_protocol_is_iterable() -> None:
    """An object with __getitem__ alone."""

    class Old:
        def __getitem__(self, index: int) -> int:
            if index >= 3:
                raise IndexError
            return index

    manager: TaskManager[Any, Any] = TaskManager(abs, log_dir=None)
    assert manager.start(Old()).succeeded == 3  # type: ignore[arg-type]  # iterable at run time alone


def test_no_tasks_is_a_run(mode: Any) -> None:
    """Of nothing."""
    manager = mode.manager(abs)
    assert list(manager.stream([])) == []
    assert (manager.summary.total, manager.summary.stopped) == (0, None)


# ---------------------------------------------------------------------------------------------- in an event loop


def test_start_async_runs_in_every_mode(mode: Any) -> None:
    """In the caller's loop, which goes on turning meanwhile."""
    turns = 0

    async def main() -> Any:
        nonlocal turns

        async def turn() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        turning = asyncio.create_task(turn())
        summary = await mode.manager(jitter).start_async(range(60))
        turning.cancel()
        return summary

    summary = asyncio.run(main())
    assert (summary.total, summary.succeeded, summary.failed) == (60, 54, 6)
    assert turns > 1


def test_stream_async_in_every_mode(mode: Any) -> None:
    """Plain, ordered, and left early; nothing is left behind."""

    async def main() -> None:
        manager = mode.manager(jitter)
        seen = [outcome.task async for outcome in manager.stream_async(range(30))]
        assert sorted(seen) == list(range(30))
        async with manager.stream_async(range(30), ordered=True) as outcomes:
            assert [outcome.task async for outcome in outcomes] == list(range(30))
        async with manager.stream_async(itertools.count()) as outcomes:
            async for _outcome in outcomes:
                break
        assert manager.summary.stopped == "The stream was closed."
        assert (await manager.start_async([1])).succeeded == 1

    asyncio.run(main())


def test_async_generator_is_pulled_lazily(mode: Any) -> None:
    """start_async and stream_async take an async iterable in every mode, and pull no more than there is room for."""
    pulled = 0

    async def tasks() -> AsyncIterator[int]:
        nonlocal pulled
        try:
            for task in itertools.count():
                pulled += 1
                yield task
                await asyncio.sleep(0)
        finally:
            pulled = -pulled

    async def main() -> None:
        manager = mode.manager(abs, max_in_flight=8)
        seen = 0
        source = tasks()
        async with manager.stream_async(source) as outcomes:
            async for _outcome in outcomes:
                seen += 1
                assert pulled <= seen + 9  # one more may be on its way
                if seen == 50:
                    break
        await source.aclose()
        assert pulled < 0

    asyncio.run(main())


def test_async_iterable_that_raises_is_raised_after_what_was_taken(mode: Any) -> None:
    """As with a plain one."""

    async def tasks() -> AsyncIterator[int]:
        for task in range(5):
            yield task
        raise LookupError("dry")

    async def main() -> list[int]:
        seen = []
        with pytest.raises(LookupError, match="dry"):
            async for outcome in mode.manager(abs).stream_async(tasks()):
                seen.append(outcome.task)
        return seen

    assert sorted(asyncio.run(main())) == list(range(5))


@pytest.mark.parametrize("mode", ["serial", "thread", "async", "process"], indirect=True)
def test_async_stream_that_is_dropped_stops_its_workers_and_warns(mode: Any) -> None:
    """A break out of a plain async for."""

    async def main() -> None:
        manager = mode.manager(jitter)
        async for _outcome in manager.stream_async(itertools.count()):
            break
        del _outcome
        gc.collect()
        await asyncio.sleep(0.05)

    before = Resources()
    with pytest.warns(ResourceWarning, match="A stream was dropped before its end"):
        asyncio.run(main())
        gc.collect()
    before.expect_no_leaks()


def test_cancelling_start_async_ends_the_run(mode: Any) -> None:
    """The CancelledError comes out after what ran has had its grace; the account is there."""

    async def main() -> Any:
        manager = mode.manager(jitter, grace=2.0)
        running = asyncio.create_task(manager.start_async(itertools.count()))
        while manager.counts.settled < 5:
            await asyncio.sleep(0.001)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        return manager.summary

    summary = asyncio.run(main())
    assert summary.total == summary.succeeded + summary.failed + summary.cancelled
    assert summary.total >= 5


def test_start_inside_a_running_loop_works(mode: Any) -> None:
    """As in a notebook: the caller's thread has a loop that is running, and start blocks it."""
    threads = set()

    class Sub(TaskManager[Any, Any]):
        def process_result(self, task: Any, result: Any) -> Any:
            threads.add(threading.get_ident())
            return result

    async def main() -> Any:
        manager = mode.manager(jitter, Sub)
        summary = manager.start(range(30))
        assert sorted(outcome.task for outcome in manager.stream(range(30))) == list(range(30))
        return summary

    summary = asyncio.run(main())
    assert (summary.total, summary.failed) == (30, 3)
    assert threads == {threading.get_ident()}


def test_total_is_taken_for_iterables_without_a_length(own_folder: Path) -> None:
    """start and stream take a total, for the bar; it changes nothing else."""
    manager: TaskManager[int, int] = TaskManager(abs, show_progress=True, log_dir=None)
    assert manager.start(iter([1, 2, 3]), total=3).total == 3
    assert len(list(manager.stream(iter([1, 2, 3]), total=1))) == 3
