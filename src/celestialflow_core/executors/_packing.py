"""Takes values and exceptions across a process boundary, one frame each, and exceptions into text.

Everything here runs user code (``__reduce__``, ``__setstate__``, ``__str__``) and none of it raises what that code
raises: a value that cannot cross becomes a reason in words. Needs the standard library and cloudpickle alone, since
it also runs on machines that have nothing else.
"""

from __future__ import annotations

import pickle
import traceback
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import cloudpickle

__all__ = ["PLAIN", "dump", "format_error_text", "load", "pack_error", "reason_of", "safe_text", "type_name"]

TEXT_LIMIT = 32 * 1024
CHAIN_LIMIT = 8
FRAMES_AT_EACH_END = 15
GROUP_LIMIT = 5

PLAIN = frozenset({int, float, complex, bool, str, bytes, type(None)})
"""Types whose pickling can neither fail nor run foreign code, so that they need no frame of their own."""


def dump(value: object) -> bytes:
    """*value* as a frame; raises whatever its pickling raises."""
    return cloudpickle.dumps(value)  # type: ignore[no-any-return]  # cloudpickle has no types


def load(frame: bytes) -> Any:
    """The value of a frame; raises whatever its unpickling raises."""
    return pickle.loads(frame)


def safe_text(value: object, limit: int | None = None) -> str:
    """``str(value)``, cut to *limit* characters; a ``__str__`` that raises is named instead."""
    try:
        text = str(value)
    except BaseException as error:
        text = f"<{type(value).__name__}, whose str() raises {type(error).__name__}>"
    return text if limit is None or len(text) <= limit else text[: limit - 3] + "..."


def type_name(error: BaseException) -> str:
    """The qualified name of the type of *error*, without the module for a builtin."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def reason_of(error: BaseException) -> str:
    """One short line on *error*, to be quoted in a message."""
    return f"{type_name(error)}: {safe_text(error, 500)}".removesuffix(": ").rstrip(".")


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


def format_error_text(error: BaseException, limit: int = TEXT_LIMIT) -> str:
    """The traceback of *error* as text, like Python's, but bounded in frames, length of chain and characters.

    Survives cycles and long chains of causes, deep recursion, and exceptions whose ``__str__`` raises.
    """
    chain: list[tuple[BaseException, str]] = []
    seen: set[int] = set()
    link: BaseException | None = error
    joint = ""
    while link is not None and id(link) not in seen and len(chain) < CHAIN_LIMIT:
        seen.add(id(link))
        chain.append((link, joint))
        if link.__cause__ is not None:
            link, joint = link.__cause__, "\nThe above exception was the direct cause of the following exception:\n\n"
        elif link.__context__ is not None and not link.__suppress_context__:
            link, joint = link.__context__, "\nDuring handling of the above exception, another exception occurred:\n\n"
        else:
            link = None
    pieces = [] if link is None else ["(earlier exceptions of the chain are left out)\n\n"]
    for one, following in reversed(chain):
        pieces += _one(one)
        pieces.append(following)
    text = "".join(pieces)
    if len(text) <= limit:
        return text
    # The end says what happened and the beginning where it came from; the middle says least.
    head, tail = limit // 4, limit - limit // 4 - 30
    return f"{text[:head]}\n... ({len(text) - head - tail} characters)\n{text[-tail:]}"


def _one(error: BaseException, depth: int = 0) -> Iterator[str]:
    if error.__traceback__ is not None:
        yield "Traceback (most recent call last):\n"
        yield from _frames(error.__traceback__)
    yield f"{type_name(error)}: {safe_text(error)}".removesuffix(": ") + "\n"
    notes = getattr(error, "__notes__", None)
    for note in notes[:GROUP_LIMIT] if isinstance(notes, list) else ():
        yield safe_text(note) + "\n"
    if isinstance(error, BaseExceptionGroup) and depth < 3:
        for number, part in enumerate(error.exceptions[:GROUP_LIMIT], 1):
            lines = "".join(_one(part, depth + 1)).splitlines(keepends=True)
            yield f"  {number} of {len(error.exceptions)} in the group:\n"
            yield from (f"    {line}" for line in lines)


def _frames(trace: TracebackType) -> Iterator[str]:
    head: list[tuple[Any, int]] = []
    tail: deque[tuple[Any, int]] = deque(maxlen=FRAMES_AT_EACH_END)
    dropped = 0
    for frame, line in traceback.walk_tb(trace):
        if len(head) < FRAMES_AT_EACH_END:
            head.append((frame, line))
        else:
            dropped += len(tail) == FRAMES_AT_EACH_END
            tail.append((frame, line))
    yield from traceback.StackSummary.extract(iter(head)).format()
    if dropped:
        yield f"  ... ({dropped} frames)\n"
    yield from traceback.StackSummary.extract(iter(tail)).format()
