"""The functions that a contract gives to an executor. Of a module, so that any pickler can send them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from celestialflow_core.executors.interface import current_worker

__all__ = ["KINDS", "double", "echo", "hold", "misbehave", "nap", "whoami"]

LONGEST_HOLD = 60.0


def _also(coroutine: Callable[..., Awaitable[Any]]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Names the coroutine function that stands in for the decorated one in an `AsyncExecutor`."""

    def mark(func: Callable[..., Any]) -> Callable[..., Any]:
        vars(func)["coroutine"] = coroutine
        return func

    return mark


def double(number: int) -> int:
    """The plainest task."""
    return 2 * number


def echo(*args: Any) -> tuple[Any, ...]:
    """Gives back what it was given."""
    return args


async def _nap(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


@_also(_nap)
def nap(seconds: float) -> float:
    """Takes its time."""
    time.sleep(seconds)
    return seconds


async def _hold(started: str, release: str) -> bool:
    if not release:
        return True
    Path(started).touch()
    deadline = time.monotonic() + LONGEST_HOLD
    while not Path(release).exists() and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    return Path(release).exists()


@_also(_hold)
def hold(started: str, release: str) -> bool:
    """Runs until a file is there: says that it has *started*, and whether it was released in time.

    Released calls end also where nobody could end them, so a test leaves nothing behind. With two empty names, a call
    that is done at once.
    """
    if not release:
        return True
    Path(started).touch()
    deadline = time.monotonic() + LONGEST_HOLD
    while not Path(release).exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return Path(release).exists()


def whoami(_number: int) -> tuple[int, Any]:
    """The index and the state of the worker that runs it."""
    worker = current_worker()
    return worker.index, worker.state


class Strange(BaseException):
    """Not an Exception."""


class TwoParts(Exception):
    """Pickles, and cannot be rebuilt: it hands one argument up and wants two."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")
        self.first, self.second = first, second


class Speechless(Exception):
    """Has no text."""

    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


class Locked(Exception):
    """Cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("it holds a lock")
        self.lock = threading.Lock()


def _chained() -> Exception:
    error = Exception("link 0")
    for number in range(1, 3000):
        following = Exception(f"link {number}")
        following.__cause__ = error
        error = following
    return error


def _circular() -> Exception:
    first, second = Exception("first"), Exception("second")
    first.__cause__, second.__cause__ = second, first
    return first


KINDS: dict[str, tuple[Callable[[], BaseException], type[BaseException]]] = {
    "exception": (lambda: ValueError("bad"), ValueError),
    "base exception": (lambda: Strange("bad"), Strange),
    "SystemExit": (lambda: SystemExit(3), SystemExit),
    "KeyboardInterrupt": (KeyboardInterrupt, KeyboardInterrupt),
    "StopIteration": (lambda: StopIteration(1), StopIteration),
    "GeneratorExit": (GeneratorExit, GeneratorExit),
    "asyncio.CancelledError": (asyncio.CancelledError, asyncio.CancelledError),
    "futures.CancelledError": (concurrent.futures.CancelledError, concurrent.futures.CancelledError),
    "MemoryError": (MemoryError, MemoryError),
    "str raises": (Speechless, Speechless),
    "two arguments": (lambda: TwoParts("one", "other"), TwoParts),
    "unpicklable": (Locked, Locked),
    "chain of 3000 causes": (_chained, Exception),
    "cycle of causes": (_circular, Exception),
}
"""How a task can fail: what it raises, and of which type that is."""


def misbehave(kind: str, number: int) -> int:
    """Raises what *kind* says; an empty one, as `double`."""
    if kind:
        raise KINDS[kind][0]()
    return 2 * number
