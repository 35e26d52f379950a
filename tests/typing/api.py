"""The types that a user of the API sees. This file is never run: mypy and basedpyright check it (see test_types).

An ignore comment here is a test: the checkers report one that is not needed, so the line must be an error.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, assert_type

from celestialflow_core import (
    Backoff,
    Counts,
    ErrorGroup,
    Outcome,
    RunSummary,
    Stop,
    TaskManager,
    TooManyErrors,
    current_worker,
    hookimpl,
)
from celestialflow_core.executors import (
    AsyncExecutor,
    Call,
    Executor,
    FuturesExecutor,
    Result,
    SerialExecutor,
    ThreadExecutor,
    Work,
)
from celestialflow_core.testing import ScriptedExecutor


def fetch(url: str) -> bytes:
    """A function of one argument."""
    return url.encode()


def weigh(path: str, size: int) -> float:
    """A function of two arguments."""
    return size / len(path)


async def fetch_soon(url: str) -> bytes:
    """A coroutine function of one argument."""
    return url.encode()


async def weigh_soon(path: str, size: int) -> float:
    """A coroutine function of two arguments."""
    return size / len(path)


class Fetcher:
    """An object with callables of every kind."""

    def __call__(self, url: str) -> bytes:
        """Called."""
        return url.encode()

    def fetch(self, url: str) -> bytes:
        """A method."""
        return url.encode()

    async def fetch_soon(self, url: str) -> bytes:
        """A coroutine method."""
        return url.encode()


def untyped(task: Any) -> Any:
    """Says nothing."""
    return task


# ---------------------------------------------------------------------------------------------- from the function

assert_type(TaskManager(fetch), TaskManager[str, bytes])
assert_type(TaskManager(fetch, "thread", 5, 3, 50, False), TaskManager[str, bytes])
assert_type(TaskManager(fetch, execution_mode="process", max_retries=2, name="mine"), TaskManager[str, bytes])
assert_type(TaskManager(Fetcher()), TaskManager[str, bytes])
assert_type(TaskManager(Fetcher().fetch, "thread"), TaskManager[str, bytes])

# A coroutine function gives what it returns, not a coroutine; also in the default mode.
assert_type(TaskManager(fetch_soon), TaskManager[str, bytes])
assert_type(TaskManager(fetch_soon, "async", 50), TaskManager[str, bytes])
assert_type(TaskManager(Fetcher().fetch_soon), TaskManager[str, bytes])

# unpack_task_args makes the arguments a tuple.
assert_type(TaskManager(weigh, unpack_task_args=True), TaskManager[tuple[str, int], float])
assert_type(TaskManager(weigh, "process", 2, unpack_task_args=True), TaskManager[tuple[str, int], float])
assert_type(TaskManager(weigh_soon, unpack_task_args=True), TaskManager[tuple[str, int], float])
assert_type(TaskManager(weigh_soon, "async", unpack_task_args=True), TaskManager[tuple[str, int], float])
assert_type(TaskManager(fetch, unpack_task_args=True), TaskManager[tuple[str], bytes])

# Where the function does not tell what a task is (get_args will), the result is known all the same.
assert_type(TaskManager(weigh), TaskManager[Any, float])
assert_type(TaskManager(weigh_soon), TaskManager[Any, float])
assert_type(TaskManager(weigh, "thread", 5, 3, 50, True), TaskManager[Any, float])
assert_type(TaskManager(untyped), TaskManager[Any, Any])

annotated: TaskManager[int, int] = TaskManager(abs, "thread", log_dir=None)


# ---------------------------------------------------------------------------------------------- subclasses


class Weigher(TaskManager[tuple[str, int], str]):
    """get_args makes the arguments, and process_result another type than the function's."""

    codec: str

    def get_args(self, task: tuple[str, int]) -> tuple[str, int]:
        """The two."""
        return task

    def process_result(self, task: tuple[str, int], result: float) -> str:
        """As text."""
        return f"{task[0]}: {result}"

    def process_result_dict(self) -> list[str]:
        """Only the texts."""
        return list(self.success_dict.values())


class Own(TaskManager[str, bytes]):
    """With a constructor of its own."""

    retry_exceptions: tuple[type[BaseException], ...] = (ValueError,)

    def __init__(self, depth: int) -> None:
        super().__init__(fetch, "thread", depth, enable_success_cache=True)
        self.retry_exceptions = (*self.retry_exceptions, OSError)


weigher = Weigher(weigh, "thread", enable_success_cache=True)
assert_type(weigher, Weigher)
assert_type(weigher.success_dict, dict[tuple[str, int], str])
assert_type(weigher.process_result_dict(), list[str])
assert_type(Own(3).get_success_pairs(), list[tuple[str, bytes]])


# ---------------------------------------------------------------------------------------------- what comes out

manager = TaskManager(fetch)
assert_type(manager.start(["a"]), RunSummary)
assert_type(manager.success_dict, dict[str, bytes])
assert_type(manager.error_dict, dict[str, BaseException])
assert_type(manager.get_success_dict(), dict[str, bytes])
assert_type(manager.get_error_dict(), dict[str, BaseException])
assert_type(manager.get_success_pairs(), list[tuple[str, bytes]])
assert_type(manager.get_error_pairs(), list[tuple[str, BaseException]])
assert_type(manager.counts, Counts)
assert_type(manager.counts.running, int)
assert_type(manager.summary, RunSummary | None)

for outcome in manager.stream(["a"]):
    assert_type(outcome, Outcome[str, bytes])
    assert_type(outcome.task, str)
    assert_type(outcome.value, bytes | None)
    assert_type(outcome.unwrap(), bytes)
    assert_type(outcome.error, BaseException | None)
    assert_type(outcome.ok, bool)
    assert_type(outcome.original, int | None)
    outcome.value = b""  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]

with manager.stream(["a"], total=1, ordered=True) as outcomes:
    assert_type(next(outcomes), Outcome[str, bytes])

with manager as warm:
    assert_type(warm, TaskManager[str, bytes])


async def urls() -> AsyncIterator[str]:
    """Tasks that come one by one."""
    yield "a"


async def main() -> None:
    """In an event loop."""
    assert_type(await manager.start_async(["a"]), RunSummary)
    assert_type(await manager.start_async(urls(), total=1), RunSummary)
    async for outcome in manager.stream_async(urls(), ordered=True):
        assert_type(outcome, Outcome[str, bytes])
    async with manager.stream_async(["a"]) as outcomes:
        async for outcome in outcomes:
            assert_type(outcome.unwrap(), bytes)
    async with manager as warm:
        assert_type(warm, TaskManager[str, bytes])


summary = manager.start(["a"])
assert_type(summary.total, int)
assert_type(summary.errors, tuple[ErrorGroup, ...])
assert_type(summary.stopped, str | None)


# ---------------------------------------------------------------------------------------------- what is refused

manager.start([1])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
TaskManager(fetch, max_retry=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
TaskManager(fetch, worker_limit="5")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
TaskManager(fetch, backoff=0.5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
TaskManager(3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
Stop(error=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


# ---------------------------------------------------------------------------------------------- options and values

TaskManager(
    fetch,
    "thread",
    50,
    enable_success_cache=True,
    enable_error_cache=True,
    enable_duplicate_check=False,
    progress_desc="Fetching",
    show_progress=True,
    name=None,
    retry_exceptions=[ValueError, OSError],
    backoff=Backoff(initial=0.5, maximum=60),
    task_timeout=3,
    stop=Stop(errors=100, when="now"),
    max_in_flight=100,
    worker_setup=dict,
    grace=1,
    plugins=["masked", object()],
    executor_options={"max_tasks_per_worker": 10},
    log_level="ERROR",
    log_dir=None,
)
TaskManager(fetch, stop=100, retry_exceptions=ValueError)
assert_type(current_worker().index, int)
assert_type(TooManyErrors("rule", summary).rule, str)


# ---------------------------------------------------------------------------------------------- for plugin authors


class Plugin:
    """Hooks keep their types under the marker."""

    @hookimpl
    def process_result(self, task: str, result: bytes) -> str:
        """Decoded."""
        return result.decode()


assert_type(Plugin().process_result("a", b"b"), str)

serial: Executor = SerialExecutor()
thread: Executor = ThreadExecutor(worker_limit=3)
scripted: Executor = ScriptedExecutor(order="last")
futures: type[Executor] = FuturesExecutor


class Mine:
    """What an executor of somebody else looks like."""

    slots = 3
    capabilities = frozenset({"setup"})

    def start(self, work: Work, deliver: Any) -> None:
        """Begin."""
        deliver([Result(0, value=1)])

    def submit(self, calls: Any) -> None:
        """Take calls."""
        call: Call
        for call in calls:
            assert_type(call.args, tuple[Any, ...])

    def stop(self, grace: float) -> None:
        """End."""


mine: Executor = Mine()
not_async: AsyncExecutor = Mine()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
TaskManager(fetch, Mine())
