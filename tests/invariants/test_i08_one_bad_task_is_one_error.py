"""I8: what cannot be pickled, a killed worker, a hung task: each is the error of that one task, with what to do."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest

from celestialflow_core import NotPicklable, TaskManager, TaskTimeout, WorkerCrashed


class NoReturn:
    """Pickles, and cannot be unpickled."""

    def __reduce__(self) -> Any:
        return _refuse_to_load, ()


def _refuse_to_load() -> None:
    raise ValueError("cannot be loaded")


class TwoArguments(Exception):
    """An exception that pickles and cannot be rebuilt."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what}: {why}")


class WithLock(Exception):
    """An exception that cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("holds a lock")
        self.lock = threading.Lock()


def treacherous(task: Any) -> Any:
    """Does what its task says."""
    if task == "result is a lock":
        return threading.Lock()
    if task == "error has two arguments":
        raise TwoArguments("row 7", "no colon")
    if task == "error holds a lock":
        raise WithLock
    if task == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "exits":
        os._exit(3)
    if task == "hangs":
        time.sleep(60)
    return task


def test_everything_at_once_costs_each_its_own_task() -> None:
    """One run with all of it: every good task has its value, and each bad one an error that says what happened."""
    lock = threading.Lock()
    bad: list[Any] = [
        "result is a lock",
        "error has two arguments",
        "error holds a lock",
        "killed",
        "exits",
        "hangs",
        lock,
    ]
    tasks = [
        item for number in range(len(bad) * 10) for item in ([number] if number % 10 else [number, bad[number // 10]])
    ]
    manager: TaskManager[Any, Any] = TaskManager(
        treacherous, "process", 2, max_retries=0, task_timeout=1.5, log_dir=None
    )
    outcomes = {
        id(outcome.task) if outcome.task is lock else outcome.task: outcome for outcome in manager.stream(tasks)
    }
    assert len(outcomes) == len(tasks)
    assert [task for task in range(len(bad) * 10) if outcomes[task].value != task] == []

    errors = {task: outcomes[task].error for task in bad[:-1]}
    assert isinstance(errors["result is a lock"], NotPicklable)
    assert "lock" in str(errors["result is a lock"])
    assert "TwoArguments" in str(errors["error has two arguments"])
    assert "row 7: no colon" in str(errors["error has two arguments"])
    assert "WithLock" in str(errors["error holds a lock"])
    assert "treacherous" in (outcomes["error holds a lock"].traceback or "")
    assert isinstance(errors["killed"], WorkerCrashed)
    assert "SIGKILL" in str(errors["killed"])
    assert "'killed'" in str(errors["killed"])
    assert isinstance(errors["exits"], WorkerCrashed)
    assert "code 3" in str(errors["exits"])
    assert type(errors["hangs"]) is TaskTimeout
    argument = outcomes[id(lock)].error
    assert isinstance(argument, NotPicklable)
    assert "argument" in str(argument).lower()
    assert manager.summary is not None
    assert (manager.summary.failed, manager.summary.crashes) == (len(bad), 2)


@pytest.mark.parametrize("mode", ["serial", "thread", "async", "futures"], indirect=True)
def test_nothing_needs_to_be_picklable_where_nothing_is_pickled(mode: Any) -> None:
    """In this process locks are arguments and results, and errors come as the objects that were raised."""
    lock, error = threading.Lock(), WithLock()

    def job(task: Any) -> Any:
        if task is error:
            raise error
        return task

    outcomes = {id(outcome.task): outcome for outcome in mode.manager(job).stream([lock, error, 1])}
    assert outcomes[id(lock)].value is lock
    assert outcomes[id(error)].error is error


def test_unpicklable_function_is_refused_before_the_iterable_is_touched() -> None:
    """With the name of the function and what to do."""
    lock = threading.Lock()

    def job(task: int) -> bool:
        return lock.locked()

    tasks = iter([1])
    with pytest.raises(NotPicklable, match=r"The function .*job cannot be pickled: .*worker_setup"):
        TaskManager(job, "process", 1, log_dir=None).start(tasks)
    assert next(tasks) == 1


def kill_on_seven(task: int) -> int:
    """Task 7 kills its worker, slowly enough that its neighbours have been delivered."""
    if task == 7:
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def test_foreign_pool_from_a_factory_is_rebuilt_when_it_breaks() -> None:
    """Its suspects run again one by one, and exactly the culprit is charged."""
    import multiprocessing

    context = multiprocessing.get_context("spawn")

    def fresh_pool() -> ProcessPoolExecutor:
        return ProcessPoolExecutor(2, mp_context=context)

    manager: TaskManager[int, int] = TaskManager(
        kill_on_seven, fresh_pool, 2, max_retries=0, enable_success_cache=True, enable_error_cache=True, log_dir=None
    )
    manager.start(range(12))
    assert sorted(manager.success_dict) == [task for task in range(12) if task != 7]
    assert isinstance(manager.error_dict[7], WorkerCrashed)
