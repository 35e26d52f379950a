"""What goes wrong in a call, on its way from the worker to the parent.

An error is tried out before it is sent: pickled and loaded again, in the worker. Where that fails a `RemoteError` with
its type and text stands in. Errors are rare, so the double work does not matter, and no error can be lost on the way.
The traceback always travels as text.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

from celestialflow_core.errors import NotPicklable, RemoteError
from celestialflow_core.executors.process.pickling import decode, encode_from_worker
from celestialflow_core.executors.tracebacks import reason_of, safe_text, traceback_text, type_name

__all__ = ["ARGUMENT", "RAISED", "RESULT", "pack", "reason_of", "traceback_text", "unpack"]

RAISED = 0  # the function raised
ARGUMENT = 1  # the arguments could not be unpickled in the worker
RESULT = 2  # the result could not be pickled


def pack(error: BaseException, kind: int) -> bytes:
    """Pack *error* for the parent. Called in the worker; never raises an Exception."""
    trace = traceback_text(error, skip=1)
    if kind != RAISED:
        return pickle.dumps((kind, reason_of(error)[:2000], None, trace, None))
    frame: bytes | None
    try:
        frame = encode_from_worker(error)
        if type(decode(frame)) is not type(error):
            raise TypeError("what its pickle gives back is of another type")
        reason = None
    except BaseException as second:  # the error's own code runs here, and may raise anything
        frame, reason = None, reason_of(second)[:2000]
    text = safe_text(error)
    # The whole text goes only where it is all that is left; else the first part, for a parent that fails to load it.
    return pickle.dumps((kind, type_name(error), text if frame is None else text[:2000], trace, (frame, reason)))


def unpack(data: Any, task: str, blamed: Callable[[], str]) -> tuple[BaseException, str]:
    """The error that `pack` packed, and its traceback. Called in the parent.

    Args:
        data: The frame.
        task: What names the task in a message.
        blamed: Finds what names the argument that cannot be unpickled ("Argument 2 of task 7").
    """
    kind, first, text, trace, rest = decode(data)
    if kind == ARGUMENT:
        advice = "It was pickled here, but could not be rebuilt in the worker; look at its __reduce__ or __setstate__."
        return NotPicklable(blamed(), first, advice), trace
    if kind == RESULT:
        advice = "Return something that can be pickled, such as plain data or a path, or use threads."
        return NotPicklable(f"The result of {task}", first, advice), trace
    frame, reason = rest
    if frame is not None:
        try:
            error = decode(frame)
            if isinstance(error, BaseException):
                return error, trace
            reason = "what its pickle gives back is no exception"
        except BaseException as second:  # as in pack
            reason = reason_of(second)
    return RemoteError(first, text, reason or ""), trace
