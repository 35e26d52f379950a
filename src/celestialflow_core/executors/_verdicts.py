"""Turns what the worker stub reports, in plain tuples, into results and errors with sentences in them."""

from __future__ import annotations

from typing import Any

import celestialflow_core.executors.worker as stub
from celestialflow_core._call import Calls, Result, Successes
from celestialflow_core.errors import CelestialFlowError, NotPicklable, RemoteError, TaskTimeout, WorkerSetupError
from celestialflow_core.executors._packing import load
from celestialflow_core.executors.interface import describe
from celestialflow_core.executors.tracebacks import reason_of

__all__ = ["failure_result", "function_error", "function_not_picklable", "results_of"]


def results_of(returned: stub.Returned, calls: Calls, worker: int | None, reruns: int = 0) -> Successes | list[Result]:
    """What *returned* says of *calls*, in the order in which they ran.

    Args:
        returned: What came of the batch, unpacked.
        calls: The batch.
        worker: The index of the worker that ran it.
        reruns: How often the calls had been started before.
    """
    successes = Successes(returned.ids, returned.values, returned.seconds, [worker] * len(returned.ids))
    if not returned.failures and not reruns:
        return successes
    # "So many failures in a row" must not depend on how a batch is sent.
    args = dict(zip(calls.ids, calls.args, strict=True))
    results = {one[0]: failure_result(one, args[one[0]], worker, reruns) for one in returned.failures}
    for one in successes:
        results[one.id] = Result(one.id, one.value, None, one.seconds, worker, reruns=reruns)
    return [results[id] for id in calls.ids if id in results]


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
    if kind == stub.TIMED_OUT:
        error = TaskTimeout(describe(args), *detail)
    elif kind != stub.RAISED:
        argument, reason = detail
        error = _not_picklable(kind, argument, reason, args)
    elif isinstance(detail, BaseException):
        error = detail
    else:
        frame, name, text, problem, traceback = detail
        error = _rebuilt(frame, name, text, problem)
    return Result(id, error=error, seconds=seconds, worker=worker, traceback=traceback, reruns=reruns)


def _rebuilt(frame: bytes | None, name: str, text: str, reason: str) -> BaseException:
    if frame is None:
        return RemoteError(name, text, reason)
    try:
        error: BaseException = load(frame)
    except BaseException as problem:  # whatever the exception's own code raises here
        return RemoteError(name, text, reason_of(problem))
    return error


def _not_picklable(kind: str, argument: int | None, reason: str, args: tuple[Any, ...]) -> NotPicklable:
    task = describe(args)
    if kind in (stub.VALUE_DUMP, stub.VALUE_LOAD):
        what = f"The result of {task}"
        advice = "Return plain data instead, or run in threads, where nothing is pickled."
    else:
        what = f"The arguments of {task}" if argument is None else f"Argument {argument + 1} of {task}"
        advice = "Pass what it is made from, and make it in the function, or run in threads, where nothing is pickled."
    came_apart = kind in (stub.ARGUMENT_LOAD, stub.VALUE_LOAD)
    return NotPicklable(what, f"it cannot be unpickled again, {reason}" if came_apart else reason, advice)


def function_error(problem: stub.Problem) -> CelestialFlowError:
    """Why no call can be run at all."""
    stage, reason, details = problem
    if stage == "pickling":
        return function_not_picklable(reason)
    if stage == "setup":
        return WorkerSetupError(reason, details)
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
