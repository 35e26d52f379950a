"""What a result sink is: it takes the outcomes of a run, a batch at a time, and keeps them where people want them.

The run calls a sink in its own thread, one call at a time: `open` once, `write` for each batch, `close` at the end,
always. What `write` has returned from has been accepted: only then is an outcome given to a consumer or passed along an
edge of a graph. A sink that raises ends the run.

A sink that can also `restore` is a store: a later run of the same tasks takes from it what has been computed already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import attrs

from celestialflow_core._call import record
from celestialflow_core._outcome import Outcome

__all__ = ["Manifest", "Record", "Sink", "SinkFactory", "Store"]


@attrs.frozen(kw_only=True)
class Manifest:
    """What a sink is told of the run that it is opened for, and what a store remembers of it.

    Attributes:
        name: The manager's or the graph's.
        stages: The names of the managers.
        version: What the user called this version of the work; results of another version are not reused.
        keys: The scheme of the keys ("cf1"); keys of another scheme mean nothing here.
        target: The function as "module:function", where it can be found again so; None where it cannot.
        resume: Whether the run goes on with what the store has.
        shard: Which part of the tasks the run takes ("3/16"), or None.
    """

    name: str
    stages: tuple[str, ...]
    version: str = ""
    keys: str = "cf1"
    target: str | None = None
    resume: bool = False
    shard: str | None = None


@record(kw_only=True, eq=True)
class Record:
    """What a store knows of one task.

    Attributes:
        key: The task's.
        status: "success" or "error".
        value: The result of a success.
        error: The exception of an error; a `RemoteError` with its type and text where it could not be kept.
        traceback: The error's traceback as text, or None.
        attempts: How often the function had been called for it.
        seconds: How long the last attempt ran, or None.
    """

    key: str
    status: str
    value: Any = None
    error: BaseException | None = None
    traceback: str | None = None
    attempts: int = 1
    seconds: float | None = None


@runtime_checkable
class Sink(Protocol):
    """Takes outcomes.

    A sink may have an attribute ``batch = (rows, seconds)``: how many outcomes it wants at a time, and the most seconds
    after which it wants them all the same. The default is (1000, 0.05).
    """

    def open(self, run: Manifest) -> None:
        """Get ready; raise to refuse the run, before anything has begun."""
        ...

    def write(self, outcomes: Sequence[Outcome[Any, Any]]) -> None:
        """Accept *outcomes*: successes and errors, whose ``key`` is a stable text. Raise if any cannot be accepted."""
        ...

    def close(self, error: BaseException | None) -> None:
        """The run has ended, with *error* or well: release everything."""
        ...


@runtime_checkable
class Store(Sink, Protocol):
    """A sink that knows afterwards what it has accepted."""

    def restore(self, keys: Sequence[str]) -> Mapping[str, Record]:
        """What was known of the tasks with these keys when it was opened; those of which nothing was are not in it."""
        ...


SinkFactory = Callable[[str], Sink]
"""Makes a sink of its URL."""
