"""Takes values and exceptions across a process boundary, one frame each.

Everything here runs user code (``__reduce__``, ``__setstate__``, ``__str__``) and none of it raises what that code
raises: a value that cannot cross becomes a reason in words. Needs the standard library and cloudpickle alone, since
it also runs on machines that have nothing else.
"""

from __future__ import annotations

import pickle
from typing import Any

import cloudpickle

from celestialflow_core.executors.tracebacks import TEXT_LIMIT, reason_of, safe_text, type_name

__all__ = ["PLAIN", "dump", "load", "pack_error"]

PLAIN = frozenset({int, float, complex, bool, str, bytes, type(None)})
"""Types whose pickling can neither fail nor run foreign code, so that they need no frame of their own."""


def dump(value: object) -> bytes:
    """*value* as a frame; raises whatever its pickling raises."""
    return cloudpickle.dumps(value)  # type: ignore[no-any-return]  # cloudpickle has no types


def load(frame: bytes) -> Any:
    """The value of a frame; raises whatever its unpickling raises."""
    return pickle.loads(frame)


def pack_error(error: BaseException) -> tuple[bytes | None, str, str, str]:
    """*error* as (frame, type name, text, reason): frame is None where the exception would not arrive, and why.

    Errors are rare, so each makes the round trip here, where it can still be described.
    """
    name = type_name(error)
    try:
        frame = dump(error)
        copy = load(frame)
    except BaseException as problem:
        return None, name, safe_text(error), reason_of(problem)
    if not isinstance(copy, BaseException):
        return None, name, safe_text(error), f"it is unpickled as {type(copy).__name__}"
    return frame, name, safe_text(error, TEXT_LIMIT), ""
