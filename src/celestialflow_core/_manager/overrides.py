"""Which methods a manager overrides, and whether they can be called as they will be."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

__all__ = ["overrides_of"]

ARGUMENTS = {
    "get_args": ("task",),
    "process_result": ("task", "result"),
    "process_result_dict": (),
    "handle_error_dict": (),
}


def overrides_of(manager: Any, base: type) -> dict[str, Callable[..., Any]]:
    """The overrides of *manager*, by name, bound. Each is called by position, whatever its parameters are called.

    Raises:
        TypeError: One cannot be called so; the message has the line that is right.
    """
    found: dict[str, Callable[..., Any]] = {}
    for name, arguments in ARGUMENTS.items():
        attribute = inspect.getattr_static(manager, name)
        if attribute is inspect.getattr_static(base, name):
            continue
        bound = getattr(manager, name)
        if not callable(bound):
            raise TypeError(f"{name} of {type(manager).__qualname__} must be a method, got {bound!r}.")
        _check(manager, name, bound, arguments)
        found[name] = bound
    return found


def _check(manager: Any, name: str, bound: Callable[..., Any], arguments: tuple[str, ...]) -> None:
    owner = type(manager).__qualname__
    if inspect.iscoroutinefunction(bound) or inspect.isasyncgenfunction(bound):
        raise TypeError(f"{name} of {owner} is a coroutine function, but it is called, not awaited. Make it a plain one.")
    try:
        signature = inspect.signature(bound)
    except (TypeError, ValueError):  # a C function that does not tell
        return
    try:
        signature.bind(*arguments)
    except TypeError:
        right = ", ".join(("self", *arguments))
        forgot = inspect.ismethod(bound) and _fits_without_self(bound.__func__, arguments)
        why = "it has no 'self'" if forgot else f"it must take {len(arguments)} arguments besides self"
        raise TypeError(f"{name} of {owner} cannot be called: {why}. Write: def {name}({right}):") from None


def _fits_without_self(function: Callable[..., Any], arguments: tuple[str, ...]) -> bool:
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return False
    return True
