"""A run, and outcomes of it, for the tests of sinks; without pytest, since a process apart uses them too."""

from __future__ import annotations

from typing import Any

from celestialflow_core._digest import digest
from celestialflow_core._outcome import Outcome
from celestialflow_core.sinks.interface import Manifest

__all__ = ["RUN", "failure", "success", "value_of"]

RUN = Manifest(name="work", stages=("work",), version="1", target="module:work", resume=True)
"""The run that the tests open a store for."""


def success(task: Any, value: Any = None, key: str | None = None, **parts: Any) -> Outcome[Any, Any]:
    """The outcome of *task*, which gave *value*."""
    known = {"attempts": 1, "seconds": 0.25, "worker": 0, "stage": "work", **parts}
    return Outcome(0, task, "success", value, key=key or digest(task), **known)


def failure(task: Any, error: BaseException, key: str | None = None, **parts: Any) -> Outcome[Any, Any]:
    """The outcome of *task*, which failed with *error*."""
    known = {"attempts": 3, "seconds": 0.25, "worker": 1, "stage": "work", **parts}
    return Outcome(0, task, "error", error=error, key=key or digest(task), **known)


def value_of(number: int) -> dict[str, Any]:
    """What the task *number* gives: now and then so much that a write may be cut in its middle."""
    return {"number": number, "text": "x" * (100_000 if number % 50 > 40 else 10)}
