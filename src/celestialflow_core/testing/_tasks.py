"""The functions that a contract gives to an executor. Of a module, so that any pickler can send them."""

from __future__ import annotations

import asyncio
import builtins
import concurrent.futures
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from celestialflow_core.executors.interface import current_worker

__all__ = [
    "BUILTIN_EXCEPTIONS",
    "DEATHS",
    "KINDS",
    "chatter",
    "double",
    "echo",
    "end_process",
    "hold",
    "misbehave",
    "move_away",
    "nap",
    "produce",
    "raise_builtin",
    "start_threads",
    "type_of_state",
    "whoami",
    "yield_nothing",
]

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


def _bottomless() -> Exception:
    return _bottomless()


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
    "message of 5 MB": (lambda: ValueError("message " * 625_000), ValueError),
    "recursion": (_bottomless, RecursionError),
    "chain of 3000 causes": (_chained, Exception),
    "cycle of causes": (_circular, Exception),
}
"""How a task can fail: what it raises, and of which type that is."""


def misbehave(kind: str, number: int) -> int:
    """Raises what *kind* says; an empty one, as `double`."""
    if kind:
        raise KINDS[kind][0]()
    return 2 * number


_PARTS: dict[str, tuple[Any, ...]] = {
    "UnicodeDecodeError": ("utf-8", b"x", 0, 1, "bad"),
    "UnicodeEncodeError": ("utf-8", "x", 0, 1, "bad"),
    "UnicodeTranslateError": ("x", 0, 1, "bad"),
    "BaseExceptionGroup": ("bad", [SystemExit(3), ValueError("bad")]),
    "ExceptionGroup": ("bad", [ValueError("bad"), KeyError("bad")]),
}

BUILTIN_EXCEPTIONS = sorted(
    name
    for name, one in vars(builtins).items()
    if isinstance(one, type) and issubclass(one, BaseException) and one.__name__ == name
)
"""Every exception class of `builtins`, without second names such as IOError."""


def raise_builtin(name: str) -> str:
    """Raises the builtin exception *name*; an empty one is fine."""
    if name:
        raise getattr(builtins, name)(*_PARTS.get(name, ("bad",)))
    return "fine"


def produce(size: int, byte: int) -> bytes:
    """So many bytes."""
    return bytes([byte]) * size


def chatter(size: int) -> int:
    """Writes so much to each of the standard streams."""
    for stream in (sys.stdout, sys.stderr):
        for _ in range(size // 100):
            stream.write("x" * 99 + "\n")
    return size


def start_threads(release: str) -> int:
    """Waits for three threads, and leaves behind one that ends when the file *release* is there."""
    done: list[int] = []
    threads = [threading.Thread(target=done.append, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    threading.Thread(target=_wait_for, args=(release,), daemon=True).start()
    for thread in threads:
        thread.join()
    return len(done)


def _wait_for(release: str) -> None:
    deadline = time.monotonic() + LONGEST_HOLD
    while not Path(release).exists() and time.monotonic() < deadline:
        time.sleep(0.01)


def yield_nothing() -> Iterator[None]:
    """A set-up that is a generator, and ends before it has yielded."""
    yield from ()


def type_of_state(_number: int) -> str:
    """What kind of thing the set-up has given."""
    return type(current_worker().state).__name__


DEATHS: dict[str, Callable[[], object]] = {
    "exit": lambda: os._exit(3),
    "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "SIGSEGV": lambda: os.kill(os.getpid(), signal.SIGSEGV),
}
"""How a call can end its process."""


def end_process(how: str, number: int) -> int:
    """Ends the process that it runs in; with an empty *how*, as `double`."""
    if how:
        DEATHS[how]()
        time.sleep(LONGEST_HOLD)  # a signal may take a moment
    return 2 * number


def move_away(_number: int) -> str:
    """Changes the working directory and the environment of its process."""
    os.chdir("/")
    os.environ["CELESTIALFLOW_MOVED"] = "1"
    return os.getcwd()
