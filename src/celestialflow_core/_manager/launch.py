"""Puts a run together: the manager's options, its plugins and its executor become a `Plan` that a shell can drive."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from time import monotonic
from typing import TYPE_CHECKING, Any

from celestialflow_core._driver.account import Account
from celestialflow_core._driver.customs import Customs
from celestialflow_core._driver.plan import Plan
from celestialflow_core._driver.run import Run
from celestialflow_core._driver.stage import Stage
from celestialflow_core._driver.workers import Workers
from celestialflow_core._engine.machine import Engine, IdSource
from celestialflow_core._observe.interface import Observer, RunInfo
from celestialflow_core._observe.log import RunLog
from celestialflow_core._outcome import RunSummary
from celestialflow_core._policies import RetryPolicy, check_exceptions
from celestialflow_core._text import error_text
from celestialflow_core.errors import TaskAbandoned, WorkerCrashed
from celestialflow_core.plugins import resolve

if TYPE_CHECKING:
    from celestialflow_core._manager.core import Core
    from celestialflow_core._observe.progress import ProgressManager

__all__ = ["launch"]

EXPLICIT = (TaskAbandoned, WorkerCrashed)  # retried only where they are listed themselves


def launch(
    core: Core,
    manager: Any,
    tasks: Iterable[Any],
    total: int | None,
    overrides: dict[str, Callable[..., Any]],
    workers: Workers,
    *,
    wants_outcomes: bool,
    ordered: bool,
) -> Plan:
    """The plan of one run.

    Args:
        core: The inside of *manager*, which is claimed for the run.
        manager: For hooks, and for what may be set on it between runs.
        tasks: The iterable.
        total: How many, where the user says so.
        overrides: The manager's own methods.
        workers: The executor.
        wants_outcomes: Whether the outcomes are consumed.
        ordered: Whether they come in the order of the tasks.
    """
    options = core.options
    log = RunLog(options.log_level, options.log_dir)
    observers: list[Observer] = [log]
    if options.show_progress:
        from celestialflow_core._observe.progress import ProgressManager

        progress = ProgressManager()
        observers.append(progress)
        if hasattr(workers.executor, "on_output"):
            setattr(workers.executor, "on_output", _above(progress))  # noqa: B010  # not every executor has it

    def report(hook: str, plugin: str, error: Exception) -> None:
        log.warning(f"{hook} of plugin {plugin!r} raised {error_text(error, 200)}")

    worker_limit = getattr(workers.executor, "worker_limit", None) or options.worker_limit
    stage = Stage(
        name=manager.name,
        engine=Engine(
            max_in_flight=options.max_in_flight or 4096 + 16 * (worker_limit or 1),
            deduplicate=options.enable_duplicate_check,
            ordered=ordered,
        ),
        ids=IdSource(),
        executor=workers.executor,
        customs=Customs(manager, resolve(core.registry), overrides, options.unpack_task_args, report),
        retry=RetryPolicy(options.max_retries, check_exceptions(manager.retry_exceptions), EXPLICIT, options.backoff),
        account=Account(
            core.successes if options.enable_success_cache else None,
            core.errors if options.enable_error_cache else None,
        ),
        observers=observers,
        random=random.random,
        wants_outcomes=wants_outcomes,
    )
    run = Run(stage, options.stop, options.grace)

    def summarise(**extra: Any) -> RunSummary:
        core.summary = _summary(manager.name, core.mode.name, run, **extra)
        return core.summary

    def conclude() -> RunSummary:
        summary = summarise()
        extra: dict[str, Any] = {}
        if "process_result_dict" in overrides:
            extra["processed"] = overrides["process_result_dict"]()
        if "handle_error_dict" in overrides:
            extra["handled"] = overrides["handle_error_dict"]()
        return summarise(**extra) if extra else summary

    return Plan(
        run=run,
        tasks=tasks,
        total=total,
        workers=workers,
        info=RunInfo(
            name=manager.name,
            mode=core.mode.name,
            workers=worker_limit,
            total=None,
            desc=options.progress_desc,
            max_info=options.max_info,
        ),
        observers=observers,
        customs=stage.customs,
        grace=options.grace,
        summarise=summarise,
        conclude=conclude,
        done=lambda: core.done(stage, workers),
    )


def _above(progress: ProgressManager) -> Callable[[int, str, bytes], None]:
    """Shows what workers write above the bar."""
    from celestialflow_core.executors.process.output import to_own_streams

    def show(worker: int, stream: str, lines: bytes) -> None:
        with progress.above():
            to_own_streams(worker, stream, lines)

    return show


def _summary(name: str, mode: str, run: Run, **extra: Any) -> RunSummary:
    stage = run.stage
    engine, account = stage.engine, stage.account
    return RunSummary(
        name=name,
        mode=mode,
        total=engine.admitted,
        succeeded=engine.succeeded,
        failed=engine.failed,
        duplicates=engine.duplicates,
        cancelled=engine.cancelled,
        retries=engine.retries,
        reruns=account.reruns,
        abandoned=max(account.abandoned, getattr(stage.executor, "abandoned", 0)),
        crashes=account.crashes,
        hook_errors=stage.customs.hook_errors,
        seconds=monotonic() - run.began,
        stopped=run.ending.reason if run.ending is not None else None,
        errors=account.errors(),
        slowest=account.slowest(),
        **extra,
    )
