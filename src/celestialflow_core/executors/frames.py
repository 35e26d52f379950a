"""The traceback of a task's error begins in the task, not in the worker that called it."""

from __future__ import annotations

__all__ = ["without_first_frame"]


def without_first_frame(error: BaseException) -> BaseException:
    """*error*, without the outermost frame of its traceback: that of the worker which has just caught it."""
    trace = error.__traceback__
    if trace is not None:
        error.__traceback__ = trace.tb_next
    return error
