"""What becomes of a call that has ended: a success, another attempt, or an error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from celestialflow_core._call import Result, Successes
from celestialflow_core._driver.conduct import FATAL, silent_end, stray
from celestialflow_core.errors import TaskAbandoned, WorkerCrashed

if TYPE_CHECKING:
    from celestialflow_core._driver.stage import Stage

__all__ = ["settle"]

DEADLY = 2  # a call that has ended so many workers is not tried again, whoever asks for it


def settle(stage: Stage, part: Successes | Result, now: float) -> None:
    """Take in what the executor delivered: a run of successes, or another result."""
    if isinstance(part, Result):
        _settle_one(stage, part, now)
    elif stage.customs.process is None and stage.judge is None:
        _succeed(stage, part.ids, part.values, part.seconds, part.workers, now)
    else:
        _process(stage, part, now)


def _succeed(
    stage: Stage,
    ids: Sequence[int],
    values: Sequence[Any],
    seconds: Sequence[float | None],
    workers: Sequence[int | None],
    now: float,
) -> None:
    known, tasks, tries = stage.engine.succeed(ids, now)
    if len(known) != len(ids):  # some were late: settled before, or never ours
        _unknown(stage, ids)
        # Of a call that was delivered twice the first delivery counts, so later ones are looked up first.
        position = {ids[at]: at for at in reversed(range(len(ids)))}
        at = [position[id] for id in known]
        values = [values[i] for i in at]
        seconds = [seconds[i] for i in at]
        workers = [workers[i] for i in at]
    gathered = stage.gathered
    if known:
        gathered.runs.append((known, tasks, values, seconds, workers))
    if tries:
        gathered.tries.update(tries)


def _process(stage: Stage, part: Successes, now: float) -> None:
    process, judge = stage.customs.process, stage.judge
    engine = stage.engine
    seen = set(stage.forfeited)  # an executor may deliver a call twice, also in one batch
    ids: list[int] = []
    values: list[Any] = []
    at: list[int] = []
    try:
        for index, id in enumerate(part.ids):
            if not engine.is_running(id) or id in seen:
                engine.late += 1
                _unknown(stage, (id,))
                continue
            seen.add(id)
            value = part.values[index]
            try:
                if process is not None:
                    value = process(engine.task(id), value)
                if judge is not None:
                    stage.verdicts[id] = judge(value)
            except KeyboardInterrupt:
                stage.forfeited.add(id)  # a second delivery must not stand in for the one that was lost
                stage.rest = part[index + 1 :]
                raise
            except BaseException as error:
                stage.fail(id, error, now, part.seconds[index], part.workers[index])
            else:
                ids.append(id)
                values.append(value)
                at.append(index)
    finally:
        _succeed(stage, ids, values, [part.seconds[i] for i in at], [part.workers[i] for i in at], now)


def _settle_one(stage: Stage, result: Result, now: float) -> None:
    if result.id == FATAL and result.error is not None:
        stage.fatal = stage.fatal or result.error
        return
    stage.account.reruns += result.reruns
    engine, error = stage.engine, result.error
    if not engine.is_running(result.id):
        engine.late += 1
        _unknown(stage, (result.id,))
        return
    if error is None:
        settle(stage, Successes((result.id,), (result.value,), (result.seconds,), (result.worker,)), now)
        return
    task, attempt = engine.task(result.id), engine.attempt(result.id)
    if isinstance(error, TaskAbandoned):
        stage.account.abandoned += 1
    elif isinstance(error, WorkerCrashed):
        stage.account.crashes += 1
        error.attempt = (attempt, stage.retry.max_retries + 1)
    try:
        delay = _delay(stage, task, error, attempt)
    except KeyboardInterrupt:
        stage.fail(result.id, error, now, result.seconds, result.worker, result.traceback, result.output)
        raise
    except BaseException as hook_error:
        hook_error.__cause__ = hook_error.__cause__ or error
        stage.fail(result.id, hook_error, now, result.seconds, result.worker, result.traceback, result.output)
        return
    if delay is None:
        stage.fail(result.id, error, now, result.seconds, result.worker, result.traceback, result.output)
        return
    engine.retry(result.id, delay, now)
    for observer in stage.observers:
        observer.retried(task, error, attempt, delay)
    stage.customs.tell("on_retry", task, error, attempt, delay)


def _unknown(stage: Stage, ids: Sequence[int]) -> None:
    """Some of *ids* have no call that waits for them: of one that no call ever had somebody has to hear, once a run."""
    if FATAL in ids:
        stage.fatal = stage.fatal or silent_end(stage.info.mode)
    elif not stage.strayed and (text := stray(stage.info.mode, ids, stage.ids.given)) is not None:
        stage.strayed = True
        stage.warn(text)


def _delay(stage: Stage, task: Any, error: BaseException, attempt: int) -> float | None:
    """Seconds until the next attempt, or None if there is none."""
    if attempt > stage.retry.max_retries or not stage.retrying:
        return None
    if isinstance(error, WorkerCrashed) and error.crashes >= DEADLY:
        return None
    if not stage.customs.decides_retries:
        return stage.retry.backoff.delay(attempt, stage.random()) if stage.retry.wants(error) else None
    verdict = stage.customs.should_retry(task, error, attempt)
    if not (stage.retry.wants(error) if verdict is None else verdict):
        return None
    delay = stage.customs.retry_delay(task, error, attempt)
    return stage.retry.backoff.delay(attempt, stage.random()) if delay is None else delay
