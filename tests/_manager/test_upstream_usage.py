"""How code that is written against this API uses it: each pattern that a replacement must carry."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celestialflow_core import TaskManager


def weigh(path: str, size: int) -> str:
    """A function of two arguments."""
    return f"{path}:{size}"


def test_positional_arguments_of_a_subclass() -> None:
    """``Sub(func, "process", 5, enable_success_cache=True)``."""

    class Sub(TaskManager[Any, Any]):
        pass

    manager = Sub(abs, "process", 5, enable_success_cache=True, log_dir=None)
    manager.start([-1, -2])
    assert manager.get_success_dict() == {-1: 1, -2: 2}


def test_all_positional_arguments() -> None:
    """func, execution_mode, worker_limit, max_retries, max_info, unpack_task_args."""
    manager: TaskManager[Any, Any] = TaskManager(
        weigh, "thread", 2, 0, 30, True, enable_success_cache=True, log_dir=None
    )
    manager.start([("a", 1)])
    assert manager.get_success_dict() == {("a", 1): "a:1"}


def test_subclass_with_a_constructor_of_its_own() -> None:
    """Other arguments, and super().__init__ with what it makes of them."""

    class Scaler(TaskManager[Any, Any]):
        def __init__(self, factor: int, **options: Any) -> None:
            super().__init__(self.scale, "thread", 2, enable_success_cache=True, log_dir=None, **options)
            self.factor = factor

        def scale(self, task: int) -> int:
            return task * self.factor

    manager = Scaler(3, progress_desc="Scaling")
    manager.start([1, 2])
    assert manager.get_success_dict() == {1: 3, 2: 6}


@pytest.mark.parametrize("mode", ["serial", "thread", "process"], indirect=True)
def test_attribute_set_after_construction_is_read_in_get_args(mode: Any) -> None:
    """``m.codec = c``; the override has its own name for the task."""

    class Encoder(TaskManager[Any, Any]):
        codec: str

        def get_args(self, rel_path: str) -> Any:  # type: ignore[override]  # any name will do
            return rel_path, self.codec

    manager = mode.manager(str.encode, Encoder, enable_success_cache=True)
    manager.codec = "utf-16-le"
    manager.start(["é"])
    assert manager.get_success_dict() == {"é": "é".encode("utf-16-le")}
    manager.codec = "latin-1"
    manager.start(["é"])
    assert manager.get_success_dict() == {"é": b"\xe9"}


def test_overrides_with_other_parameter_names() -> None:
    """They are called by position."""

    class Sub(TaskManager[Any, Any]):
        def get_args(self, obj: Any) -> Any:  # type: ignore[override]  # any name will do
            return (obj,)

        def process_result(self, item: Any, value: Any) -> Any:  # type: ignore[override]  # any name will do
            return item, value

    manager = Sub(abs, enable_success_cache=True, log_dir=None)
    manager.start([-5])
    assert manager.get_success_dict() == {-5: (-5, 5)}


def test_get_args_with_side_effects(own_folder: Path) -> None:
    """It makes the folder into which the function writes, in the caller's thread before the call."""

    class Writer(TaskManager[Any, Any]):
        def get_args(self, task: str) -> Any:
            target = own_folder / task
            target.parent.mkdir(parents=True)
            return target, task

    manager = Writer(Path.write_text, "thread", 2, enable_success_cache=True, log_dir=None)
    manager.start(["a/x.txt", "b/c/y.txt"])
    assert (own_folder / "b" / "c" / "y.txt").read_text() == "b/c/y.txt"


def test_get_args_that_returns_functions() -> None:
    """An argument may be anything."""

    class Sub(TaskManager[Any, Any]):
        def get_args(self, task: Any) -> Any:
            return (max, task)

    manager = Sub(lambda function, values: function(values), enable_success_cache=True, log_dir=None)
    manager.start([(1, 5, 2)])
    assert manager.get_success_dict() == {(1, 5, 2): 5}


@pytest.mark.parametrize("value", [[1, 2], 42, None], ids=repr)
def test_process_result_dict_returns_anything_and_is_called_by_hand(value: Any) -> None:
    """A list, a number; explicitly, after start."""

    class Sub(TaskManager[Any, Any]):
        def process_result_dict(self) -> Any:
            return value

    manager = Sub(abs, enable_success_cache=True, log_dir=None)
    summary = manager.start([1])
    assert manager.process_result_dict() == value == summary.processed


def test_process_result_dict_that_is_a_generator() -> None:
    """Each call gives a new one."""

    class Sub(TaskManager[Any, Any]):
        def process_result_dict(self) -> Iterator[Any]:
            for task, result in self.success_dict.items():
                yield task + result

    manager = Sub(abs, enable_success_cache=True, log_dir=None)
    manager.start([1, 2])
    assert list(manager.process_result_dict()) == [2, 4]
    assert list(manager.process_result_dict()) == [2, 4]


def test_process_result_dict_with_arguments_of_its_own() -> None:
    """With defaults, since at the end of the run nobody gives them."""

    class Sub(TaskManager[Any, Any]):
        def process_result_dict(self, key: Any = None) -> Any:
            return sorted(self.success_dict.values(), key=key)

    manager = Sub(abs, enable_success_cache=True, log_dir=None)
    summary = manager.start([1, -3, 2])
    assert summary.processed == [1, 2, 3]
    assert manager.process_result_dict(lambda value: -value) == [3, 2, 1]


@pytest.mark.parametrize(
    "tasks",
    [
        lambda: range(6),
        lambda: itertools.product("ab", range(3)),
        lambda: (n for n in range(6)),
        lambda: "abcdef".__iter__(),
    ],
    ids=["range", "product", "generator", "iterator"],
)
def test_tasks_from_any_iterable(tasks: Any) -> None:
    """The keys of the dict are the tasks."""
    manager: TaskManager[Any, Any] = TaskManager(repr, "thread", 2, enable_success_cache=True, log_dir=None)
    manager.start(tasks())
    assert manager.get_success_dict() == {task: repr(task) for task in tasks()}


def test_keys_are_unpacked_in_a_loop() -> None:
    """``for (path, size), h in d.items()``."""
    manager: TaskManager[Any, Any] = TaskManager(weigh, unpack_task_args=True, enable_success_cache=True, log_dir=None)
    manager.start([("a", 1), ("b", 2)])
    assert [(path, size, value) for (path, size), value in manager.get_success_dict().items()] == [
        ("a", 1, "a:1"),
        ("b", 2, "b:2"),
    ]


def test_two_managers_chained_by_hand() -> None:
    """The second runs over what the first makes of its results."""

    class First(TaskManager[Any, Any]):
        def process_result_dict(self) -> Any:
            return [value + 1 for value in self.success_dict.values()]

    first = First(abs, "thread", 2, enable_success_cache=True, log_dir=None)
    first.start([-1, -2])
    second: TaskManager[int, int] = TaskManager(lambda x: x * 10, enable_success_cache=True, log_dir=None)
    second.start(first.process_result_dict())
    assert sorted(second.get_success_dict().values()) == [20, 30]


def test_manager_without_caches_still_gives_its_account() -> None:
    """The documented note: the dicts are empty where a cache is off."""
    manager: TaskManager[int, int] = TaskManager(abs, log_dir=None)
    summary = manager.start([1, 2])
    assert manager.get_success_dict() == manager.get_error_dict() == {}
    assert summary.succeeded == 2


@pytest.mark.parametrize("mode", ["thread", "process"], indirect=True)
def test_bound_method_of_an_object_is_the_function(mode: Any) -> None:
    """Also one of the manager itself, which goes to other processes without its run."""

    class Sub(TaskManager[Any, Any]):
        def __init__(self, execution_mode: Any) -> None:
            self.offset = 7
            super().__init__(self.work, execution_mode, 2, enable_success_cache=True, log_dir=None)

        def work(self, task: int) -> int:
            return task + self.offset

    manager = Sub(mode.execution_mode)
    manager.start([1, 2])
    assert manager.get_success_dict() == {1: 8, 2: 9}
