"""What a run does to the exceptions of its tasks: a note that says which task it was, and no locals kept alive."""

from __future__ import annotations

import traceback
from typing import Any

from celestialflow_core._text import cut
from celestialflow_core.executors.frames import cause_of, context_of, traceback_of

__all__ = ["annotate", "forget_locals"]

_MARK = "In celestialflow: "
_UNPACK = " The task was its one argument; with unpack_task_args=True its items are the arguments."
_LINKS = 16  # of a chain of causes; a chain may be thousands long, or a ring


def annotate(error: BaseException, task: Any, attempt: int, attempts: int, *, whole: bool = False) -> None:
    """Add a note to *error* (PEP 678) with the task and the attempt; an exception object gets only one.

    Args:
        error: What the task raised.
        task: The task.
        attempt: Which attempt it was, from 1.
        attempts: How many there could have been.
        whole: Whether the task itself was the one argument of the function.
    """
    try:
        if not any(str(note).startswith(_MARK) for note in getattr(error, "__notes__", ())):
            hint = _UNPACK if whole and _lacks_arguments(error, task) else ""
            error.add_note(f"{_MARK}task {cut(task)}, attempt {attempt} of {attempts}.{hint}")
    except Exception:  # an exception class may refuse attributes, and then goes without the note
        return


def _lacks_arguments(error: BaseException, task: Any) -> bool:
    """Whether the function wanted more arguments than one, and the task looks as if it were all of them."""
    return isinstance(error, TypeError) and isinstance(task, tuple | list) and "required positional arg" in str(error)


def forget_locals(error: BaseException) -> None:
    """Clear the frames of *error* and of what it was raised from, so that keeping it keeps no arguments alive."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen and len(seen) < _LINKS:
        seen.add(id(link))
        traceback.clear_frames(traceback_of(link))
        link = cause_of(link) or context_of(link)
