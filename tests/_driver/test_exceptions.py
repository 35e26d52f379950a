"""What a run does to the exceptions that it keeps: a note that names the task, and no locals kept alive."""

from __future__ import annotations

import gc
import os
import weakref
from typing import Any

import pytest

from celestialflow_core import Backoff, TaskManager, WorkerCrashed

AT_ONCE = Backoff(initial=0.0, jitter=0.0)


class Heavy:
    """Something that should not be kept alive by an error."""


class NoNotes(Exception):
    """Refuses attributes of any kind."""

    __slots__ = ()

    def add_note(self, note: str) -> None:
        raise AttributeError(note)


def test_error_has_one_note_with_task_and_attempt(mode: Any) -> None:
    """PEP 678: which task it was, and which attempt of how many; a traceback shows it."""

    def job(task: int) -> None:
        raise TimeoutError(task)

    manager = mode.manager(job, max_retries=2, backoff=AT_ONCE, enable_error_cache=True)
    manager.start([7])
    error = manager.get_error_dict()[7]
    assert error.__notes__ == ["In celestialflow: task 7, attempt 3 of 3."]


def test_task_that_looks_like_all_arguments_is_told_how_to_be_them(mode: Any) -> None:
    """A function of two arguments, tuples as tasks and no unpack_task_args: the note names the option."""

    def add(x: int, y: int) -> int:
        return x + y

    manager = mode.manager(add, enable_error_cache=True)
    manager.start([(1, 2), 3])
    hint = " The task was its one argument; with unpack_task_args=True its items are the arguments."
    errors = manager.get_error_dict()
    assert errors[1, 2].__notes__ == [f"In celestialflow: task (1, 2), attempt 1 of 2.{hint}"]
    assert errors[3].__notes__ == ["In celestialflow: task 3, attempt 1 of 2."]


@pytest.mark.parametrize("mode", ["serial", "thread", "async", "futures"], indirect=True)
def test_exception_that_many_tasks_raise_has_one_note(mode: Any) -> None:
    """An object that is raised again and again does not grow."""
    error = ValueError("the one and only")

    def job(task: int) -> None:
        raise error

    assert mode.manager(job).start(range(50)).failed == 50
    assert len(error.__notes__) == 1


def test_exception_that_refuses_notes_goes_without(mode: Any) -> None:
    """It is the task's error all the same."""

    def job(task: int) -> None:
        raise NoNotes(task)

    manager = mode.manager(job, enable_error_cache=True)
    assert manager.start([1]).failed == 1
    assert type(manager.get_error_dict()[1]).__name__ == "NoNotes"


@pytest.mark.parametrize("mode", ["serial", "thread", "async", "futures"], indirect=True)
def test_kept_errors_keep_no_locals_alive(mode: Any) -> None:
    """When the run has ended, what the failed function held is gone; the exception still says where it was raised."""
    made: list[weakref.ref[Heavy]] = []

    def job(task: int) -> None:
        heavy = Heavy()
        made.append(weakref.ref(heavy))
        try:
            raise KeyError(task)
        except KeyError as cause:
            raise ValueError(task) from cause

    manager = mode.manager(job, enable_error_cache=True)
    manager.start(range(5))
    gc.collect()
    assert [ref() for ref in made] == [None] * 5
    for error in manager.get_error_dict().values():
        assert error.__traceback__ is not None
        assert isinstance(error.__cause__, KeyError)


def test_crash_knows_its_attempt() -> None:
    """Where it is retried, the last one says which it was; a call that kills twice has no third."""
    manager: TaskManager[int, None] = TaskManager(
        lambda task: os._exit(3),
        "process",
        1,
        max_retries=5,
        backoff=AT_ONCE,
        retry_exceptions=WorkerCrashed,
        enable_error_cache=True,
        log_dir=None,
    )
    assert manager.start([7]).crashes == 2
    error = manager.get_error_dict()[7]
    assert isinstance(error, WorkerCrashed)
    assert (error.attempt, error.crashes, error.exitcode, error.signal_name) == ((2, 6), 2, 3, None)
    assert "attempt 2 of 6" in str(error)
    assert "ended 2 workers" in str(error)
