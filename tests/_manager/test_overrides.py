"""Subclasses as the seed document shows them, and the same by a plugin object without subclassing."""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import Any

import pytest

from celestialflow_core import HookError, TaskManager, hookimpl


def example_task(x: int, y: int) -> int:
    """The function of the seed document."""
    return x + y


class ExampleTaskManager(TaskManager[Any, Any]):
    """The class of the seed document, with the two corrections that the design names."""

    def get_args(self, task: Any) -> Any:
        """Checks the numbers."""
        num1, num2 = task
        if num1 < 0 or num2 < 0:
            raise ValueError("num must large than 0.")
        return num1, num2

    def process_result(self, task: Any, result: Any) -> Any:
        """Writes the sum out."""
        num1, num2 = task
        return f"{num1} + {num2} = {result}"

    def process_result_dict(self) -> Any:
        """The default of the seed."""
        return {**self.success_dict, **self.error_dict}

    def handle_error_dict(self) -> Any:
        """The default of the seed."""
        error_groups = defaultdict(list)
        for task, error in self.error_dict.items():
            error_groups[error].append(task)
        return dict(error_groups)


def test_seed_class_works_in_every_mode(mode: Any) -> None:
    """Its four overrides do what the document says, and the last two are called once, at the end."""
    manager = mode.manager(
        example_task,
        ExampleTaskManager,
        unpack_task_args=False,
        enable_success_cache=True,
        enable_error_cache=True,
        progress_desc="Example Processing",
        show_progress=True,
    )
    summary = manager.start([(1, 2), (3, 4), (-1, 2), (5, 6)])
    assert manager.get_success_dict() == {(1, 2): "1 + 2 = 3", (3, 4): "3 + 4 = 7", (5, 6): "5 + 6 = 11"}
    (error,) = manager.get_error_dict().values()
    assert type(error) is ValueError
    assert str(error) == "num must large than 0."
    assert summary.processed == {**manager.success_dict, (-1, 2): error} == manager.process_result_dict()
    assert summary.handled == {error: [(-1, 2)]} == manager.handle_error_dict()
    assert manager.summary is summary


def test_seed_quick_start_works(mode: Any) -> None:
    """The first example of the document, with its arguments."""
    manager = mode.manager(
        example_task,
        worker_limit=5,
        max_retries=3,
        max_info=50,
        unpack_task_args=True,
        enable_success_cache=True,
        enable_error_cache=False,
        enable_duplicate_check=True,
        progress_desc="Processing",
        show_progress=True,
    )
    tasks = [(1, 2), (3, 4), (5, 6), (7, 8)]
    manager.start(tasks)
    assert manager.get_success_dict() == {task: sum(task) for task in tasks}
    assert manager.get_error_dict() == {}


def test_last_overrides_are_called_once_at_the_end_only_where_they_are_overridden() -> None:
    """Their values are in the summary; without an override nothing is called."""
    calls: list[str] = []

    class Sub(TaskManager[Any, Any]):
        def process_result_dict(self) -> Any:
            calls.append("processed")
            assert self.counts.succeeded == 3
            return [1, 2]

        def handle_error_dict(self) -> Any:
            calls.append("handled")
            return (n for n in range(3))

    manager = Sub(abs, enable_success_cache=True, log_dir=None)
    summary = manager.start([-1, -2, -3])
    assert calls == ["processed", "handled"]
    assert summary.processed == [1, 2]
    assert list(summary.handled) == [0, 1, 2]
    assert manager.process_result_dict() == [1, 2]
    plain: TaskManager[int, int] = TaskManager(abs, log_dir=None)
    assert (plain.start([1]).processed, plain.start([1]).handled) == (None, None)


def test_plugin_object_does_what_a_subclass_does(mode: Any) -> None:
    """get_args and process_result without subclassing, in every mode."""

    class Plugin:
        def __init__(self) -> None:
            self.events: list[str] = []

        @hookimpl
        def get_args(self, task: Any) -> Any:
            if task == (0, 0):
                raise ValueError("nothing to add")
            return task

        @hookimpl
        def process_result(self, task: Any, result: Any) -> Any:
            return f"{task[0]} + {task[1]} = {result}"

        @hookimpl
        def on_success(self, outcome: Any) -> None:
            self.events.append(f"ok {outcome.value}")

        @hookimpl
        def on_error(self, outcome: Any) -> None:
            self.events.append(f"error {outcome.error}")

        @hookimpl
        def on_duplicate(self, outcome: Any) -> None:
            self.events.append(f"duplicate of {outcome.original}")

        @hookimpl
        def on_start(self, manager: Any) -> None:
            self.events.append(f"start {manager.name}")

        @hookimpl
        def on_finish(self, manager: Any, summary: Any) -> None:
            self.events.append(f"finish {summary.total}")

    plugin = Plugin()
    manager = mode.manager(example_task, plugins=[plugin], enable_success_cache=True, name="sums")
    manager.start([(1, 2), (0, 0), (1, 2)])
    assert manager.success_dict == {(1, 2): "1 + 2 = 3"}
    assert plugin.events[0] == "start sums"
    assert plugin.events[-1] == "finish 3"
    assert sorted(plugin.events[1:-1]) == ["duplicate of 0", "error nothing to add", "ok 1 + 2 = 3"]


def test_own_override_comes_before_the_plugins() -> None:
    """It wins for get_args, and stands first in the pipe of process_result, in which None is a value."""
    order: list[Any] = []

    class Sub(TaskManager[Any, Any]):
        def get_args(self, task: int) -> Any:
            return (task + 1,)

        def process_result(self, task: int, result: int) -> Any:
            order.append(("own", result))
            return

    class Plugin:
        @hookimpl
        def get_args(self, task: int) -> Any:
            return (task + 100,)

        @hookimpl
        def process_result(self, task: int, result: Any) -> Any:
            order.append(("plugin", result))
            return "last"

    manager = Sub(abs, plugins=[Plugin()], enable_success_cache=True, log_dir=None)
    manager.start([1])
    assert order == [("own", 2), ("plugin", None)]
    assert manager.success_dict == {1: "last"}


@pytest.mark.parametrize("answer", ["ab", b"ab", 3, None, object()], ids=repr)
def test_get_args_that_is_no_iterable_of_arguments_is_the_tasks_error(mode: Any, answer: Any) -> None:
    """A str is refused, since it would be taken letter by letter; the message says what to write."""

    class Sub(TaskManager[Any, Any]):
        def get_args(self, task: int) -> Any:
            return answer if task == 1 else (task,)

    manager = mode.manager(abs, Sub, enable_error_cache=True)
    summary = manager.start(range(4))
    assert (summary.succeeded, summary.failed) == (3, 1)
    error = manager.error_dict[1]
    assert isinstance(error, HookError)
    assert f"It must return an iterable of arguments, and has returned {answer!r}." in str(error)
    assert "(argument,)" in str(error)


@pytest.mark.parametrize("kind", [list, tuple, iter, lambda pair: (n for n in pair), dict.fromkeys])
def test_get_args_may_return_any_iterable(kind: Any) -> None:
    """A list, a generator, the keys of a dict."""

    class Sub(TaskManager[Any, Any]):
        def get_args(self, task: Any) -> Any:
            return kind(task)

    manager = Sub(example_task, enable_success_cache=True, log_dir=None)
    manager.start([(1, 2)])
    assert manager.success_dict == {(1, 2): 3}


def test_task_that_cannot_be_unpacked_is_its_own_error(mode: Any) -> None:
    """unpack_task_args with a number, a str, a dict (whose items are its keys), and with too few arguments."""
    manager = mode.manager(example_task, unpack_task_args=True, enable_error_cache=True, enable_success_cache=True)
    manager.start([(1, 2), 5, "ab", (1,), {"x": 1, "y": 2}])
    assert manager.success_dict == {(1, 2): 3}
    assert isinstance(manager.error_dict[5], HookError)
    assert "A task must be a tuple or another iterable of arguments" in str(manager.error_dict[5])
    assert isinstance(manager.error_dict["ab"], HookError)
    assert isinstance(manager.error_dict[(1,)], TypeError)
    assert str(manager.error_dict[{"x": 1, "y": 2}]) == (
        "unpack_task_args of the task {'x': 1, 'y': 2}: The items of a dict are its keys alone. Say what the arguments "
        "are: override get_args, or give a plugin that has it."
    )


def test_overrides_run_in_the_callers_thread(mode: Any) -> None:
    """All four, one at a time."""
    here = threading.get_ident()
    seen: set[int] = set()

    class Sub(TaskManager[Any, Any]):
        def get_args(self, task: Any) -> Any:
            seen.add(threading.get_ident())
            return (task,)

        def process_result(self, task: Any, result: Any) -> Any:
            seen.add(threading.get_ident())
            return result

        def process_result_dict(self) -> Any:
            seen.add(threading.get_ident())

        def handle_error_dict(self) -> Any:
            seen.add(threading.get_ident())

    mode.manager(abs, Sub).start(range(20))
    assert seen == {here}
