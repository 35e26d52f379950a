"""Dicts, pairs, duplicates: what is kept of a run, whatever the tasks are."""

from __future__ import annotations

import array
import math
import threading
from typing import Any

import attrs
import pytest

from celestialflow_core import RunInProgress, TaskManager, hookimpl
from celestialflow_core.errors import InvalidTransition
from celestialflow_core.testing import wait_until


def half(task: int) -> float:
    """Odd tasks fail."""
    if task % 2:
        raise ValueError(f"{task} is odd")
    return task / 2


def test_dicts_hold_every_result_and_every_error(mode: Any) -> None:
    """The keys are the tasks, the values are the results and the exceptions."""
    manager = mode.manager(half, enable_success_cache=True, enable_error_cache=True)
    summary = manager.start(range(100))
    assert manager.get_success_dict() == {task: task / 2 for task in range(0, 100, 2)}
    errors = manager.get_error_dict()
    assert {task: str(error) for task, error in errors.items()} == {t: f"{t} is odd" for t in range(1, 100, 2)}
    assert all(type(error) is ValueError for error in errors.values())
    assert sorted(manager.get_success_pairs()) == sorted(manager.success_dict.items())
    assert len(manager.get_error_pairs()) == 50
    assert (summary.total, summary.succeeded, summary.failed, summary.duplicates) == (100, 50, 50, 0)


@pytest.mark.parametrize(("successes", "errors"), [(True, False), (False, True), (False, False)])
def test_each_cache_can_be_on_alone(mode: Any, successes: bool, errors: bool) -> None:
    """A cache that is off stays empty, and costs nothing."""
    manager = mode.manager(half, enable_success_cache=successes, enable_error_cache=errors)
    manager.start(range(20))
    assert len(manager.success_dict) == len(manager.get_success_pairs()) == (10 if successes else 0)
    assert len(manager.error_dict) == len(manager.get_error_pairs()) == (10 if errors else 0)


def test_dicts_exist_from_construction_on_and_begin_anew_with_each_run() -> None:
    """Also the memory of tasks that were seen."""
    manager: TaskManager[int, float] = TaskManager(half, enable_success_cache=True, log_dir=None)
    assert manager.success_dict == {}
    assert manager.error_dict == {}
    assert manager.summary is None
    manager.start([0, 2])
    first = manager.success_dict
    summary = manager.start([2, 4])
    assert manager.success_dict == {2: 1.0, 4: 2.0}
    assert first == {0: 0.0, 2: 1.0}
    assert (summary.total, summary.duplicates) == (2, 0)


def test_copies_are_copies() -> None:
    """get_success_dict gives what may be changed."""
    manager: TaskManager[int, float] = TaskManager(half, enable_success_cache=True, log_dir=None)
    manager.start([2])
    manager.get_success_dict().clear()
    manager.get_success_pairs().clear()
    assert manager.success_dict == {2: 1.0}


def test_duplicates_run_once_and_name_the_first(mode: Any) -> None:
    """A duplicate has an outcome of its own, with the id of the first."""
    outcomes = sorted(mode.manager(half).stream([2, 4, 2, 2]), key=lambda outcome: outcome.id)
    assert [outcome.status for outcome in outcomes] == ["success", "success", "duplicate", "duplicate"]
    assert [outcome.original for outcome in outcomes] == [None, None, 0, 0]
    with pytest.raises(LookupError):
        outcomes[2].unwrap()


def test_equal_numbers_of_other_types_are_one_task_as_in_a_dict() -> None:
    """1, 1.0 and True: one success and two duplicates; 0.0 and -0.0 likewise."""
    manager: TaskManager[Any, Any] = TaskManager(lambda x: x, enable_success_cache=True, log_dir=None)
    summary = manager.start([1, 1.0, True, 0.0, -0.0])
    assert (summary.succeeded, summary.duplicates) == (2, 3)


def test_without_the_duplicate_check_equal_tasks_each_have_a_pair(mode: Any) -> None:
    """1, 1.0 and True give three pairs, each with its own type."""
    manager = mode.manager(lambda x: type(x).__name__, enable_duplicate_check=False, enable_success_cache=True)
    manager.start([1, 1.0, True])
    assert sorted(manager.get_success_pairs(), key=lambda pair: pair[1]) == [(True, "bool"), (1.0, "float"), (1, "int")]
    assert sorted(map(str, dict.fromkeys(str(task) for task, _ in manager.get_success_pairs()))) == ["1", "1.0", "True"]
    assert len(manager.success_dict) == 1


def test_many_tasks_of_which_few_are_distinct(own_folder: Any) -> None:
    """100,000 tasks with 10,000 distinct ones: the function runs exactly 10,000 times."""
    calls = []
    manager: TaskManager[int, None] = TaskManager(calls.append, "thread", log_dir=None)
    duplicates = sum(outcome.status == "duplicate" for outcome in manager.stream(n % 10_000 for n in range(100_000)))
    assert sorted(calls) == list(range(10_000))
    assert duplicates == 90_000
    assert manager.summary is not None
    assert (manager.summary.total, manager.summary.succeeded) == (100_000, 10_000)


@attrs.define
class Point:
    """An unhashable object that has a digest."""

    x: int


UNHASHABLE: list[tuple[Any, Any]] = [
    ({"a": 1, "b": [1, 2]}, {"b": [1, 2], "a": 1}),
    ([1, [2, 3]], [1, [2, 3]]),
    ({1, 2, 3}, {3, 2, 1}),
    (bytearray(b"ab"), bytearray(b"ab")),
    (([1], {"x": 2}), ([1], {"x": 2})),
    (Point(3), Point(3)),
]


@pytest.mark.parametrize(("task", "equal"), UNHASHABLE, ids=lambda value: type(value).__name__)
def test_unhashable_tasks_run_and_are_found_by_an_equal_one(mode: Any, task: Any, equal: Any) -> None:
    """The dict gives the task itself; an equal second one is a duplicate."""
    if not mode.in_this_process and isinstance(task, Point):
        pytest.importorskip("cloudpickle")
    manager = mode.manager(lambda x: str(type(x).__name__), enable_success_cache=True)
    summary = manager.start([task, equal, 7])
    assert (summary.succeeded, summary.duplicates, summary.failed) == (2, 1, 0)
    results = manager.get_success_dict()
    assert isinstance(results, dict)
    assert results[equal] == type(task).__name__
    assert results[7] == "int"
    assert any(key is task for key in results)
    assert {id(key) for key, _ in results.items() if key != 7} == {id(task)}
    assert len(results) == 2


def test_arrays_are_tasks() -> None:
    """An array of numpy, and one of the standard library, which has no digest and is known by itself."""
    numpy = pytest.importorskip("numpy")
    first, equal, other = numpy.arange(3), numpy.arange(3), numpy.arange(4)
    manager: TaskManager[Any, Any] = TaskManager(len, enable_success_cache=True, log_dir=None)
    summary = manager.start([first, equal, other])
    assert (summary.succeeded, summary.duplicates) == (2, 1)
    assert manager.success_dict[equal] == 3
    summary = manager.start([array.array("i", [1]), array.array("i", [1])])
    assert summary.total == 2
    assert summary.failed == 0


def test_numpy_numbers_are_found_by_numbers() -> None:
    """The keys of a run over np.arange are looked up with plain and with numpy's floats."""
    numpy = pytest.importorskip("numpy")
    manager: TaskManager[Any, Any] = TaskManager(lambda x: x * 2, enable_success_cache=True, log_dir=None)
    manager.start(numpy.arange(0, 1, 0.25))
    result = manager.get_success_dict()
    assert result[numpy.float64(0.5)] == result[0.5] == 1.0


class Evil:
    """A task whose hash, equality and repr all raise."""

    def __hash__(self) -> int:
        raise RuntimeError("no hash")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no eq")

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


@pytest.mark.parametrize("mode", ["serial", "thread", "async", "futures"], indirect=True)
def test_evil_task_is_its_own_error_that_names_the_hook(mode: Any, own_folder: Any) -> None:
    """The others run; the error says how to give a key. Log and error dict can take it."""
    evil = Evil()
    manager = mode.manager(str, enable_error_cache=True, log_dir="logs", show_progress=True)
    outcomes = sorted(manager.stream([1, evil, 2]), key=lambda outcome: outcome.id)
    assert [outcome.status for outcome in outcomes] == ["success", "error", "success"]
    assert outcomes[1].task is evil
    assert str(outcomes[1].error) == "no hash"
    assert "task_key" in "".join(outcomes[1].error.__notes__)
    assert "no hash" in repr(outcomes[1])
    assert [task is evil for task, _ in manager.get_error_pairs()] == [True]


def test_evil_task_runs_without_the_duplicate_check_or_with_a_key() -> None:
    """With the check off it just runs, and so it does where the task_key hook identifies it."""

    class Keys:
        @hookimpl
        def task_key(self, task: Any) -> Any:
            return id(task)

    evil = Evil()
    for options in ({"enable_duplicate_check": False}, {"plugins": [Keys()]}):
        manager: TaskManager[Any, Any] = TaskManager(
            lambda task: task is evil, enable_success_cache=True, log_dir=None, **options
        )
        summary = manager.start([evil, 1])
        assert (summary.succeeded, summary.failed) == (2, 0)
        assert sorted(value for _, value in manager.get_success_pairs()) == [False, True]


class Exiting:
    """A task whose hash raises what is no Exception."""

    def __hash__(self) -> int:
        raise SystemExit("from __hash__")


def test_hash_that_raises_system_exit_is_the_tasks_error() -> None:
    """Whatever __hash__ raises, nothing that was taken is lost."""
    manager: TaskManager[Any, Any] = TaskManager(str, log_dir=None)
    summary = manager.start([1, Exiting(), 2])
    assert (summary.total, summary.succeeded, summary.failed) == (3, 2, 1)


def test_task_key_hook_says_what_is_one_task() -> None:
    """Its key makes duplicates, and is the outcome's."""

    class Keys:
        @hookimpl
        def task_key(self, task: str) -> Any:
            if task == "bad":
                raise LookupError("no key")
            return task.lower()

    manager: TaskManager[str, str] = TaskManager(str, plugins=[Keys()], log_dir=None)
    outcomes = sorted(manager.stream(["A", "a", "bad", "B"]), key=lambda outcome: outcome.id)
    assert [outcome.status for outcome in outcomes] == ["success", "duplicate", "error", "success"]
    assert [outcome.key for outcome in outcomes[:2]] == ["a", "a"]
    assert outcomes[1].original == 0
    assert outcomes[2].attempts == 0


def test_nan_tasks_are_each_their_own() -> None:
    """Distinct NaN objects are distinct tasks, and none is lost; one object twice is a duplicate."""
    one, two = float("nan"), float("nan")
    manager: TaskManager[float, bool] = TaskManager(math.isnan, enable_success_cache=True, log_dir=None)
    summary = manager.start([one, two, one])
    assert (summary.succeeded, summary.duplicates) == (2, 1)
    assert len(manager.success_dict) == 2


def test_counts_are_live_from_another_thread() -> None:
    """While calls run, any thread may read where the tasks are, and the dicts."""
    gate, seen = threading.Event(), []

    def job(task: int) -> int:
        if task >= 2:
            gate.wait(30)
        return task

    manager: TaskManager[int, int] = TaskManager(job, "thread", 2, enable_success_cache=True, log_dir=None)

    def watch() -> None:
        try:
            wait_until(lambda: manager.counts.succeeded == 2 and manager.counts.running >= 2)
            seen.append((manager.counts, dict(manager.success_dict), repr(manager)))
        finally:
            gate.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    manager.start(range(10))
    watcher.join()
    ((counts, results, text),) = seen
    assert counts.settled == counts.succeeded == 2
    assert counts.taken == counts.settled + counts.pending + counts.running
    assert results == {0: 0, 1: 1}
    assert text == f"<TaskManager(job, thread x2) running: 2 of {counts.taken} settled, 0 failed>"
    assert manager.counts.succeeded == 10
    assert repr(manager) == "<TaskManager(job, thread x2) idle>"


def test_second_start_of_a_running_manager_is_refused() -> None:
    """From the same thread, from another, and while a stream is open; afterwards it can run again."""
    manager: TaskManager[int, int] = TaskManager(abs, log_dir=None)
    with manager.stream(range(5)) as outcomes:
        next(outcomes)
        with pytest.raises(RunInProgress, match="is already running. Wait for its end, close its stream, or use a sec"):
            manager.start([1])
        with pytest.raises(RunInProgress):
            manager.stream([1])
        assert len(list(outcomes)) == 4
    assert manager.start([1]).succeeded == 1


def test_start_from_inside_a_task_is_refused_and_is_that_tasks_error() -> None:
    """A manager that is running is busy also for its own tasks."""
    manager: TaskManager[Any, Any] = TaskManager(lambda task: manager.start([1]), enable_error_cache=True, log_dir=None)
    manager.start(["inner"])
    assert isinstance(manager.error_dict["inner"], RunInProgress)


def test_another_manager_can_be_used_inside_a_task(mode: Any) -> None:
    """A run inside a run, in every mode."""

    def outer(task: int) -> int:
        inner: TaskManager[int, int] = TaskManager(abs, "thread", 2, log_dir=None, log_level="ERROR")
        return inner.start(range(task)).succeeded

    manager = mode.manager(outer, enable_success_cache=True)
    manager.start([1, 2, 3])
    assert manager.success_dict == {1: 1, 2: 2, 3: 3}


def test_two_managers_at_once_from_two_threads_are_independent() -> None:
    """Each has its own account."""
    managers = [
        TaskManager(lambda x, n=n: x + n, "thread", 2, enable_success_cache=True, log_dir=None) for n in (0, 1000)
    ]
    threads = [threading.Thread(target=manager.start, args=(range(500),)) for manager in managers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [sum(manager.success_dict.values()) for manager in managers] == [124_750, 624_750]


def test_default_error_groups_are_by_type_and_text() -> None:
    """handle_error_dict groups the tasks under the first exception of each kind."""

    def job(task: int) -> None:
        raise ValueError("odd") if task % 2 else KeyError("even")

    manager: TaskManager[int, None] = TaskManager(job, enable_error_cache=True, log_dir=None)
    manager.start(range(6))
    groups = manager.handle_error_dict()
    assert sorted((type(error).__name__, tasks) for error, tasks in groups.items()) == [
        ("KeyError", [0, 2, 4]),
        ("ValueError", [1, 3, 5]),
    ]
    assert manager.process_result_dict() == manager.error_dict


def test_process_result_dict_joins_both_also_for_unhashable_tasks() -> None:
    """Results and errors by task, in one dict that finds lists."""

    def job(task: list[int]) -> int:
        return 1 // task[0]

    manager: TaskManager[Any, Any] = TaskManager(job, enable_success_cache=True, enable_error_cache=True, log_dir=None)
    manager.start([[1], [0]])
    both = manager.process_result_dict()
    assert both[[1]] == 1
    assert isinstance(both[[0]], ZeroDivisionError)


def test_summary_is_the_account() -> None:
    """Groups of errors with one example, the slowest tasks, and the first line as one sentence."""
    manager: TaskManager[int, float] = TaskManager(half, enable_error_cache=True, log_dir=None, name="halves")
    summary = manager.start([*range(20), 0])
    assert (summary.name, summary.mode, summary.total, summary.duplicates) == ("halves", "serial", 21, 1)
    (group,) = summary.errors
    assert (group.type, group.count, group.task, group.message) == ("ValueError", 10, 1, "1 is odd")
    assert group.place is not None
    assert __file__.rpartition("/")[2] in group.place
    assert len(summary.slowest) == 5
    assert str(summary).startswith("halves: 21 tasks in ")
    assert "10 ok, 10 failed, 1 duplicate." in str(summary)


def test_manager_survives_a_bug_in_an_executor() -> None:
    """Results for calls that were never made are dropped, and counted nowhere."""
    from celestialflow_core.executors import Result
    from celestialflow_core.testing import ScriptedExecutor

    class Babbling(ScriptedExecutor):
        def submit(self, calls: Any) -> None:
            assert self._deliver is not None
            self._deliver([Result(999), Result(998, error=InvalidTransition("no"))])
            super().submit(calls)

    manager: TaskManager[int, int] = TaskManager(abs, Babbling(), log_dir=None)
    summary = manager.start(range(5))
    assert (summary.total, summary.succeeded, summary.failed) == (5, 5, 0)
