"""Waiting for something to become true, instead of sleeping and hoping."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, sleep
from typing import TypeVar

__all__ = ["wait_until"]

T = TypeVar("T")


def wait_until(condition: Callable[[], T], seconds: float = 30.0, interval: float = 0.01) -> T:
    """Wait until *condition* gives something true, and give that back.

    Args:
        condition: Asked again and again, in this thread.
        seconds: How long to wait at most. Be generous: this is spent only by a test that fails.
        interval: Seconds between two looks.

    Raises:
        AssertionError: It did not become true in time.
    """
    deadline = monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if monotonic() >= deadline:
            name = getattr(condition, "__qualname__", repr(condition))
            raise AssertionError(f"{name} did not become true within {seconds:g} s; at last it gave {value!r:.200}.")
        sleep(interval)
