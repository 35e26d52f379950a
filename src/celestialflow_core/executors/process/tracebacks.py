"""Exceptions as text, with bounds on everything: frames, links of the chain, characters. Nothing here can raise.

The standard formatter follows every link of a chain and every ``__str__``; a chain three thousand deep, or a cycle, or
a ``__str__`` that raises must not decide whether an error can be reported.
"""

from __future__ import annotations

from types import TracebackType

__all__ = ["safe_text", "traceback_text", "type_name"]

_LIMIT = 32 * 1024
_FIRST_FRAMES, _LAST_FRAMES = 10, 40
_LINKS = 8
_CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"


def type_name(error: BaseException) -> str:
    """The qualified name of the error's type."""
    kind = type(error)
    short = kind.__module__ in ("builtins", "__main__")
    return kind.__qualname__ if short else f"{kind.__module__}.{kind.__qualname__}"


def safe_text(error: BaseException) -> str:
    """``str(error)``, or what can be said instead."""
    try:
        return str(error)
    except BaseException as second:
        return f"<its __str__ raised {type(second).__name__}>"


def traceback_text(error: BaseException, skip: int = 0) -> str:
    """The traceback of *error* and its causes, as Python prints it, at most 32 KB.

    Args:
        error: The exception.
        skip: How many of its outermost frames are not the user's.
    """
    try:
        parts = [_one(error, skip)]
        seen = {id(error)}
        current = error
        for _ in range(_LINKS):
            before = current.__cause__
            joint = _CAUSE
            if before is None:
                before = None if current.__suppress_context__ else current.__context__
                joint = _CONTEXT
            if before is None:
                break
            if id(before) in seen:
                parts[:0] = ["(the chain of causes comes back to itself)\n", joint]
                break
            seen.add(id(before))
            parts[:0] = [_one(before, 0), joint]
            current = before
        else:
            if current.__cause__ is not None or current.__context__ is not None:
                parts[:0] = ["(earlier causes are left out)\n", _CAUSE]
        return _cut("".join(parts))
    except (Exception, RecursionError) as second:
        return f"{type_name(error)} (its traceback could not be formatted: {type(second).__name__})\n"


def _one(error: BaseException, skip: int) -> str:
    text = safe_text(error)
    line = f"{type_name(error)}: {text}\n" if text else f"{type_name(error)}\n"
    for note in getattr(error, "__notes__", ())[:20]:
        line += f"{note}\n"
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions[:20]:
            line += f"  | {type_name(member)}: {safe_text(member)[:500]}\n"
    return _cut(f"{_frames(error.__traceback__, skip)}{line}", _LIMIT // 2)


def _frames(trace: TracebackType | None, skip: int) -> str:
    import traceback

    frames = list(traceback.walk_tb(trace))[skip:]
    if not frames:
        return ""
    left_out = len(frames) - _FIRST_FRAMES - _LAST_FRAMES
    if left_out <= 0:
        shown = traceback.StackSummary.extract(iter(frames)).format()
    else:
        shown = [
            *traceback.StackSummary.extract(iter(frames[:_FIRST_FRAMES])).format(),
            f"  ... {left_out} frames are left out ...\n",
            *traceback.StackSummary.extract(iter(frames[-_LAST_FRAMES:])).format(),
        ]
    return "Traceback (most recent call last):\n" + "".join(shown)


def _cut(text: str, limit: int = _LIMIT) -> str:
    """*text* without its middle where it is longer than *limit* bytes."""
    data = text.encode("utf-8", "backslashreplace")
    if len(data) <= limit:
        return data.decode()
    half = limit // 2 - 50
    head, tail = data[:half].decode("utf-8", "ignore"), data[-half:].decode("utf-8", "ignore")
    return f"{head}\n... {len(data) - 2 * half} bytes are left out ...\n{tail}"
