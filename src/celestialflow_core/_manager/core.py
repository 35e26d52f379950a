"""The inside of a manager: what it has been given, whether it runs, its results, its workers.

One object holds it all, so that a subclass may call its own attributes whatever it likes; and all that a run needs is
imported from here, so that importing `TaskManager` costs next to nothing.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

import attrs

from celestialflow_core._driver import drive
from celestialflow_core._driver.results import Results, TaskDict
from celestialflow_core._driver.source import check_iterable, check_total
from celestialflow_core._driver.stage import Stage
from celestialflow_core._driver.workers import Workers, is_async
from celestialflow_core._manager.launch import launch
from celestialflow_core._manager.modes import Mode, choose
from celestialflow_core._manager.options import Options
from celestialflow_core._manager.overrides import overrides_of
from celestialflow_core._outcome import Counts, RunSummary
from celestialflow_core._text import text_of
from celestialflow_core.errors import RunInProgress
from celestialflow_core.executors.interface import AsyncExecutor, Executor, Work
from celestialflow_core.plugins import Registry, installed

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from celestialflow_core._driver.aio.stream import AsyncOutcomeStream
    from celestialflow_core._driver.plan import Plan
    from celestialflow_core._driver.stream import OutcomeStream

__all__ = ["Core"]


class Core:
    """The inside of *manager*.

    Args:
        base: `TaskManager`, whose methods are no overrides.
        options: Checked.
        mode: Checked against the function and the options.
        registry: The plugins of its runs.
    """

    def __init__(self, base: type, options: Options, mode: Mode, registry: Registry) -> None:
        self.options = options
        self.mode = mode
        self.registry = registry
        self.summary: RunSummary | None = None
        self.target: str | None = None
        """Where the function is found again, if whoever made the manager knows better than the function."""
        self._base = base
        self._blocks = {"sync": 0, "async": 0}
        self._claim = threading.Lock()
        self._workers: Workers | None = None
        self._loop: AbstractEventLoop | None = None  # of the "async with" block
        self._replaced: list[Awaitable[None]] = []  # warm workers to be stopped at its end
        self.stage: Stage | None = None
        self._counts = Counts()
        self.successes = self.errors = Results(keep_pairs=False)
        self._new_results()

    @classmethod
    def build(cls, base: type, manager: Any, func: Any, execution_mode: Any, **given: Any) -> Core:
        """The inside of a new *manager*.

        Raises:
            TypeError, ValueError, UnknownExecutor, PluginError: Something that was given is wrong.
        """
        options = Options.of(**given)
        registry = installed().with_plugins(options.plugins)
        mode = choose(execution_mode, func, options, registry)
        mode.check(func, options)
        overrides_of(manager, base)
        return cls(base, options, mode, registry)

    # ------------------------------------------------------------------ running

    def start(self, manager: Any, tasks: Any, total: int | None) -> RunSummary:
        """See `TaskManager.start`."""
        return drive.start(lambda: self._plan(manager, tasks, total, "sync", wants_outcomes=False, ordered=False))

    def stream(self, manager: Any, tasks: Any, total: int | None, ordered: bool) -> OutcomeStream[Any, Any]:
        """See `TaskManager.stream`."""
        return drive.stream(lambda: self._plan(manager, tasks, total, "sync", wants_outcomes=True, ordered=ordered))

    async def start_async(self, manager: Any, tasks: Any, total: int | None) -> RunSummary:
        """See `TaskManager.start_async`."""
        return await drive.start_async(
            lambda: self._plan(manager, tasks, total, "async", wants_outcomes=False, ordered=False)
        )

    def stream_async(self, manager: Any, tasks: Any, total: int | None, ordered: bool) -> AsyncOutcomeStream[Any, Any]:
        """See `TaskManager.stream_async`."""
        check_iterable(tasks)
        check_total(total)
        return drive.stream_async(
            lambda: self._plan(manager, tasks, total, "async", wants_outcomes=True, ordered=ordered)
        )

    def _plan(self, manager: Any, tasks: Any, total: int | None, shell: str, **how: bool) -> Plan:
        """Claim the manager and put the run together."""
        check_iterable(tasks)
        check_total(total)
        overrides = self.overrides(manager)
        if not self.claim():
            raise RunInProgress(
                f"{manager!r} is already running. Wait for its end, close its stream, or use a second manager."
            )
        try:
            return launch(self, manager, tasks, total, overrides, self.workers_for(manager.func, shell), **how)
        except BaseException:
            self.release()
            raise

    def claim(self) -> bool:
        """Take the manager for a run, whose results begin empty; False if it is running."""
        if not self._claim.acquire(blocking=False):
            return False
        self._new_results()
        self.summary = None
        return True

    def release(self) -> None:
        """Give the manager back."""
        self._claim.release()

    def work_for(self, func: Callable[..., Any]) -> Callable[[], Work]:
        """Gives what the executor is to do, with the caller's context variables as they are when it is called."""
        options = self.options
        return lambda: Work(func, options.worker_setup, options.task_timeout, contextvars.copy_context())

    def overrides(self, manager: Any) -> dict[str, Callable[..., Any]]:
        """The methods that *manager* overrides; see `overrides_of`."""
        return overrides_of(manager, self._base)

    def handle_results(self, summary: RunSummary, overrides: dict[str, Callable[..., Any]]) -> RunSummary:
        """Let the overrides that take all results at the end have them; gives *summary* with what they made of them."""
        extra: dict[str, Any] = {}
        if "process_result_dict" in overrides:
            extra["processed"] = overrides["process_result_dict"]()
        if "handle_error_dict" in overrides:
            extra["handled"] = overrides["handle_error_dict"]()
        return attrs.evolve(summary, **extra) if extra else summary

    def done(self, stage: Stage) -> None:
        """The run of *stage* is over, whatever has become of it."""
        self._counts = stage.counts()
        self.stage = None
        if stage.workers.stopped:
            self._workers = None
        self.release()

    @property
    def running(self) -> bool:
        """True between the beginning and the end of a run."""
        return self._claim.locked()

    def counts(self) -> Counts:
        """Where the tasks of the running, or of the last run are."""
        stage = self.stage
        return stage.counts() if stage is not None else self._counts

    # ------------------------------------------------------------------ results

    def _new_results(self) -> None:
        # Without the duplicate check equal tasks each have a result, which one dict cannot hold.
        keep_pairs = not self.options.enable_duplicate_check
        self.successes = Results(keep_pairs)
        self.errors = Results(keep_pairs)

    def all_by_task(self) -> dict[Any, Any]:
        """Results and errors in one dict."""
        results, errors = self.successes.by_task, self.errors.by_task
        if not isinstance(results, TaskDict) and not isinstance(errors, TaskDict):
            return {**results, **errors}
        both = TaskDict()
        for part in (results, errors):
            for task, value in part.items():
                both[task] = value
        return both

    def errors_by_kind(self) -> dict[BaseException, list[Any]]:
        """The failed tasks under the first exception of each type and text."""
        firsts: dict[tuple[type, str], BaseException] = {}
        groups = TaskDict()  # an exception class may define __eq__, and with it lose its hash
        for task, error in self.errors.by_task.items():
            first = firsts.setdefault((type(error), text_of(error)), error)
            if first is error:
                groups[first] = []
            groups[first].append(task)
        return groups if groups.has_stand_ins else dict(groups.items())

    # ------------------------------------------------------------------ workers

    def workers_for(self, func: Callable[..., Any], shell: str) -> Workers:
        """The executor for a run that *shell* drives: the warm one, if it fits."""
        warm = self._blocks[shell] > 0
        key = (func, shell, warm)
        workers = self._workers
        if workers is not None and workers.key == key:
            if is_async(workers.executor):
                self._check_loop()
            return workers
        if workers is not None:
            replaced = self._cool()
            if replaced is not None:
                self._replaced.append(replaced)
        executor: Executor | AsyncExecutor = self.mode.executor(func, self.options)
        if shell == "sync" and is_async(executor):
            from celestialflow_core.executors.loop_thread import LoopThread

            executor = LoopThread(cast(AsyncExecutor, executor))
        workers = Workers(executor, key, warm)
        if warm:
            self._workers = workers
        return workers

    def _check_loop(self) -> None:
        """Refuse workers that wait in another event loop than the one that runs."""
        from asyncio import get_running_loop  # loaded by whoever has a loop

        if get_running_loop() is not self._loop:
            raise RuntimeError(
                "The workers of this manager are in the event loop in which its 'async with' block began, and another "
                "one is running. Run it in that loop, or let the block begin and end in this one."
            )

    def _cool(self) -> Any:
        """Stop the workers that are kept warm; gives what to await, where their executor lives in a loop."""
        workers, self._workers = self._workers, None
        if workers is None or not workers.started:
            return None
        return workers.executor.stop(self.options.grace)

    def enter(self, shell: str) -> None:
        """From now on keep the workers from run to run."""
        if shell == "async" and not self._blocks[shell]:
            from asyncio import get_running_loop

            self._loop = get_running_loop()
        self._blocks[shell] += 1

    def leave(self) -> None:
        """The end of a ``with`` block."""
        self._blocks["sync"] -= 1
        if not self._blocks["sync"]:
            self._cool()

    async def leave_async(self) -> None:
        """The end of an ``async with`` block."""
        self._blocks["async"] -= 1
        if not self._blocks["async"]:
            replaced, self._replaced = self._replaced, []
            for stopping in (*replaced, self._cool()):
                if stopping is not None:
                    await stopping

    def __str__(self) -> str:
        limit = self.options.worker_limit
        return self.mode.name if limit is None else f"{self.mode.name} x{limit}"
