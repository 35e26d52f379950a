"""`TaskManager`: one function, a pile of tasks, any executor, and an account of what became of each task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, TypeVarTuple, overload

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Coroutine, Iterable
    from types import TracebackType
    from typing import Self, Unpack

    from celestialflow_core._driver.aio.stream import AsyncOutcomeStream
    from celestialflow_core._driver.stream import OutcomeStream
    from celestialflow_core._manager.core import Core
    from celestialflow_core._manager.options import ManagerOptions
    from celestialflow_core._outcome import Counts, RunSummary

__all__ = ["TaskManager"]

T = TypeVar("T")
R = TypeVar("R")
Ts = TypeVarTuple("Ts")


class TaskManager(Generic[T, R]):
    """Runs a function over tasks, and says what became of each.

    Args:
        func: The function. Called with the task, or with what ``get_args`` makes of it.
        execution_mode: "serial", "thread", "process", "async", or the name of any installed executor; an executor; a
            ``concurrent.futures.Executor``, which is never shut down; or a function that makes one. None is serial,
            and async for a coroutine function.
        worker_limit: The most calls that run at a time. None: what this process may use for processes, 50 for async,
            32 for threads.
        max_retries: Tries after the first.
        max_info: The most characters of a task or result in a log line; 0 for no limit.
        unpack_task_args: Whether a task is an iterable of arguments rather than the one argument.
        enable_success_cache: Keep results in ``success_dict``.
        enable_error_cache: Keep errors in ``error_dict``.
        enable_duplicate_check: Run equal tasks once. Inside a run a task is what a dict takes it for: 1, 1.0 and True
            are one.
        progress_desc: The text before the progress bar.
        show_progress: Show a progress bar.
        name: For logs and messages; by default the function's name.
        retry_exceptions: Errors of these classes are retried. By default TimeoutError and ConnectionError.
        backoff: How long a failed task waits for its next try.
        task_timeout: The longest that one try may run, in seconds from its start. It is killed (process), cancelled
            (async) or abandoned (thread).
        stop: When to end the run early; an int means after so many errors.
        max_in_flight: The most tasks between the iterable and the consumer; by default 4,096 + 16 x workers.
        worker_setup: Run once in each worker; what it returns or yields is ``current_worker().state``. The rest of a
            generator is the tear-down.
        grace: Seconds that running calls have when the run ends early.
        sinks: Where outcomes are stored: URLs ("sqlite:results.db"), and objects that are sinks.
        resume: Go on from what the first store among the sinks has: True runs again what failed, "unfinished" does not,
            and "failed" runs nothing else.
        shard: The part of the tasks that this run takes: "3/16", or "auto" in an array job. The others are skipped.
        version: What this version of the work is called; a store with results of another one is refused.
        plugins: Plugins for this manager: objects and modules with hook implementations, or names of installed ones.
        executor_options: Options for an executor that is named.
        log_level: The lowest level that is logged.
        log_dir: The folder of the log file; None: no file.

    Raises:
        TypeError, ValueError: An argument is wrong, or the execution mode cannot keep an option.
        UnknownExecutor: No executor has this name.
        PluginError: A plugin that the manager names cannot be used.
    """

    retry_exceptions: Any = (TimeoutError, ConnectionError)
    """Errors of these classes are retried. May be set on the class or on an instance, before a run."""

    @overload
    def __init__(
        self: TaskManager[tuple[*Ts], R],
        func: Callable[[*Ts], Coroutine[Any, Any, R]],
        execution_mode: Any = None,
        worker_limit: int | None = None,
        max_retries: int = 1,
        max_info: int = 50,
        *,
        unpack_task_args: Literal[True],
        **options: Unpack[ManagerOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: TaskManager[T, R],
        func: Callable[[T], Coroutine[Any, Any, R]],
        execution_mode: Any = None,
        worker_limit: int | None = None,
        max_retries: int = 1,
        max_info: int = 50,
        unpack_task_args: Literal[False] = False,
        **options: Unpack[ManagerOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: TaskManager[tuple[*Ts], R],
        func: Callable[[*Ts], R],
        execution_mode: Any = None,
        worker_limit: int | None = None,
        max_retries: int = 1,
        max_info: int = 50,
        *,
        unpack_task_args: Literal[True],
        **options: Unpack[ManagerOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: TaskManager[T, R],
        func: Callable[[T], R],
        execution_mode: Any = None,
        worker_limit: int | None = None,
        max_retries: int = 1,
        max_info: int = 50,
        unpack_task_args: Literal[False] = False,
        **options: Unpack[ManagerOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: TaskManager[Any, R],
        func: Callable[..., Coroutine[Any, Any, R]],
        execution_mode: Any = None,
        worker_limit: int | None = None,
        max_retries: int = 1,
        max_info: int = 50,
        unpack_task_args: bool = False,
        **options: Unpack[ManagerOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: TaskManager[Any, R],
        func: Callable[..., R],
        execution_mode: Any = None,
        worker_limit: int | None = None,
        max_retries: int = 1,
        max_info: int = 50,
        unpack_task_args: bool = False,
        **options: Unpack[ManagerOptions],
    ) -> None: ...
    @overload  # a subclass whose process_result makes another type
    def __init__(
        self,
        func: Callable[..., object],
        execution_mode: Any = None,
        worker_limit: int | None = None,
        max_retries: int = 1,
        max_info: int = 50,
        unpack_task_args: bool = False,
        **options: Unpack[ManagerOptions],
    ) -> None: ...
    def __init__(
        self,
        func: Callable[..., Any],
        execution_mode: Any = None,
        worker_limit: int | None = None,
        max_retries: int = 1,
        max_info: int = 50,
        unpack_task_args: bool = False,
        **options: Any,
    ) -> None:
        from celestialflow_core._manager.core import Core
        from celestialflow_core._policies import check_exceptions

        if not callable(func):
            raise TypeError(
                f"func must be callable, got {func!r}. Give the function itself, not what a call of it gives."
            )
        name = options.pop("name", None)
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name must be a str or None, got {name!r}.")
        if "retry_exceptions" in options:
            self.retry_exceptions = check_exceptions(options.pop("retry_exceptions"))
        options |= {
            "worker_limit": worker_limit,
            "max_retries": max_retries,
            "max_info": max_info,
            "unpack_task_args": unpack_task_args,
        }
        core = Core.build(TaskManager, self, func, execution_mode, **options)
        self.func: Callable[..., Any] = func
        self.name: str = name or _name_of(func)
        self._core = core

    # ------------------------------------------------------------------ running

    def start(self, tasks: Iterable[T], total: int | None = None) -> RunSummary:
        """Run the function over *tasks*; returns when every task has its outcome.

        Args:
            tasks: Read lazily, in the calling thread.
            total: How many there are, for the progress bar over an iterable that has no length.

        Raises:
            RunInProgress: This manager is already running.
            TooManyErrors: A stop rule ended the run.
            WorkerSetupError: A worker could not start.
            NotPicklable: The function cannot be sent to the workers.
            BaseException: What the iterable raised, after all that was taken has been settled.
        """
        return self._inside().start(self, tasks, total)

    def stream(self, tasks: Iterable[T], total: int | None = None, *, ordered: bool = False) -> OutcomeStream[T, R]:
        """Run the function over *tasks* and give each outcome when its task settles, duplicates too.

        Use it as an iterator, or better as a context manager around one: leaving it ends the run, cancels what has not
        started, gives what runs ``grace`` seconds, and releases every worker.

        Args:
            tasks: Read lazily, in the calling thread; may be endless.
            total: As in ``start``.
            ordered: Give the outcomes in the order of *tasks*; those that settle early wait in memory, up to
                ``max_in_flight``.

        Raises:
            As ``start``; errors that end the run are raised after the outcomes that are left.
        """
        return self._inside().stream(self, tasks, total, ordered)

    async def start_async(self, tasks: Iterable[T] | AsyncIterable[T], total: int | None = None) -> RunSummary:
        """As ``start``, in the running event loop; in any execution mode.

        Args:
            tasks: An iterable, or an async iterable; pulled lazily, in the loop.
            total: As in ``start``.
        """
        return await self._inside().start_async(self, tasks, total)

    def stream_async(
        self, tasks: Iterable[T] | AsyncIterable[T], total: int | None = None, *, ordered: bool = False
    ) -> AsyncOutcomeStream[T, R]:
        """As ``stream``, in the running event loop; in any execution mode. ``async for``, or ``async with``."""
        return self._inside().stream_async(self, tasks, total, ordered)

    def _inside(self) -> Core:
        core: Core | None = self.__dict__.get("_core")
        if core is None:
            raise TypeError(f"{type(self).__qualname__}.__init__ must call super().__init__(func, ...) first.")
        return core

    def __enter__(self) -> Self:
        """Keep the workers from run to run, until the block is left."""
        self._inside().enter("sync")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._inside().leave()

    async def __aenter__(self) -> Self:
        """As ``with``, for ``start_async`` and ``stream_async``."""
        self._inside().enter("async")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._inside().leave_async()

    # ------------------------------------------------------------------ what became of the tasks

    @property
    def success_dict(self) -> dict[T, R]:
        """The results by task, where ``enable_success_cache`` is on; may be read while running."""
        return self._inside().successes.by_task

    @property
    def error_dict(self) -> dict[T, BaseException]:
        """The errors by task, where ``enable_error_cache`` is on; may be read while running."""
        return self._inside().errors.by_task

    def get_success_dict(self) -> dict[T, R]:
        """A copy of ``success_dict``."""
        return self.success_dict.copy()

    def get_error_dict(self) -> dict[T, BaseException]:
        """A copy of ``error_dict``."""
        return self.error_dict.copy()

    def get_success_pairs(self) -> list[tuple[T, R]]:
        """Every task that succeeded with its result, in the order in which they settled."""
        return self._inside().successes.pairs()

    def get_error_pairs(self) -> list[tuple[T, BaseException]]:
        """Every task that failed with its error, in the order in which they settled."""
        return self._inside().errors.pairs()

    @property
    def counts(self) -> Counts:
        """Where the tasks are now; may be read from any thread."""
        return self._inside().counts()

    @property
    def summary(self) -> RunSummary | None:
        """The account of the last run, also of one that raised; None before its end."""
        return self._inside().summary

    # ------------------------------------------------------------------ to override

    def get_args(self, task: T) -> Iterable[Any]:
        """The arguments of the function for *task*: any iterable but a str. Called once an attempt.

        By default the task itself is the one argument, or with ``unpack_task_args`` its items are.
        """
        return tuple(task) if self._inside().options.unpack_task_args else (task,)  # type: ignore[arg-type]

    def process_result(self, task: T, result: Any) -> Any:
        """What is kept of *result*; by default the result. An error that it raises is the task's, and not retried."""
        return result

    def process_result_dict(self) -> Any:
        """All results and errors by task.

        An override is called at the end of a run too, its value kept in the summary.
        """
        return self._inside().all_by_task()

    def handle_error_dict(self) -> Any:
        """The failed tasks, grouped under the first exception of each type and text.

        An override is called at the end of a run too, its value kept in the summary.
        """
        return self._inside().errors_by_kind()

    def add_retry_exceptions(self, *exceptions: type[BaseException]) -> None:
        """Retry errors of these classes too, from the next run on.

        Raises:
            TypeError: One is no exception class.
        """
        from celestialflow_core._policies import check_exceptions

        self.retry_exceptions = (*check_exceptions(self.retry_exceptions), *check_exceptions(exceptions))

    # ------------------------------------------------------------------ being an object

    def __repr__(self) -> str:
        core: Core | None = self.__dict__.get("_core")
        if core is None:
            return f"<{type(self).__name__}, not initialised>"
        shown = f"{type(self).__name__}({self.name}, {core})"
        counts = core.counts()
        if core.running:
            return f"<{shown} running: {counts.settled} of {counts.taken} settled, {counts.failed} failed>"
        return f"<{shown} idle>"

    def __getstate__(self) -> dict[str, Any]:
        """Its attributes without the run: a bound method of a manager can be its own function in another process."""
        return {name: value for name, value in self.__dict__.items() if name != "_core"}


def inside(manager: TaskManager[Any, Any]) -> Core:
    """The inside of *manager*, for those who run it together with others.

    Raises:
        TypeError: Its constructor did not call this class's.
    """
    return manager._inside()


def _name_of(func: Any) -> str:
    """A name for any callable: of a partial its function's, of an object its class's."""
    while hasattr(func, "func") and not hasattr(func, "__name__"):
        func = func.func
    name = getattr(func, "__name__", None)
    return name if isinstance(name, str) else type(func).__name__
