"""The row that a store keeps of a task: the same columns in every store, made of an outcome in one place.

A `Row` holds texts, numbers and pickles that nobody has loaded. It is what a store writes, what `failures` and
`results` read, and what `merge` carries from one store to another.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from celestialflow_core._outcome import Outcome
from celestialflow_core._text import cut
from celestialflow_core.sinks._values import NotRestorable, clean, decode, encode, encode_error, restored_error
from celestialflow_core.sinks.interface import Record

__all__ = ["Row", "record_of", "rows_of"]


class Row(NamedTuple):
    """What a store keeps of one task. What the texts and pickles of a value mean is said in `_values`.

    Attributes:
        key: The task's.
        stage: The manager's name.
        task, task_pickle: The task.
        status: "success" or "error".
        value, value_pickle: The value of a success.
        error_type, error_message, error_place, error_traceback, error_pickle: The error of an error.
        attempts: How often the function had been called for it.
        seconds: How long the last attempt ran, or None.
        worker: The index of the worker that ran it, or None.
        at: When it was stored, in seconds since 1970.
    """

    key: str
    stage: str | None
    task: str
    task_pickle: bytes | None
    status: str
    value: str | None
    value_pickle: bytes | None
    error_type: str | None
    error_message: str | None
    error_place: str | None
    error_traceback: str | None
    error_pickle: bytes | None
    attempts: int
    seconds: float | None
    worker: int | None
    at: float


def rows_of(outcomes: Iterable[Outcome[Any, Any]], at: float) -> list[tuple[Any, ...]]:
    """The rows of *outcomes*, as plain tuples: to make a `Row` of each costs as much as all the rest.

    Raises:
        ValueError: One of them is no success and no error, or has no key.
    """
    rows: list[tuple[Any, ...]] = []
    stage: str | None = None
    stage_text: str | None = None
    for outcome in outcomes:
        key = outcome.key
        if type(key) is not str:
            raise ValueError(f"The outcome of {cut(outcome.task)} has no stable key, but {cut(key)}.")
        task, task_pickle = encode(outcome.task)
        if outcome.stage is not stage:
            stage = outcome.stage
            stage_text = None if stage is None else clean(stage)
        if outcome.status == "success":
            value, value_pickle = encode(outcome.value)
            rows.append((
                key, stage_text, task, task_pickle, "success", value, value_pickle, None, None, None, None, None,
                outcome.attempts, outcome.seconds, outcome.worker, at,
            ))  # fmt: skip
        elif outcome.status == "error" and outcome.error is not None:
            rows.append((
                key, stage_text, task, task_pickle, "error", None, None,
                *encode_error(outcome.error, outcome.traceback),
                outcome.attempts, outcome.seconds, outcome.worker, at,
            ))  # fmt: skip
        else:
            raise ValueError(f"The outcome of {cut(outcome.task)} is {outcome.status!r}; a store takes what has ended.")
    return rows


def record_of(
    key: str,
    status: str,
    value: str | None,
    value_pickle: bytes | None,
    error_type: str | None,
    error_message: str | None,
    error_traceback: str | None,
    error_pickle: bytes | None,
    attempts: int,
    seconds: float | None,
) -> Record | None:
    """What a run that goes on is told of a task, or None where its value cannot be had again."""
    if status == "success":
        try:
            result = decode("null" if value is None else value, value_pickle)
        except NotRestorable:
            return None
        return Record(key=key, status=status, value=result, attempts=attempts, seconds=seconds)
    error = restored_error(error_type or "Exception", error_message or "", error_pickle)
    return Record(key=key, status=status, error=error, traceback=error_traceback, attempts=attempts, seconds=seconds)
