"""Exceptions as text, with bounds on everything: frames, links of the chain, bytes. Nothing here can raise.

Needs the standard library alone, since it runs in every worker process, also on machines that have nothing else.
"""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Iterator
from itertools import islice
from types import TracebackType
from typing import Any

__all__ = ["TEXT_LIMIT", "reason_of", "safe_text", "traceback_text", "type_name"]

TEXT_LIMIT = 32 * 1024  # bytes
CHAIN_LIMIT = 8
FRAMES_AT_EACH_END = 15
GROUP_LIMIT = 5

# Past what an exception class makes of reading its attributes; as in `frames`, which is not among what travels.
_slots: Any = BaseException.__dict__
_traceback_of, _cause_of = _slots["__traceback__"].__get__, _slots["__cause__"].__get__
_context_of, _hides_context = _slots["__context__"].__get__, _slots["__suppress_context__"].__get__


def safe_text(value: object, limit: int | None = None) -> str:
    """``str(value)``, cut to *limit* characters; a ``__str__`` that raises is named instead."""
    try:
        text = str(value)
    except BaseException as error:
        text = f"<{type(value).__name__}, whose str() raises {type(error).__name__}>"
    return text if limit is None or len(text) <= limit else text[: limit - 3] + "..."


def type_name(error: BaseException) -> str:
    """The qualified name of the type of *error*, without the module for a builtin or a script."""
    kind = type(error)
    return (
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )


def reason_of(error: BaseException) -> str:
    """One short line on *error*, to be quoted in a message."""
    return f"{type_name(error)}: {safe_text(error, 500)}".removesuffix(": ").rstrip(".")


def traceback_text(error: BaseException, skip: int = 0) -> str:
    """The traceback of *error* as text, like Python's, but bounded in frames, length of chain and bytes.

    Survives cycles and long chains of causes, deep recursion, and exceptions whose ``__str__`` raises.

    Args:
        error: The exception.
        skip: How many of its outermost frames are not the user's.
    """
    chain: list[tuple[BaseException, str]] = []
    seen: set[int] = set()
    link: BaseException | None = error
    joint = ""
    while link is not None and id(link) not in seen and len(chain) < CHAIN_LIMIT:
        seen.add(id(link))
        chain.append((link, joint))
        cause, context = _cause_of(link), _context_of(link)
        if cause is not None:
            link, joint = cause, "\nThe above exception was the direct cause of the following exception:\n\n"
        elif context is not None and not _hides_context(link):
            link, joint = context, "\nDuring handling of the above exception, another exception occurred:\n\n"
        else:
            link = None
    pieces = [] if link is None else ["(earlier exceptions of the chain are left out)\n\n"]
    for one, following in reversed(chain):
        pieces += _one(one, skip if one is error else 0)
        pieces.append(following)
    return _cut("".join(pieces))


def _cut(text: str) -> str:
    """*text* without a part of its middle where it is too long: the end says what happened, the beginning where."""
    data = text.encode("utf-8", "backslashreplace")
    if len(data) <= TEXT_LIMIT:
        return data.decode()
    head, tail = TEXT_LIMIT // 4, TEXT_LIMIT - TEXT_LIMIT // 4 - 60
    first, last = data[:head].decode("utf-8", "ignore"), data[-tail:].decode("utf-8", "ignore")
    return f"{first}\n... ({len(data) - head - tail} bytes are left out)\n{last}"


def _one(error: BaseException, skip: int = 0, depth: int = 0) -> Iterator[str]:
    trace = _traceback_of(error)
    if trace is not None:
        frames = list(_frames(trace, skip))
        if frames:
            yield "Traceback (most recent call last):\n"
        yield from frames
    yield f"{type_name(error)}: {safe_text(error)}".removesuffix(": ") + "\n"
    notes = _notes_of(error)
    for note in notes[:GROUP_LIMIT] if isinstance(notes, list) else ():
        yield safe_text(note) + "\n"
    if issubclass(type(error), BaseExceptionGroup) and depth < 3:
        assert isinstance(error, BaseExceptionGroup)
        for number, part in enumerate(error.exceptions[:GROUP_LIMIT], 1):
            lines = "".join(_one(part, 0, depth + 1)).splitlines(keepends=True)
            yield f"  {number} of {len(error.exceptions)} in the group:\n"
            yield from (f"    {line}" for line in lines)


def _notes_of(error: BaseException) -> object:
    try:
        return getattr(error, "__notes__", None)
    except Exception:  # its own __getattr__
        return None


def _frames(trace: TracebackType, skip: int) -> Iterator[str]:
    head: list[tuple[Any, int]] = []
    tail: deque[tuple[Any, int]] = deque(maxlen=FRAMES_AT_EACH_END)
    dropped = 0
    for frame, line in islice(traceback.walk_tb(trace), skip, None):
        if len(head) < FRAMES_AT_EACH_END:
            head.append((frame, line))
        else:
            dropped += len(tail) == FRAMES_AT_EACH_END
            tail.append((frame, line))
    yield from traceback.StackSummary.extract(iter(head)).format()
    if dropped:
        yield f"  ... ({dropped} frames are left out)\n"
    yield from traceback.StackSummary.extract(iter(tail)).format()
