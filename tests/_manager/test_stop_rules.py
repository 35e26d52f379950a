"""Rules that end a run early: what is raised, what is settled, what is still pulled."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celestialflow_core import Backoff, Stop, TaskManager, TooManyErrors
from celestialflow_core.testing import wait_until


def fails(task: int) -> int:
    """Every third task fails, and all from 1000 on."""
    if task % 3 == 0 or task >= 1000:
        raise ValueError(f"task {task}")
    return task


def add_up(summary: Any) -> bool:
    """The counts are an account of all that was taken."""
    return bool(summary.total == summary.succeeded + summary.failed + summary.duplicates + summary.cancelled)


RULES = [
    (Stop(errors=4), range(10_000), 4, "tasks failed (stop at errors=4)"),
    (4, range(10_000), 4, "tasks failed (stop at errors=4)"),
    (Stop(fraction=0.3, minimum=30), range(10_000), 10, "tasks failed (stop above fraction=0.3)"),
    (Stop(consecutive=5), [*range(50), *range(1000, 2000)], 5, "tasks failed in a row (stop at consecutive=5)"),
    (Stop(errors=4, when="now"), range(10_000), 4, "tasks failed (stop at errors=4)"),
]


@pytest.mark.parametrize(("rule", "tasks", "least", "words"), RULES, ids=lambda value: str(value)[:40])
def test_error_rule_ends_the_run_with_the_summary(mode: Any, rule: Any, tasks: Any, least: int, words: str) -> None:
    """TooManyErrors carries the rule in words and the summary; the iterable is not pulled any further."""
    pulled = 0

    def source() -> Iterator[int]:
        nonlocal pulled
        for task in tasks:
            pulled += 1
            yield task

    manager = mode.manager(fails, stop=rule, enable_error_cache=True, max_in_flight=64)
    with pytest.raises(TooManyErrors) as raised:
        manager.start(source())
    summary = raised.value.summary
    assert summary is manager.summary
    assert words in raised.value.rule
    assert words in str(raised.value)
    assert summary.stopped == raised.value.rule
    assert summary.failed >= least
    assert len(manager.error_dict) == summary.failed
    assert summary.total == pulled < len(tasks)
    assert add_up(summary)


def test_successes_rule_is_no_error(mode: Any) -> None:
    """Enough is enough: the run ends, says why, and raises nothing."""
    manager = mode.manager(fails, stop=Stop(successes=5), max_in_flight=64)
    summary = manager.start(range(10_000))
    assert summary.succeeded >= 5
    assert summary.stopped.endswith("tasks succeeded (stop at successes=5)")
    assert summary.total < 10_000
    assert add_up(summary)


def test_rule_that_is_never_met_changes_nothing(mode: Any) -> None:
    """The run goes to its end."""
    summary = mode.manager(fails, stop=Stop(errors=100, consecutive=5, fraction=0.9)).start(range(60))
    assert (summary.total, summary.failed, summary.stopped) == (60, 20, None)


def test_stream_gives_the_outcomes_that_are_left_before_it_raises(mode: Any) -> None:
    """Every task that was taken has its outcome, the cancelled ones too, and then comes the error."""
    manager = mode.manager(fails, stop=3, max_in_flight=64)
    seen = []
    with pytest.raises(TooManyErrors):
        for outcome in manager.stream(range(10_000)):
            seen.append(outcome)
    assert len({outcome.id for outcome in seen}) == len(seen) == manager.summary.total
    assert sum(outcome.status == "error" for outcome in seen) == manager.summary.failed


def test_fraction_counts_only_once_enough_have_run() -> None:
    """With minimum=30, 29 failures in a row are no reason; a duplicate and a cancelled task have not run."""
    rule = Stop(fraction=0.5, minimum=30)
    assert rule.broken_by(0, 29, 29) is None
    assert rule.broken_by(0, 30, 30) is not None
    assert rule.broken_by(15, 15, 1) is None
    assert rule.broken_by(15, 16, 1) is not None


@pytest.mark.parametrize("when", ["soon", "now"])
def test_when_decides_about_what_runs(own_folder: Path, when: Any) -> None:
    """With "soon" the running call finishes and counts; with "now" it is not waited for."""
    started, release = own_folder / "started", own_folder / "release"

    def job(task: str) -> str:
        if task == "slow":
            started.touch()
            wait_until(release.exists)
            return "finished"
        wait_until(started.exists)
        raise ValueError

    manager: TaskManager[str, str] = TaskManager(
        job, "thread", 2, stop=Stop(errors=1, when=when), enable_success_cache=True, log_dir=None
    )
    if when == "soon":
        timer = threading.Timer(0.2, release.touch)
        timer.start()
        with pytest.raises(TooManyErrors):
            manager.start(["slow", "bad"])
        timer.join()
        assert manager.success_dict == {"slow": "finished"}
        return
    begin = time.monotonic()
    with pytest.raises(TooManyErrors):
        manager.start(["slow", "bad"])
    assert time.monotonic() - begin < 10
    summary = manager.summary
    assert summary is not None
    assert (summary.cancelled, summary.succeeded, summary.abandoned) == (1, 0, 1)
    release.touch()


def test_retries_do_not_go_on_after_the_end_is_decided() -> None:
    """A retry that waits when the rule is broken is cancelled, with the attempt it had."""

    def job(task: int) -> None:
        raise TimeoutError if task == 0 else ValueError

    manager: TaskManager[int, None] = TaskManager(job, stop=1, backoff=Backoff(initial=30, jitter=0), log_dir=None)
    seen = []
    with pytest.raises(TooManyErrors):
        for outcome in manager.stream([0, 1]):
            seen.append((outcome.task, outcome.status, outcome.attempts))
    assert sorted(seen) == [(0, "cancelled", 1), (1, "error", 1)]


class Poison:
    """A task whose hash raises."""

    def __hash__(self) -> int:
        raise ValueError("no hash")


def no_arguments(self: Any, task: Any) -> Any:
    """A get_args that has none."""
    raise ValueError("no arguments")


@pytest.mark.parametrize("how", ["get_args", "key", "process_result"])
def test_failures_outside_of_the_function_count(mode: Any, how: str) -> None:
    """A rule counts failed tasks, wherever they failed: in get_args, by their key, in process_result."""
    kind: type[Any] = TaskManager
    tasks: list[Any] = list(range(500))
    if how == "get_args":
        kind = type("NoArguments", (TaskManager,), {"get_args": no_arguments})
    elif how == "key":
        tasks = [Poison() for _ in range(500)]
    else:
        kind = type("NoResult", (TaskManager,), {"process_result": lambda self, task, result: no_arguments(self, task)})
    manager = mode.manager(abs, kind, stop=3, max_in_flight=10)
    with pytest.raises(TooManyErrors):
        manager.start(iter(tasks))
    assert 3 <= manager.summary.failed <= 20
