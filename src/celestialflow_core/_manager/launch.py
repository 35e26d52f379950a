"""Puts a run together: a manager's options, its plugins and its executor become a `Stage`, stages become a `Plan`."""

from __future__ import annotations

import random
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

import attrs

from celestialflow_core._driver.account import Account
from celestialflow_core._driver.customs import Customs
from celestialflow_core._driver.exit import Exit, Outlet
from celestialflow_core._driver.load import Load
from celestialflow_core._driver.plan import Input, Plan
from celestialflow_core._driver.run import Run
from celestialflow_core._driver.stage import Stage
from celestialflow_core._driver.storage import Stored
from celestialflow_core._driver.workers import Workers
from celestialflow_core._engine.machine import Engine, IdSource
from celestialflow_core._manager.shards import shard_of
from celestialflow_core._manager.storing import make_storage, target_of
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

__all__ = ["Setting", "in_flight_limit", "launch", "make_stage", "summary_of"]

EXPLICIT = (TaskAbandoned, WorkerCrashed)  # retried only where they are listed themselves


@attrs.frozen(kw_only=True, eq=False)
class Setting:
    """The run that a stage is made for.

    Attributes:
        ids: Numbers the tasks of the run.
        load: Counts what it holds.
        outlet: Takes what settles in the stage.
        observers: Those that the run has for this stage, before a progress bar.
        warn: Logs a warning.
        show_progress: Whether the stage has a progress bar.
        desc: What stands in front of it.
        max_in_flight: The most tasks in the stage; None: the run looks after that.
        ordered: Whether its outcomes come in the order of its tasks.
        stored: What is stored of its tasks, if the run has sinks.
    """

    ids: IdSource
    load: Load
    outlet: Outlet
    observers: tuple[Observer, ...]
    warn: Callable[[str], None]
    show_progress: bool
    desc: str
    max_in_flight: int | None = None
    ordered: bool = False
    stored: Stored | None = None


def make_stage(
    core: Core, manager: Any, overrides: dict[str, Callable[..., Any]], workers: Workers, setting: Setting
) -> Stage:
    """What *manager*, which has been claimed for it, brings to a run.

    Args:
        core: The inside of *manager*.
        manager: For hooks, and for what may be set on it between runs.
        overrides: The manager's own methods.
        workers: Its executor.
        setting: The run.
    """
    options = core.options
    observers = list(setting.observers)
    if setting.show_progress:
        from celestialflow_core._observe.progress import ProgressManager

        progress = ProgressManager()
        observers.append(progress)
        if hasattr(workers.executor, "on_output"):
            setattr(workers.executor, "on_output", _above(progress))  # noqa: B010  # not every executor has it

    def report(hook: str, plugin: str, error: Exception) -> None:
        setting.warn(f"{hook} of plugin {plugin!r} raised {error_text(error, 200)}")

    return Stage(
        name=manager.name,
        info=RunInfo(
            name=manager.name,
            mode=core.mode.name,
            workers=workers_of(core, workers),
            total=None,
            desc=setting.desc,
            max_info=options.max_info,
        ),
        engine=Engine(
            max_in_flight=setting.max_in_flight,
            deduplicate=options.enable_duplicate_check,
            ordered=setting.ordered,
        ),
        ids=setting.ids,
        load=setting.load,
        workers=workers,
        make_work=core.work_for(manager.func),
        customs=Customs(manager, resolve(core.registry), overrides, options.unpack_task_args, report),
        retry=RetryPolicy(options.max_retries, check_exceptions(manager.retry_exceptions), EXPLICIT, options.backoff),
        stop=options.stop,
        account=Account(
            core.successes if options.enable_success_cache else None,
            core.errors if options.enable_error_cache else None,
        ),
        observers=observers,
        random=random.random,
        outlet=setting.outlet,
        warn=setting.warn,
        stored=setting.stored,
    )


def workers_of(core: Core, workers: Workers) -> int | None:
    """How many calls run at a time, where that is known and more than the caller's thread."""
    if "inline" in workers.executor.capabilities:
        return None
    return getattr(workers.executor, "worker_limit", None) or core.options.worker_limit


def in_flight_limit(workers: int) -> int:
    """The most tasks between the sources and the consumer, where the user does not say."""
    return 4096 + 16 * workers


def launch(
    core: Core,
    manager: Any,
    tasks: Any,
    total: int | None,
    overrides: dict[str, Callable[..., Any]],
    workers: Workers,
    *,
    wants_outcomes: bool,
    ordered: bool,
) -> Plan:
    """The plan of a run of one manager.

    Args:
        core: The inside of *manager*, which is claimed for the run.
        manager: Whose run it is.
        tasks: The iterable.
        total: How many, where the user says so.
        overrides: The manager's own methods.
        workers: The executor.
        wants_outcomes: Whether the outcomes are consumed.
        ordered: Whether they come in the order of the tasks.
    """
    options = core.options
    log = RunLog(options.log_level, options.log_dir)
    max_in_flight = options.max_in_flight or in_flight_limit(workers_of(core, workers) or 1)
    exit = Exit(wants_outcomes)
    ids = IdSource()
    load = Load(ids)
    storage = make_storage(
        options.sinks,
        core.registry,
        name=manager.name,
        stages=(manager.name,),
        version=options.version,
        target=core.target or target_of(manager.func),
        resume=options.resume,
        shard=options.shard,
    )
    shard = None if options.shard is None else shard_of(options.shard)
    setting = Setting(
        ids=ids,
        load=load,
        outlet=exit,
        observers=(log,),
        warn=log.warning,
        show_progress=options.show_progress,
        desc=options.progress_desc,
        max_in_flight=max_in_flight,
        ordered=ordered,
        stored=None if storage is None else Stored(storage, "", options.resume, shard),
    )
    stage = make_stage(core, manager, overrides, workers, setting)
    core.stage = stage
    run = Run([stage], exit, load, max_in_flight=max_in_flight, stop=None, grace=options.grace, storage=storage)

    def summarise() -> RunSummary:
        core.summary = summary_of(stage, run)
        return core.summary

    def conclude() -> RunSummary:
        core.summary = core.handle_results(summarise(), overrides)
        return core.summary

    return Plan(
        run=run,
        inputs=[Input(stage=stage, tasks=tasks, total=total)],
        grace=options.grace,
        summarise=summarise,
        conclude=conclude,
        summary_of=lambda stage: core.summary,
        done=lambda: core.done(stage),
    )


def _above(progress: ProgressManager) -> Callable[[int, str, bytes], None]:
    """Shows what workers write above the bar."""
    from celestialflow_core.executors.process.output import to_own_streams

    def show(worker: int, stream: str, lines: bytes) -> None:
        with progress.above():
            to_own_streams(worker, stream, lines)

    return show


def summary_of(stage: Stage, run: Run) -> RunSummary:
    """What has become of the tasks of *stage* so far."""
    engine, account = stage.engine, stage.account
    return RunSummary(
        name=stage.name,
        mode=stage.info.mode,
        total=engine.admitted,
        succeeded=engine.succeeded,
        failed=engine.failed,
        duplicates=engine.duplicates,
        restored=engine.restored,
        cancelled=engine.cancelled,
        skipped=stage.skipped,
        retries=engine.retries,
        reruns=account.reruns,
        abandoned=max(account.abandoned, getattr(stage.executor, "abandoned", 0)),
        crashes=account.crashes,
        hook_errors=stage.customs.hook_errors,
        seconds=monotonic() - run.began,
        stopped=run.ending.reason if run.ending is not None else None,
        errors=account.errors(),
        slowest=account.slowest(),
    )
