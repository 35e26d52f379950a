"""What a manager holds besides its options: whether it runs, its results, its workers. One object, so that a subclass
may call its own attributes whatever it likes."""

from __future__ import annotations

import contextvars
import random
import threading
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any

from celestialflow_core._driver.account import Account
from celestialflow_core._driver.customs import Customs
from celestialflow_core._driver.plan import Plan
from celestialflow_core._driver.results import Results
from celestialflow_core._driver.run import Run
from celestialflow_core._driver.stage import Stage
from celestialflow_core._driver.workers import Workers
from celestialflow_core._engine.machine import Engine, IdSource
from celestialflow_core._manager.modes import Mode
from celestialflow_core._manager.options import Options
from celestialflow_core._observe.interface import Observer, RunInfo
from celestialflow_core._observe.log import RunLog
from celestialflow_core._outcome import Counts, RunSummary
from celestialflow_core._policies import RetryPolicy, check_exceptions
from celestialflow_core._text import error_text
from celestialflow_core.errors import RunInProgress, TaskAbandoned, WorkerCrashed
from celestialflow_core.executors.interface import AsyncExecutor, Executor, Work
from celestialflow_core.plugins import Registry, resolve

__all__ = ["Core"]

EXPLICIT = (TaskAbandoned, WorkerCrashed)  # retried only where they are listed themselves


class Core:
    """The inside of one manager.

    Args:
        options: Checked.
        mode: Checked against the function and the options.
        registry: The plugins of its runs.
    """

    def __init__(self, options: Options, mode: Mode, registry: Registry) -> None:
        self.options = options
        self.mode = mode
        self.registry = registry
        self.summary: RunSummary | None = None
        self.keep_warm = 0
        self.keep_warm_async = 0
        self._claim = threading.Lock()
        self._workers: Workers | None = None
        self._stage: Stage | None = None
        self._counts = Counts()
        self._new_results()

    def _new_results(self) -> None:
        options = self.options
        keep_pairs = not options.enable_duplicate_check
        self.successes = Results(keep_pairs)
        self.errors = Results(keep_pairs)

    def counts(self) -> Counts:
        """Where the tasks of the running, or of the last run are."""
        stage = self._stage
        return stage.counts() if stage is not None else self._counts

    # ------------------------------------------------------------------ one run

    def plan(
        self,
        manager: Any,
        tasks: Iterable[Any],
        total: int | None,
        overrides: dict[str, Callable[..., Any]],
        *,
        wants_outcomes: bool,
        ordered: bool,
        adapt: Callable[[Executor | AsyncExecutor], Executor | AsyncExecutor],
        warm: bool,
    ) -> Plan:
        """Put a run together, and claim the manager for it.

        Args:
            manager: The manager, for hooks.
            tasks: The iterable.
            total: How many, where the user says so.
            overrides: The manager's own methods.
            wants_outcomes: Whether the outcomes are consumed.
            ordered: Whether they come in the order of the tasks.
            adapt: Makes the executor fit for the shell that will drive it.
            warm: Whether the executor outlives the run.

        Raises:
            RunInProgress: The manager is running.
        """
        options = self.options
        retry = RetryPolicy(options.max_retries, check_exceptions(manager.retry_exceptions), EXPLICIT, options.backoff)
        if not self._claim.acquire(blocking=False):
            raise RunInProgress(
                f"{manager!r} is already running. Wait for its end, close its stream, or use a second manager."
            )
        try:
            workers = self._workers_for(manager.func, adapt, warm)
            self._new_results()
            log = RunLog(options.log_level, options.log_dir)
            observers: list[Observer] = [log]
            if options.show_progress:
                from celestialflow_core._observe.progress import ProgressManager

                observers.append(ProgressManager())

            def report(hook: str, plugin: str, error: Exception) -> None:
                log.warning(f"{hook} of plugin {plugin!r} raised {error_text(error, 200)}")

            customs = Customs(manager, resolve(self.registry), overrides, options.unpack_task_args, report)
            account = Account(
                self.successes if options.enable_success_cache else None,
                self.errors if options.enable_error_cache else None,
            )
            limit = getattr(workers.executor, "worker_limit", None) or options.worker_limit or 1
            engine: Engine[Any, Any] = Engine(
                max_in_flight=options.max_in_flight or 4096 + 16 * limit,
                deduplicate=options.enable_duplicate_check,
                ordered=ordered,
            )
            stage = Stage(
                name=manager.name,
                engine=engine,
                ids=IdSource(),
                executor=workers.executor,
                customs=customs,
                retry=retry,
                account=account,
                observers=observers,
                random=random.random,
                wants_outcomes=wants_outcomes,
            )
        except BaseException:
            self._claim.release()
            raise
        self._stage = stage
        self.summary = None
        run = Run(stage, options.stop, options.grace)

        def summarise(**extra: Any) -> RunSummary:
            summary = self._summarise(manager.name, run, workers, **extra)
            self.summary = summary
            return summary

        def conclude() -> RunSummary:
            summary = summarise()
            extra: dict[str, Any] = {}
            if "process_result_dict" in overrides:
                extra["processed"] = overrides["process_result_dict"]()
            if "handle_error_dict" in overrides:
                extra["handled"] = overrides["handle_error_dict"]()
            return summarise(**extra) if extra else summary

        def done() -> None:
            self._counts = stage.counts()
            self._stage = None
            if workers.stopped:
                self._workers = None
            self._claim.release()

        return Plan(
            run=run,
            tasks=tasks,
            total=total,
            workers=workers,
            info=RunInfo(
                name=manager.name,
                mode=self.mode.name,
                workers=getattr(workers.executor, "worker_limit", options.worker_limit),
                total=None,
                desc=options.progress_desc,
                max_info=options.max_info,
            ),
            observers=observers,
            customs=customs,
            grace=options.grace,
            summarise=summarise,
            conclude=conclude,
            done=done,
        )

    def work(self, func: Callable[..., Any]) -> Work:
        """What the executor is to do, with the caller's context variables as they are now."""
        options = self.options
        return Work(func, options.worker_setup, options.task_timeout, contextvars.copy_context())

    def _summarise(self, name: str, run: Run, workers: Workers, **extra: Any) -> RunSummary:
        stage = run.stage
        engine, account = stage.engine, stage.account
        return RunSummary(
            name=name,
            mode=self.mode.name,
            total=engine.admitted,
            succeeded=engine.succeeded,
            failed=engine.failed,
            duplicates=engine.duplicates,
            cancelled=engine.cancelled,
            retries=engine.retries,
            reruns=account.reruns,
            abandoned=max(account.abandoned, getattr(workers.executor, "abandoned", 0)),
            crashes=account.crashes,
            hook_errors=stage.customs.hook_errors,
            seconds=monotonic() - run.began,
            stopped=run.ending.reason if run.ending is not None else None,
            errors=account.errors(),
            slowest=account.slowest(),
            **extra,
        )

    # ------------------------------------------------------------------ workers

    def _workers_for(
        self,
        func: Callable[..., Any],
        adapt: Callable[[Executor | AsyncExecutor], Executor | AsyncExecutor],
        warm: bool,
    ) -> Workers:
        key = (func, adapt, warm)
        workers = self._workers
        if workers is not None and workers.key == key:
            return workers
        if workers is not None:
            self.cool()
        workers = Workers(adapt(self.mode.executor(func, self.options)), key, warm)
        if warm:
            self._workers = workers
        return workers

    def cool(self) -> None:
        """Stop the workers that are kept warm."""
        workers, self._workers = self._workers, None
        if workers is not None and workers.started:
            stop: Any = workers.executor.stop
            stop(self.options.grace)

    async def cool_async(self) -> None:
        """As ``cool``, for an executor that may live in the running loop."""
        workers, self._workers = self._workers, None
        if workers is not None and workers.started:
            stopped: Any = workers.executor.stop(self.options.grace)
            if stopped is not None:
                await stopped

    @property
    def running(self) -> bool:
        """True between the beginning and the end of a run."""
        return self._claim.locked()


def with_limit(mode: Mode, options: Options) -> str:
    """ "thread x50", for a repr."""
    return mode.name if options.worker_limit is None else f"{mode.name} x{options.worker_limit}"
