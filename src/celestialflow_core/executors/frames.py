"""A task's error as the task raised it: its traceback begins in the task, and its class's own code is in nobody's way.

An exception class may define ``__getattr__`` or ``__getattribute__``, and raise in it whatever it likes. What
`BaseException` itself keeps is read past that, by its descriptors.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

__all__ = ["cause_of", "context_of", "traceback_of", "without_first_frame"]

_slots: Any = BaseException.__dict__
traceback_of: Callable[[BaseException], TracebackType | None] = _slots["__traceback__"].__get__
cause_of: Callable[[BaseException], BaseException | None] = _slots["__cause__"].__get__
context_of: Callable[[BaseException], BaseException | None] = _slots["__context__"].__get__
_set_traceback: Callable[[BaseException, TracebackType | None], None] = _slots["__traceback__"].__set__


class _Nothing(Exception):
    """No error is one of these."""


def without_first_frame(error: BaseException) -> BaseException:
    """*error*, without the outermost frame of its traceback: that of the worker which has just caught it.

    One that cannot even be asked for its class, as ``isinstance`` does, could be handled by nobody: a `RemoteError`
    stands in for it.
    """
    trace = traceback_of(error)
    if trace is not None:
        trace = trace.tb_next
        _set_traceback(error, trace)
    try:
        isinstance(error, _Nothing)
    except Exception as second:
        from celestialflow_core.errors import RemoteError
        from celestialflow_core.executors.tracebacks import reason_of, safe_text, type_name

        return RemoteError(type_name(error), safe_text(error), reason_of(second)).with_traceback(trace)
    return error
