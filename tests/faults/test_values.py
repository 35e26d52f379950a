"""What tasks raise, what they are, and what they look like, in every mode (faults.md, 1 to 5, 21 to 25).

That any BaseException is its task's own error, and who is a duplicate of whom, is asserted in `tests/_manager`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from celestialflow_core import TaskManager

ALL = pytest.mark.parametrize("mode", ["serial", "thread", "async", "process"], indirect=True)
BAD = 3


class Holding(Exception):
    """Cannot be pickled: it holds a lock."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.lock = threading.Lock()


class Demanding(Exception):
    """Pickles, and cannot be rebuilt: its constructor wants more than it passes on."""

    def __init__(self, code: int, *, where: str) -> None:
        super().__init__(f"code {code}, from {where}")


class Unspeakable(Exception):
    """Cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("not to be said")

    __repr__ = __str__


class Elusive(Exception):
    """Its __getattr__ raises what no caller of getattr expects."""

    def __getattr__(self, name: str) -> Any:
        raise KeyError(name)


class Unreachable(Exception):
    """Nothing can be read of it, not even its class."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(f"no {name}")


def long_message(task: int) -> None:
    """5 MB of words."""
    raise ValueError("x" * 5_000_000)


def holding(task: int) -> None:
    """What cannot leave a process."""
    raise Holding("held by a lock")


def demanding(task: int) -> None:
    """What cannot enter one."""
    raise Demanding(7, where="the deep")


def unspeakable(task: int) -> None:
    """What cannot be shown."""
    raise Unspeakable


def elusive(task: int) -> None:
    """What getattr with a default cannot be asked of."""
    raise Elusive("hidden")


def unreachable(task: int) -> None:
    """What isinstance cannot be asked of."""
    raise Unreachable("far away")


def deep_cause(task: int) -> None:
    """A chain of 3000 causes."""
    error = ValueError("the first")
    for number in range(3000):
        link = ValueError(f"link {number}")
        link.__cause__ = error
        error = link
    raise error


def cycle_of_causes(task: int) -> None:
    """Two errors, each the cause of the other."""
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    raise one


def own_cause(task: int) -> None:
    """An error that is its own context."""
    error = ValueError("selfish")
    error.__context__ = error
    raise error


def descend(levels: int) -> None:
    """A traceback of as many frames."""
    if not levels:
        raise ValueError("at the bottom")
    descend(levels - 1)


def deep_frames(task: int) -> None:
    """A traceback of nearly 1000 frames: what Python's limit on recursion leaves."""
    descend(900)


def endless_recursion(task: int) -> None:
    """All of the frames that there are."""
    endless_recursion(task)


def out_of_memory(task: int) -> None:
    """As the allocator says it."""
    raise MemoryError("no room")


SCENES: list[tuple[Callable[[int], None], str, str]] = [
    (long_message, "ValueError", "x" * 1000),
    (holding, "Holding", "held by a lock"),
    (demanding, "Demanding", "code 7, from the deep"),
    (unspeakable, "Unspeakable", ""),
    (elusive, "Elusive", "hidden"),
    (unreachable, "Unreachable", "far away"),
    (deep_cause, "ValueError", "link 2999"),
    (cycle_of_causes, "ValueError", "one"),
    (own_cause, "ValueError", "selfish"),
    (deep_frames, "ValueError", "at the bottom"),
    (endless_recursion, "RecursionError", "recursion"),
    (out_of_memory, "MemoryError", "no room"),
]


@ALL
@pytest.mark.parametrize(("scene", "kind", "words"), SCENES, ids=[scene.__name__ for scene, _, _ in SCENES])
def test_whatever_a_task_raises_is_shown_within_bounds(
    mode: Any, own_folder: Path, scene: Callable[[int], None], kind: str, words: str
) -> None:
    """1 to 4: one error with its type, text and place; log, summary and notes can take it, and the others succeed."""

    def job(task: int) -> int:
        if task == BAD:
            scene(task)
        return task

    manager = mode.manager(
        job,
        max_retries=0,
        max_info=200,
        enable_success_cache=True,
        enable_error_cache=True,
        log_dir="logs",
        log_level="INFO",
    )
    outcomes = {outcome.task: outcome for outcome in manager.stream(range(8))}
    outcome, summary = outcomes[BAD], manager.summary
    assert manager.success_dict == {task: task for task in range(8) if task != BAD}
    assert list(manager.error_dict) == [BAD]
    assert (summary.succeeded, summary.failed) == (7, 1)
    assert outcome.traceback is not None
    assert kind in outcome.traceback
    assert scene.__name__ in outcome.traceback or "descend" in outcome.traceback
    assert len(outcome.traceback.encode()) <= 32_768
    (group,) = summary.errors
    assert group.type.rpartition(".")[2] == kind
    assert len(str(summary)) < 20_000
    if scene is not unspeakable:
        assert words in str(outcome.error)
    if scene is long_message:
        assert str(outcome.error).count("x") >= 5_000_000
    (log,) = (own_folder / "logs").iterdir()
    lines = log.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if kind in line]
    assert max(map(len, lines)) < 1000


@ALL
def test_task_with_a_long_repr_costs_max_info_in_the_log(mode: Any, own_folder: Path) -> None:
    """25: a million characters, as a task and as a result; also a repr that raises."""
    tasks = ["y" * 1_000_000, ["z" * 1_000_000]]
    manager = mode.manager(lambda task: task, log_dir="logs", log_level="INFO", max_info=60, enable_success_cache=True)
    assert manager.start(tasks).succeeded == 2
    assert [task in manager.success_dict for task in tasks] == [True, True]
    (log,) = (own_folder / "logs").iterdir()
    assert log.stat().st_size < 2000


def test_no_repr_is_made_for_a_level_that_is_off() -> None:
    """25: where nothing is written, nobody asks."""

    class Task:
        def __repr__(self) -> str:
            raise AssertionError("somebody asked")

    manager: TaskManager[Any, Any] = TaskManager(lambda task: task, log_level="WARNING")
    assert manager.start([Task(), Task()]).succeeded == 2


@ALL
def test_nan_and_equal_numbers_keep_their_types(mode: Any) -> None:
    """23: distinct NaN are distinct; 0.0 and -0.0 are one task, and two where nobody looks for duplicates."""
    nans = [float("nan") for _ in range(5)]
    manager = mode.manager(str, enable_success_cache=True)
    assert manager.start(nans).succeeded == 5
    summary = manager.start([0.0, -0.0, 1, 1.0, True])
    assert (summary.succeeded, summary.duplicates) == (2, 3)
    manager = mode.manager(repr, enable_duplicate_check=False, enable_success_cache=True)
    assert manager.start([0.0, -0.0, 1, 1.0, True]).succeeded == 5
    assert sorted(value for _, value in manager.get_success_pairs()) == ["-0.0", "0.0", "1", "1.0", "True"]


@ALL
def test_many_equal_tasks_run_once_each(mode: Any) -> None:
    """24: of 100,000 tasks with 10,000 distinct ones as many run, and 90,000 are duplicates."""
    manager = mode.manager(lambda task: (task, task), enable_success_cache=True)
    summary = manager.start(number % 10_000 for number in range(100_000))
    assert (summary.total, summary.succeeded, summary.duplicates) == (100_000, 10_000, 90_000)
    assert manager.success_dict == {number: (number, number) for number in range(10_000)}


class Evil:
    """Nothing that identifies or shows it works."""

    def __hash__(self) -> int:
        raise RuntimeError("no hash")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no equality")

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


@ALL
@pytest.mark.parametrize("check", [True, False])
def test_task_without_identity_is_its_own_error_or_just_runs(mode: Any, check: bool) -> None:
    """21: with the duplicate check an error that names the hook; without it a task like any other, also shown."""
    evil = Evil()
    manager = mode.manager(
        lambda task: type(task).__name__, enable_duplicate_check=check, log_dir="logs", log_level="INFO"
    )
    outcomes = {outcome.id: outcome for outcome in manager.stream([1, evil, 2])}
    assert [outcomes[id].value for id in (0, 2)] == ["int", "int"]
    assert outcomes[1].task is evil
    if check:
        assert "task_key" in "".join(outcomes[1].error.__notes__)
    else:
        assert outcomes[1].value == "Evil"
    assert manager.summary.total == 3
