"""Which errors are tried again, how often, after how long; the same in every mode."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from celestialflow_core import Backoff, TaskAbandoned, TaskManager, TaskTimeout, WorkerCrashed, hookimpl

AT_ONCE = Backoff(initial=0)


class Mine(Exception):
    """An error that nobody retries by default."""


def failing(folder: Path, times: int, error: type[BaseException] = TimeoutError) -> Callable[[int], int]:
    """A function that fails *times* for each task, then gives how often it was called for it."""

    def job(task: int) -> int:
        calls = folder / f"calls-{task}"
        with calls.open("a") as file:
            file.write("x")
        number = calls.stat().st_size
        if number <= times:
            raise error(f"try {number}")
        return number

    return job


def calls_of(folder: Path, task: int) -> int:
    """How often the function was called for *task*."""
    return (folder / f"calls-{task}").stat().st_size


@pytest.mark.parametrize("error", [TimeoutError, ConnectionError, ConnectionResetError])
def test_retryable_errors_are_tried_again(mode: Any, own_folder: Path, error: type[BaseException]) -> None:
    """A function that fails k times, then works: k + 1 attempts, and exactly k + 1 calls."""
    manager = mode.manager(failing(own_folder, 2, error), max_retries=3, backoff=AT_ONCE)
    outcomes = sorted(manager.stream(range(5)), key=lambda outcome: outcome.task)
    assert [(one.status, one.attempts, one.value) for one in outcomes] == [("success", 3, 3)] * 5
    assert [calls_of(own_folder, task) for task in range(5)] == [3] * 5
    assert manager.summary.retries == 10


def test_max_retries_counts_the_tries_after_the_first(mode: Any, own_folder: Path) -> None:
    """A function that always fails is called max_retries + 1 times, and its last error is the outcome's."""
    manager = mode.manager(failing(own_folder, 99), max_retries=2, backoff=AT_ONCE)
    (outcome,) = manager.stream([7])
    assert (outcome.status, outcome.attempts, str(outcome.error)) == ("error", 3, "try 3")
    assert calls_of(own_folder, 7) == 3


def test_other_errors_are_not_tried_again(mode: Any, own_folder: Path) -> None:
    """By default TimeoutError and ConnectionError are worth a retry, and nothing else."""
    manager = mode.manager(failing(own_folder, 9, ValueError), max_retries=5)
    (outcome,) = manager.stream([0])
    assert (outcome.status, outcome.attempts) == ("error", 1)
    assert calls_of(own_folder, 0) == 1


def class_attribute(folder: Path) -> TaskManager[Any, Any]:
    """retry_exceptions on the class."""

    class Sub(TaskManager[Any, Any]):
        retry_exceptions = (Mine,)

    return Sub(failing(folder, 1, Mine), log_dir=None, backoff=AT_ONCE)


def class_attribute_of_one(folder: Path) -> TaskManager[Any, Any]:
    """One class instead of a tuple."""

    class Sub(TaskManager[Any, Any]):
        retry_exceptions = Mine

    return Sub(failing(folder, 1, Mine), log_dir=None, backoff=AT_ONCE)


def after_super_init(folder: Path) -> TaskManager[Any, Any]:
    """Set in the constructor of a subclass, which takes other arguments."""

    class Sub(TaskManager[Any, Any]):
        def __init__(self, folder: Path) -> None:
            super().__init__(failing(folder, 1, Mine), log_dir=None, backoff=AT_ONCE)
            self.retry_exceptions = [Mine]

    return Sub(folder)


def before_super_init(folder: Path) -> TaskManager[Any, Any]:
    """Set before super().__init__, which leaves it alone."""

    class Sub(TaskManager[Any, Any]):
        def __init__(self, folder: Path) -> None:
            self.retry_exceptions = (Mine,)
            super().__init__(failing(folder, 1, Mine), log_dir=None, backoff=AT_ONCE)

    return Sub(folder)


def instance_attribute(folder: Path) -> TaskManager[Any, Any]:
    """Set on the instance after construction."""
    manager: TaskManager[Any, Any] = TaskManager(failing(folder, 1, Mine), log_dir=None, backoff=AT_ONCE)
    manager.retry_exceptions = (Mine,)
    return manager


def extended_attribute(folder: Path) -> TaskManager[Any, Any]:
    """The seed's way: the tuple on the instance, extended."""
    manager: TaskManager[Any, Any] = TaskManager(failing(folder, 1, Mine), log_dir=None, backoff=AT_ONCE)
    manager.retry_exceptions = (*manager.retry_exceptions, Mine)
    return manager


def constructor_argument(folder: Path) -> TaskManager[Any, Any]:
    """Given to the constructor."""
    return TaskManager(failing(folder, 1, Mine), log_dir=None, backoff=AT_ONCE, retry_exceptions={Mine})


def added(folder: Path) -> TaskManager[Any, Any]:
    """Added by the method."""
    manager: TaskManager[Any, Any] = TaskManager(failing(folder, 1, Mine), log_dir=None, backoff=AT_ONCE)
    manager.add_retry_exceptions(OSError, Mine)
    return manager


WAYS = [
    class_attribute,
    class_attribute_of_one,
    after_super_init,
    before_super_init,
    instance_attribute,
    extended_attribute,
    constructor_argument,
    added,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_retry_exceptions_can_be_set_in_every_way(own_folder: Path, way: Callable[[Path], Any]) -> None:
    """On the class, on the instance, around super().__init__, in the constructor, by the method."""
    manager = way(own_folder)
    (outcome,) = manager.stream([0])
    assert (outcome.status, outcome.attempts) == ("success", 2)


def test_add_retry_exceptions_keeps_what_there_is() -> None:
    """It extends, for this manager only."""
    manager: TaskManager[Any, Any] = TaskManager(len)
    manager.add_retry_exceptions(Mine)
    assert manager.retry_exceptions == (TimeoutError, ConnectionError, Mine)
    assert TaskManager.retry_exceptions == (TimeoutError, ConnectionError)
    with pytest.raises(TypeError, match="retry_exceptions must be exception classes, got 3"):
        manager.add_retry_exceptions(3)  # type: ignore[arg-type]  # the mistake


def test_bad_attribute_is_refused_by_start_before_a_task_is_taken() -> None:
    """What is set on the instance is checked when the run begins, and the manager stays usable."""
    manager: TaskManager[Any, Any] = TaskManager(str, log_dir=None)
    manager.retry_exceptions = (ValueError, "oops")
    tasks = iter([1])
    with pytest.raises(TypeError, match="retry_exceptions must be exception classes, got 'oops'"):
        manager.start(tasks)
    assert next(tasks) == 1
    manager.retry_exceptions = ()
    assert manager.start([1]).succeeded == 1


@pytest.mark.parametrize(
    ("raised", "listed", "attempts"),
    [
        (TaskTimeout("t", 1.0), (TimeoutError,), 2),
        (TaskAbandoned("t", 1.0), (TimeoutError,), 1),
        (TaskAbandoned("t", 1.0), (TaskTimeout,), 1),
        (TaskAbandoned("t", 1.0), (Exception,), 1),
        (TaskAbandoned("t", 1.0), (TaskAbandoned,), 2),
        (WorkerCrashed("t"), (Exception,), 1),
        (WorkerCrashed("t"), (WorkerCrashed,), 2),
    ],
)
def test_dangerous_errors_are_retried_only_where_they_are_listed_themselves(
    raised: Exception, listed: tuple[type[BaseException], ...], attempts: int
) -> None:
    """The first try may still run, or kill the next worker: a base class does not speak for them."""

    def job(task: int) -> None:
        raise raised

    manager: TaskManager[Any, Any] = TaskManager(job, log_dir=None, backoff=AT_ONCE, retry_exceptions=listed)
    (outcome,) = manager.stream([0])
    assert outcome.attempts == attempts
    assert outcome.error is raised


def test_error_of_process_result_is_not_retried(mode: Any, own_folder: Path) -> None:
    """The function has run; it is not run again for what was made of its result."""

    class Sub(TaskManager[Any, Any]):
        def process_result(self, task: int, result: int) -> int:
            raise TimeoutError("in process_result")

    manager = mode.manager(failing(own_folder, 0), Sub, max_retries=3, backoff=AT_ONCE)
    (outcome,) = manager.stream([4])
    assert (outcome.status, outcome.attempts, str(outcome.error)) == ("error", 1, "in process_result")
    assert calls_of(own_folder, 4) == 1


def test_get_args_is_called_once_an_attempt(own_folder: Path) -> None:
    """In the caller's thread, again before each retry."""
    asked: list[int] = []

    class Sub(TaskManager[Any, Any]):
        def get_args(self, task: int) -> tuple[int]:
            asked.append(task)
            return (task,)

    manager: TaskManager[Any, Any] = Sub(failing(own_folder, 2), "thread", 2, 5, log_dir=None, backoff=AT_ONCE)
    manager.start([3])
    assert asked == [3, 3, 3]


class Policy:
    """A plugin that decides about retries."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, str, int]] = []
        self.told: list[tuple[int, int, float]] = []

    @hookimpl
    def should_retry(self, task: int, error: BaseException, attempt: int) -> bool | None:
        """Yes for task 1, no for task 2, and no opinion on task 3."""
        self.asked.append((task, type(error).__name__, attempt))
        return {1: True, 2: False}.get(task)

    @hookimpl
    def retry_delay(self, task: int, attempt: int) -> float | None:
        """At once for task 1; the backoff for the others."""
        return 0 if task == 1 else None

    @hookimpl
    def on_retry(self, task: int, error: BaseException, attempt: int, delay: float) -> None:
        """Noted."""
        self.told.append((task, attempt, delay))


def test_plugin_decides_about_retries_within_max_retries() -> None:
    """True, False, or no opinion; the delay is its own, or the backoff's."""
    policy = Policy()

    def job(task: int) -> None:
        raise ValueError if task == 1 else TimeoutError

    manager: TaskManager[Any, Any] = TaskManager(
        job, max_retries=2, backoff=Backoff(initial=0.001, factor=1, jitter=0), plugins=[policy], log_dir=None
    )
    attempts = {outcome.task: outcome.attempts for outcome in manager.stream([1, 2, 3])}
    assert attempts == {1: 3, 2: 1, 3: 3}
    assert sorted(policy.told) == [(1, 1, 0.0), (1, 2, 0.0), (3, 1, 0.001), (3, 2, 0.001)]
    assert max(attempt for _, _, attempt in policy.asked) == 2


@pytest.mark.parametrize("answer", [-1, float("inf"), float("nan"), "soon", True])
def test_retry_delay_that_is_no_delay_is_the_tasks_error(answer: Any) -> None:
    """With the task's own error as its cause."""

    class Bad:
        @hookimpl
        def retry_delay(self) -> Any:
            return answer

    def job(task: int) -> None:
        raise TimeoutError("mine")

    manager: TaskManager[Any, Any] = TaskManager(job, plugins=[Bad()], log_dir=None)
    (outcome,) = manager.stream([0])
    assert "It must return seconds, at least 0, or None" in str(outcome.error)
    assert str(outcome.error.__cause__) == "mine"  # type: ignore[union-attr]  # of an error outcome, as just seen


@pytest.mark.parametrize("hook", ["should_retry", "retry_delay"])
def test_retry_hook_that_raises_is_the_tasks_error(hook: str) -> None:
    """The run goes on, and the task's own error is the cause."""

    def raising(task: int) -> None:
        raise LookupError(f"{hook} of task {task}")

    plugin = type("Plugin", (), {hook: staticmethod(hookimpl(raising))})()

    def job(task: int) -> int:
        if task == 1:
            raise TimeoutError("mine")
        return task

    manager: TaskManager[Any, Any] = TaskManager(job, plugins=[plugin], log_dir=None)
    outcomes = {outcome.task: outcome for outcome in manager.stream(range(3))}
    assert [outcomes[task].status for task in range(3)] == ["success", "error", "success"]
    assert isinstance(outcomes[1].error, LookupError)
    assert outcomes[1].error.args == (f"{hook} of task 1",)
    assert str(outcomes[1].error.__cause__) == "mine"  # type: ignore[union-attr]  # of an error outcome, as just seen


def test_backoff_holds_the_retry_back() -> None:
    """The retry comes no earlier than its delay, of which jitter takes away the half at most."""
    moments: list[float] = []

    def job(task: int) -> None:
        moments.append(monotonic())
        raise TimeoutError

    manager: TaskManager[Any, Any] = TaskManager(
        job, max_retries=2, backoff=Backoff(initial=0.04, factor=2, jitter=0.5), log_dir=None
    )
    manager.start([0])
    first, second, third = moments
    assert second - first >= 0.02
    assert third - second >= 0.04
