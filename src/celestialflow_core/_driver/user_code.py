"""The one door through which the driver calls what users wrote: hooks, overrides, iterables.

A Ctrl-C that arrives while a function marked here is the innermost of this package is raised there, as in any other
program; one that arrives in our own code waits for a safe point (see `interrupt`).
"""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType
from typing import Any, TypeVar

from celestialflow_core.executors.serial import run_calls
from celestialflow_core.executors.setup import Setup

__all__ = ["BOUNDARIES", "call"]

R = TypeVar("R")


def call(function: Callable[..., R], *args: Any) -> R:
    """``function(*args)``."""
    return function(*args)


BOUNDARIES: frozenset[CodeType] = frozenset(
    {call.__code__, run_calls.__code__, Setup.enter.__code__, Setup.leave.__code__}
)
