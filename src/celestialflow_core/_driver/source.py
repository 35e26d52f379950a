"""The user's iterable, pulled no further than the run wants."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, Iterable, Iterator
from itertools import islice
from operator import index, length_hint
from time import monotonic
from typing import Any

from celestialflow_core._driver.user_code import call

__all__ = ["Source", "check_iterable", "check_total", "is_in_memory"]

# Iterators over containers that are in memory: a pull cannot block, so many tasks may be pulled between two looks at
# what has settled. Anything else is pulled one by one, with everything that is ready handed over before each pull.
_EMPTY: tuple[Iterable[Any], ...] = (
    *([], (), {}, {}.keys(), {}.values(), {}.items(), set(), frozenset(), deque(), b""),
    *(range(0), range(2**80)),
)
_IN_MEMORY = frozenset(type(iter(empty)) for empty in _EMPTY)


def is_in_memory(iterator: Iterator[Any]) -> bool:
    """True if *iterator* goes through a container of Python's own, so that a pull runs no code of the user's."""
    return type(iterator) in _IN_MEMORY


def check_iterable(tasks: object) -> None:
    """Refuse what cannot be the tasks of a run.

    Raises:
        TypeError: It is a str or bytes, or not iterable; the message says how to pass one task.
    """
    if isinstance(tasks, str | bytes | bytearray):
        raise TypeError(
            f"tasks must be an iterable of tasks, got one {type(tasks).__name__}. To run one task, put it in a list: "
            f"[{tasks[:20]!r}]."
        )
    if not any(hasattr(type(tasks), name) for name in ("__iter__", "__aiter__", "__getitem__")):
        name = getattr(tasks, "__name__", None)
        advice = f"Call it: {name}()." if callable(tasks) and name else "To run one task, put it in a list."
        raise TypeError(f"tasks must be an iterable of tasks, got {type(tasks).__name__}. {advice}")


def check_total(total: Any) -> None:
    """Refuse what cannot be the number of tasks.

    Raises:
        TypeError, ValueError: It is neither None nor an int of at least 0.
    """
    if total is None:
        return
    text = f"total must be an int of at least 0, or None where nobody knows, got {total!r}."
    if not hasattr(type(total), "__index__"):
        raise TypeError(text)
    if index(total) < 0:
        raise ValueError(text)


class Source:
    """Pulls tasks from *tasks*.

    Args:
        tasks: The user's iterable.
        total: How many there will be, where the user says so.
        patience: For how many seconds to go on with an iterable that runs the user's code; 0: one task at a time.

    Attributes:
        exhausted: True when there are no more, or none are wanted any more.
        error: What the iterable raised, or None.
        interrupt: The KeyboardInterrupt that came out of it, or None.
        total: How many tasks there will be, where that can be told beforehand.
    """

    __slots__ = ("_in_memory", "_iterator", "_patience", "error", "exhausted", "interrupt", "total")

    def __init__(self, tasks: Iterable[Any], total: int | None, patience: float = 0.0) -> None:
        if isinstance(tasks, AsyncIterable):
            raise TypeError(
                "tasks is an async iterable, which start and stream cannot pull. Use start_async or stream_async."
            )
        self.total = total if total is not None else _length(tasks)
        self._iterator: Iterator[Any] = call(iter, tasks)
        self._in_memory = is_in_memory(self._iterator)
        self._patience = patience
        self.exhausted = False
        self.error: BaseException | None = None
        self.interrupt: KeyboardInterrupt | None = None

    def take(self, most: int) -> list[Any]:
        """Up to *most* tasks; one by one, unless the iterable is a container in memory.

        What it raises is kept in ``error``, a KeyboardInterrupt in ``interrupt``. A task that the iterable has given
        is in the list even if a Ctrl-C arrives on the way: it goes there in the same step of the interpreter.
        """
        chunk: list[Any] = []
        try:
            if self._in_memory:
                chunk.extend(islice(self._iterator, most))
                self.exhausted = len(chunk) < most
            else:
                deadline = monotonic() + self._patience if self._patience else 0.0
                while not self.exhausted and len(chunk) < most:
                    before = len(chunk)
                    call(chunk.extend, islice(self._iterator, 1))
                    self.exhausted = len(chunk) == before
                    if not deadline or monotonic() > deadline:
                        break
        except KeyboardInterrupt as error:
            self.interrupt = error
            self.exhausted = True
        except BaseException as error:
            self.error = error
            self.exhausted = True
        return chunk

    def close(self) -> None:
        """Take nothing more."""
        self.exhausted = True


def _length(tasks: object) -> int | None:
    """The length of *tasks*, or None where it does not know it, or will not tell."""
    try:
        hint = call(length_hint, tasks, -1)
    except Exception:
        return None
    return hint if hint >= 0 else None
