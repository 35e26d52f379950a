"""Values that are hostile to pickling, and the functions that take, give and raise them.

All are harmless where nothing is pickled. Of a module, so that a pickler knows the classes themselves.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

__all__ = ["VALUES", "Carrier", "give", "make", "take", "throw"]


class Misfit(BaseException):
    """Not an Exception, so that who guards against Exception alone is found out."""


def _refuse(*_: object) -> NoReturn:
    raise ValueError("cannot be rebuilt")


def _refuse_strangely(*_: object) -> NoReturn:
    raise Misfit("cannot be rebuilt")


class RefusesToBePickled:
    """Raises in ``__reduce__``."""

    def __reduce__(self) -> NoReturn:
        raise ValueError("cannot be pickled")


class RefusesStrangely:
    """Raises no Exception in ``__reduce__``."""

    def __reduce__(self) -> NoReturn:
        raise Misfit("cannot be pickled")


class CannotBeRebuilt:
    """Is pickled, and raises when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _refuse, ()


class CannotBeRebuiltStrangely:
    """Is pickled, and raises no Exception when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _refuse_strangely, ()


def _generator() -> Iterator[int]:
    yield 1


def _deep() -> list[Any]:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


VALUES: dict[str, Callable[[], Any]] = {
    "lock": threading.Lock,
    "generator": _generator,
    "function": lambda: lambda: 1,
    "RefusesToBePickled": RefusesToBePickled,
    "RefusesStrangely": RefusesStrangely,
    "CannotBeRebuilt": CannotBeRebuilt,
    "CannotBeRebuiltStrangely": CannotBeRebuiltStrangely,
    "list": _deep,
}
"""How a value can be hostile; each name is a part of its type's."""


class Carrier(Exception):
    """An exception that holds something."""

    def __init__(self, cargo: Any) -> None:
        super().__init__("it carries something")
        self.cargo = cargo


def make(kind: str) -> Any:
    """A value of *kind*."""
    return VALUES[kind]()


def take(value: Any, number: int) -> int:
    """Is given something hostile, perhaps."""
    return number


def give(kind: str, number: int) -> Any:
    """Something of *kind*, or the number where that is empty."""
    return make(kind) if kind else number


def throw(kind: str, number: int) -> int:
    """Raises what carries something of *kind*; gives the number where that is empty."""
    if kind:
        raise Carrier(make(kind))
    return number
