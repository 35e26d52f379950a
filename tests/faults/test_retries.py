"""Functions that fail and then work, hooks that raise, set-ups that fail, in every mode (faults.md, 43, 44 and 46)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from celestialflow_core import Backoff, TaskManager, WorkerSetupError, hookimpl

ALL = pytest.mark.parametrize("mode", ["serial", "thread", "async", "process"], indirect=True)
AT_ONCE = Backoff(initial=0)


def flaky(folder: Path) -> Callable[[int], int]:
    """A function that fails for each task as often as the task says, and notes every call."""

    def job(task: int) -> int:
        with (folder / f"calls-{task}").open("a") as file:
            file.write("x")
        if (folder / f"calls-{task}").stat().st_size <= task:
            raise TimeoutError(task)
        return task

    return job


@ALL
def test_function_that_fails_k_times_is_called_k_plus_one_times(
    mode: Any, own_folder: Path, account: Callable[..., None]
) -> None:
    """43: attempts == k + 1; and max_retries + 1 where it never works."""
    manager = mode.manager(
        flaky(own_folder), max_retries=3, backoff=AT_ONCE, enable_success_cache=True, enable_error_cache=True
    )
    outcomes = {outcome.task: outcome for outcome in manager.stream(range(6))}
    assert {task: (outcome.status, outcome.attempts) for task, outcome in outcomes.items()} == {
        **{task: ("success", task + 1) for task in range(4)},
        **dict.fromkeys((4, 5), ("error", 4)),
    }
    assert [(own_folder / f"calls-{task}").stat().st_size for task in range(6)] == [1, 2, 3, 4, 4, 4]
    assert manager.summary.retries == 0 + 1 + 2 + 3 + 3 + 3
    account(manager, 6)


ASKED = ["get_args", "process_result", "task_key", "should_retry", "retry_delay"]
BAD = 2


def raising_plugin(hook: str) -> Any:
    """A plugin whose *hook* raises for one task."""

    def get_args(task: int) -> Any:
        if task == BAD:
            raise LookupError(hook)
        return (task,)

    def opinion(task: int) -> Any:
        if task == BAD:
            raise LookupError(hook)

    def process_result(task: int, result: int) -> int:
        if task == BAD:
            raise LookupError(hook)
        return result

    function = {"get_args": get_args, "process_result": process_result}.get(hook, opinion)
    return type("Plugin", (), {hook: staticmethod(hookimpl(function))})()


@ALL
@pytest.mark.parametrize("hook", ASKED)
def test_hook_that_is_asked_and_raises_is_the_tasks_own_error(
    mode: Any, account: Callable[..., None], hook: str
) -> None:
    """44: one error outcome with what it raised; the others are not touched."""

    def job(task: int) -> int:
        if task == BAD and retrying:
            raise TimeoutError("of the task")
        return task

    retrying = hook in ("should_retry", "retry_delay")
    manager = mode.manager(
        job, plugins=[raising_plugin(hook)], backoff=AT_ONCE, enable_success_cache=True, enable_error_cache=True
    )
    summary = manager.start(range(8))
    assert (summary.succeeded, summary.failed, summary.hook_errors) == (7, 1, 0)
    error = manager.error_dict[BAD]
    assert isinstance(error, LookupError)
    assert error.args == (hook,)
    if retrying:
        assert str(error.__cause__) == "of the task"
    account(manager, 8)


@ALL
@pytest.mark.parametrize("hook", ["on_start", "on_success", "on_error", "on_duplicate", "on_retry"])
def test_hook_that_is_told_and_raises_is_logged_once_a_kind(
    mode: Any, own_folder: Path, account: Callable[..., None], hook: str
) -> None:
    """44: counted each time, and the run goes on."""

    def raising() -> None:
        raise LookupError("broken hook")

    def job(task: int) -> int:
        if task == BAD:
            raise TimeoutError(task)
        return task

    plugin = type("Plugin", (), {hook: staticmethod(hookimpl(raising))})()
    manager = mode.manager(
        job,
        plugins=[plugin],
        backoff=AT_ONCE,
        log_dir="logs",
        log_level="INFO",
        enable_success_cache=True,
        enable_error_cache=True,
    )
    summary = manager.start([0, 1, BAD, 3, 4, 0, 1])
    assert (summary.succeeded, summary.failed, summary.duplicates) == (4, 1, 2)
    assert summary.hook_errors == {"on_success": 4, "on_duplicate": 2}.get(hook, 1)
    (log,) = (own_folder / "logs").iterdir()
    assert log.read_text().count("LookupError: broken hook") == 1
    account(manager, 7)


def raising_setup() -> None:
    """A set-up that never works."""
    raise ConnectionError("no database here")


@ALL
def test_setup_that_fails_ends_the_run_at_once(mode: Any, own_folder: Path, account: Callable[..., None]) -> None:
    """46: with its traceback, after a bounded number of starts, charged to no task; and the manager can run again."""
    starts = own_folder / "starts"
    pulled: list[int] = []

    def setup() -> None:
        with starts.open("a") as file:
            file.write("x")
        raising_setup()

    def tasks() -> Iterator[int]:
        for task in range(100_000):
            pulled.append(task)
            yield task

    manager: TaskManager[Any, Any] = mode.manager(
        abs, worker_setup=setup, enable_success_cache=True, enable_error_cache=True
    )
    with pytest.raises(WorkerSetupError) as raised:
        manager.start(tasks())
    assert "no database here" in str(raised.value)
    assert "raising_setup" in str(raised.value)
    assert starts.stat().st_size <= 4
    assert manager.error_dict == {}
    if manager.summary is not None:
        assert manager.summary.total == manager.summary.cancelled == len(pulled)
        account(manager, len(pulled))
