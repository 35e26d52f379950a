"""Turns what the worker stub reports, in plain tuples, into results and errors with sentences in them."""

from __future__ import annotations

from typing import Any

import celestialflow_core.executors.worker as stub
from celestialflow_core._call import Result
from celestialflow_core.errors import CelestialFlowError, NotPicklable, RemoteError, WorkerSetupError
from celestialflow_core.executors._packing import load
from celestialflow_core.executors.interface import describe
from celestialflow_core.executors.tracebacks import reason_of

__all__ = ["failure_result", "function_error", "function_not_picklable"]


def failure_result(failure: stub.Failure, args: tuple[Any, ...], worker: int | None, reruns: int = 0) -> Result:
    """The result of a call that failed.

    Args:
        failure: The stub's report.
        args: The call's arguments.
        worker: The index of the worker that ran it.
        reruns: How often the call had been started before.
    """
    id, seconds, kind, detail = failure
    traceback = None
    error: BaseException
    if kind != stub.RAISED:
        error = _not_picklable(kind, detail, args)
    elif isinstance(detail, BaseException):
        error = detail
    else:
        frame, name, text, reason, traceback = detail
        error = _rebuilt(frame, name, text, reason)
    return Result(id, error=error, seconds=seconds, worker=worker, traceback=traceback, reruns=reruns)


def _rebuilt(frame: bytes | None, name: str, text: str, reason: str) -> BaseException:
    if frame is None:
        return RemoteError(name, text, reason)
    try:
        error: BaseException = load(frame)
    except BaseException as problem:  # whatever the exception's own code raises here
        return RemoteError(name, text, reason_of(problem))
    return error


def _not_picklable(kind: str, unsent: stub.Unsent, args: tuple[Any, ...]) -> NotPicklable:
    task = describe(args)
    if kind in (stub.VALUE_DUMP, stub.VALUE_LOAD):
        what = f"The result of {task}"
        advice = "Return plain data instead, or run in threads, where nothing is pickled."
    else:
        what = f"The arguments of {task}" if unsent.argument is None else f"Argument {unsent.argument + 1} of {task}"
        advice = "Pass what it is made from, and make it in the function, or run in threads, where nothing is pickled."
    came_apart = kind in (stub.ARGUMENT_LOAD, stub.VALUE_LOAD)
    reason = f"it cannot be unpickled again, {unsent.reason}" if came_apart else unsent.reason
    return NotPicklable(what, reason, advice)


def function_error(problem: stub.Problem) -> CelestialFlowError:
    """Why no call can be run at all."""
    stage, reason, details = problem
    if stage == "pickling":
        return function_not_picklable(reason)
    return WorkerSetupError(
        f"A worker cannot load the function: {reason}. Make its module importable where the workers run, or send its "
        f"code along with cloudpickle.register_pickle_by_value(module).",
        details,
    )


def function_not_picklable(reason: str) -> NotPicklable:
    """The function cannot be sent to other processes."""
    return NotPicklable(
        "The function", reason, "Let it make what it needs itself, or run in threads, where nothing is pickled."
    )
