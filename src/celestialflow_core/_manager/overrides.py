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
        raise TypeError(
            f"{name} of {owner} is a coroutine function, but it is called, not awaited. Make it a plain one."
        )
    # A method is looked at through its function: the signature of one that takes nothing, not even self, is an error.
    method = inspect.ismethod(bound)
    function = getattr(bound, "__func__", bound) if method else bound
    if _fits(function, ("self", *arguments) if method else arguments):
        return
    right = ", ".join(("self", *arguments))
    forgot = method and _fits(function, arguments)
    why = "it has no 'self'" if forgot else f"it must take {len(arguments)} arguments besides self"
    raise TypeError(f"{name} of {owner} cannot be called: {why}. Write: def {name}({right}):")


def _fits(function: Callable[..., Any], arguments: tuple[str, ...]) -> bool:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a C function that does not tell
        return True
    try:
        signature.bind(*arguments)
    except TypeError:
        return False
    return True
