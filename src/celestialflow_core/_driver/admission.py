"""How tasks get into a stage: each has a key, some are duplicates, some are known from an earlier run."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import TYPE_CHECKING, Any

from celestialflow_core._driver.storage import Stored
from celestialflow_core._keys import IdentityKey, key_of
from celestialflow_core.sinks.interface import Record

if TYPE_CHECKING:
    from celestialflow_core._driver.stage import Stage

__all__ = ["admit", "refuse"]


def admit(stage: Stage, tasks: Sequence[Any], now: float, kin: Sequence[Any] | None = None) -> None:
    """Take *tasks* into the engine; what has no usable key fails at once.

    Args:
        stage: The stage.
        tasks: The tasks.
        now: The moment.
        kin: Where each came from, if not from the source: a `Kin`, or only the parent's id in a run that does not
            trace its tasks.
    """
    if stage.stored is not None:
        _admit_stored(stage, stage.stored, tasks, now, kin)
    else:
        _admit(stage, stage.number(tasks, kin), tasks, now)


def _admit(stage: Stage, ids: Sequence[int], tasks: Sequence[Any], now: float) -> None:
    engine = stage.engine
    if not engine.deduplicate:
        engine.admit(ids, tasks, None, now)
        return
    if stage.customs.key is None:
        try:
            duplicates = engine.admit(ids, tasks, tasks, now)
        except BaseException:  # a task that cannot be hashed or compared: find out which, one by one
            pass
        else:
            for id, task, first in duplicates:
                stage.note(stage.outcome(id, task, "duplicate", stage.keys.pop(id, task), original=first))
            return
    for at, id in enumerate(ids):
        try:
            _admit_one(stage, id, tasks[at], now)
        except KeyboardInterrupt:  # in the key hook; what has been taken is counted all the same
            engine.admit(ids[at:], tasks[at:], None, now)
            raise


def refuse(stage: Stage, task: Any, error: BaseException, kin: Any, now: float) -> None:
    """Take in a task that fails at once, with *error*: what should have made it of a result has failed."""
    id = stage.number([task], None if kin is None else [kin])[0]
    stage.load.stirred.add(stage.place)
    if stage.stored is not None:
        stage.keys[id] = None  # it has no stable key
    stage.engine.refuse(id, now)
    stage.note(stage.error(id, task, error, attempts=0))


def _admit_stored(stage: Stage, stored: Stored, tasks: Sequence[Any], now: float, kin: Sequence[Any] | None) -> None:
    """As `admit`, where outcomes are stored under a stable key, and may be known from an earlier run."""
    ask = stage.customs.key
    keys: list[str | BaseException] = []
    try:
        for task in tasks:
            try:
                answer = None if ask is None else ask(task)
                keys.append(stored.key_of(task if answer is None else answer))
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                keys.append(error)
        stable = [key for key in keys if isinstance(key, str) and stored.is_of_shard(key)]
        known = stored.known(stable)
        wanted: Container[str] | None = None
        if stored.resume == "failed" and kin is None:
            wanted = {*stored.failed(stable), *known}
    except BaseException:  # what has been taken is counted all the same
        stage.engine.admit(stage.number(tasks, kin), tasks, None, now)
        raise
    for at, key in enumerate(keys):
        origin = None if kin is None else kin[at]
        if isinstance(key, str) and not _is_wanted(stored, key, wanted):
            stage.skipped += 1
            continue
        try:
            if isinstance(key, BaseException):
                refuse(stage, tasks[at], key, origin, now)
            else:
                record = None if stored.is_stale(tasks[at]) else known.get(key)
                _admit_known(stage, tasks[at], key, record, now, None if kin is None else [origin])
        except BaseException:
            rest = slice(at + 1, None)
            stage.engine.admit(stage.number(tasks[rest], None if kin is None else kin[rest]), tasks[rest], None, now)
            raise


def _is_wanted(stored: Stored, key: str, wanted: Container[str] | None) -> bool:
    return stored.is_of_shard(key) and (wanted is None or key in wanted)


def _admit_known(
    stage: Stage, task: Any, key: str, record: Record | None, now: float, kin: Sequence[Any] | None
) -> None:
    """Take in one task. If its outcome is known, what comes of it is as if it had just been computed."""
    id = stage.number([task], kin)[0]
    stage.keys[id] = key
    if record is None:
        _admit(stage, (id,), [task], now)
        return
    try:
        verdict = stage.judge(record.value) if stage.judge is not None and record.error is None else None
    except BaseException as error:
        stage.engine.refuse(id, now)
        stage.note(stage.error(id, task, error, attempts=0))
        if isinstance(error, KeyboardInterrupt):
            raise
        return
    try:
        first = stage.engine.restore(id, key_of(task), now)
    except Exception:  # it cannot be hashed or compared: then it is no other task
        first = stage.engine.restore(id, IdentityKey(task), now)
    del stage.keys[id]
    if first is not None:
        stage.note(stage.outcome(id, task, "duplicate", key, original=first))
        return
    if verdict is not None:
        stage.verdicts[id] = verdict
    stage.note(
        stage.outcome(
            id,
            task,
            "restored",
            key,
            value=record.value,
            error=record.error,
            traceback=record.traceback,
            attempts=record.attempts,
            seconds=record.seconds,
        )
    )


def _admit_one(stage: Stage, id: int, task: Any, now: float) -> None:
    try:
        key = stage.customs.key(task) if stage.customs.key is not None else None
        key = key_of(task if key is None else key)
        duplicates = stage.engine.admit((id,), (task,), (key,), now)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        error.add_note("This came from the task's key. The task_key hook can give another one.")
        stage.engine.refuse(id, now)
        stage.note(stage.error(id, task, error, attempts=0))
        return
    for id, task, first in duplicates:
        stage.note(stage.outcome(id, task, "duplicate", stage.keys.pop(id, key), original=first))
    if not duplicates and key is not task:
        stage.keys.setdefault(id, key)
