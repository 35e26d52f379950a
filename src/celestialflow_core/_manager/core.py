"""The inside of a manager: what it has been given, whether it runs, its results, its workers.

One object holds it all, so that a subclass may call its own attributes whatever it likes; and all that a run needs is
imported from here, so that importing `TaskManager` costs next to nothing.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from celestialflow_core._driver.interrupt import Guard
from celestialflow_core._driver.results import Results, TaskDict
from celestialflow_core._driver.source import check_iterable
from celestialflow_core._driver.stage import Stage
from celestialflow_core._driver.stream import OutcomeStream
from celestialflow_core._driver.sync import SyncShell
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
    from celestialflow_core._driver.aio.shell import AsyncShell
    from celestialflow_core._driver.aio.stream import AsyncOutcomeStream
    from celestialflow_core._driver.plan import Plan

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
        self._base = base
        self._blocks = {"sync": 0, "async": 0}
        self._claim = threading.Lock()
        self._workers: Workers | None = None
        self._stage: Stage | None = None
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
        with Guard() as guard:
            shell = self._shell(guard, manager, tasks, total, wants_outcomes=False, ordered=False)
            shell.open()
            while not shell.step():
                pass
            return shell.close()

    def stream(self, manager: Any, tasks: Any, total: int | None, ordered: bool) -> OutcomeStream[Any, Any]:
        """See `TaskManager.stream`."""
        with Guard() as guard:
            shell = self._shell(guard, manager, tasks, total, wants_outcomes=True, ordered=ordered)
            shell.open()
            stream: OutcomeStream[Any, Any] = OutcomeStream(shell)
            stream.answer()
        return stream

    async def start_async(self, manager: Any, tasks: Any, total: int | None) -> RunSummary:
        """See `TaskManager.start_async`."""
        shell = self._async_shell(manager, tasks, total, wants_outcomes=False, ordered=False)
        await shell.open()
        while not await shell.step():
            pass
        return await shell.close()

    def stream_async(self, manager: Any, tasks: Any, total: int | None, ordered: bool) -> AsyncOutcomeStream[Any, Any]:
        """See `TaskManager.stream_async`."""
        from celestialflow_core._driver.aio.stream import AsyncOutcomeStream

        check_iterable(tasks)
        return AsyncOutcomeStream(
            lambda: self._async_shell(manager, tasks, total, wants_outcomes=True, ordered=ordered)
        )

    def _shell(self, guard: Guard, manager: Any, tasks: Any, total: int | None, **how: bool) -> SyncShell:
        try:
            return SyncShell(self._plan(manager, tasks, total, "sync", how), lambda: self._work(manager.func), guard)
        except BaseException:
            guard.release()  # there is no run that would do it at its end
            raise

    def _async_shell(self, manager: Any, tasks: Any, total: int | None, **how: bool) -> AsyncShell:
        from celestialflow_core._driver.aio.shell import AsyncShell

        return AsyncShell(self._plan(manager, tasks, total, "async", how), lambda: self._work(manager.func))

    def _plan(self, manager: Any, tasks: Any, total: int | None, shell: str, how: dict[str, bool]) -> Plan:
        """Claim the manager and put the run together."""
        check_iterable(tasks)
        overrides = overrides_of(manager, self._base)
        if not self._claim.acquire(blocking=False):
            raise RunInProgress(
                f"{manager!r} is already running. Wait for its end, close its stream, or use a second manager."
            )
        try:
            workers = self._workers_for(manager.func, shell)
            self._new_results()
            self.summary = None
            plan = launch(self, manager, tasks, total, overrides, workers, **how)
        except BaseException:
            self._claim.release()
            raise
        self._stage = plan.run.stage
        return plan

    def _work(self, func: Callable[..., Any]) -> Work:
        """What the executor is to do, with the caller's context variables as they are now."""
        options = self.options
        return Work(func, options.worker_setup, options.task_timeout, contextvars.copy_context())

    def done(self, stage: Stage, workers: Workers) -> None:
        """The run of *stage* is over, whatever has become of it."""
        self._counts = stage.counts()
        self._stage = None
        if workers.stopped:
            self._workers = None
        self._claim.release()

    @property
    def running(self) -> bool:
        """True between the beginning and the end of a run."""
        return self._claim.locked()

    def counts(self) -> Counts:
        """Where the tasks of the running, or of the last run are."""
        stage = self._stage
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

    def _workers_for(self, func: Callable[..., Any], shell: str) -> Workers:
        """The executor for a run that *shell* drives: the warm one, if it fits."""
        warm = self._blocks[shell] > 0
        key = (func, shell, warm)
        workers = self._workers
        if workers is not None and workers.key == key:
            return workers
        if workers is not None:
            self._cool()
        executor: Executor | AsyncExecutor = self.mode.executor(func, self.options)
        if shell == "sync" and is_async(executor):
            from celestialflow_core.executors.loop_thread import LoopThread

            executor = LoopThread(cast(AsyncExecutor, executor))
        workers = Workers(executor, key, warm)
        if warm:
            self._workers = workers
        return workers

    def _cool(self) -> Any:
        """Stop the workers that are kept warm; gives what to await, where their executor lives in a loop."""
        workers, self._workers = self._workers, None
        if workers is None or not workers.started:
            return None
        return workers.executor.stop(self.options.grace)

    def enter(self, shell: str) -> None:
        """From now on keep the workers from run to run."""
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
            stopping = self._cool()
            if stopping is not None:
                await stopping

    def __str__(self) -> str:
        limit = self.options.worker_limit
        return self.mode.name if limit is None else f"{self.mode.name} x{limit}"
