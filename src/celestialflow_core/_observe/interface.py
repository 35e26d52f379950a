"""What an observer is told of a run, and when. The driver calls it in the caller's thread, one call at a time.

start, then `settled` once for each batch of outcomes and `retried` for each retry, then `finish`: always, also after an
error or Ctrl-C.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import attrs

__all__ = ["Observer", "RunInfo", "Settled", "SettledOutcome", "Summary"]


@attrs.frozen(kw_only=True)
class RunInfo:
    """What is known of a run when it starts.

    Attributes:
        name: The manager's.
        mode: Its execution mode, or the name of its executor.
        workers: How many workers it has, where that is known.
        total: How many tasks there will be, where that is known.
        desc: What to write before the progress bar.
        max_info: The most characters to show of a task, a result or an error; 0 or less: all.
    """

    name: str
    mode: str
    workers: int | None = None
    total: int | None = None
    desc: str = "Processing"
    max_info: int = 50


class SettledOutcome(Protocol):
    """What observers read of an `Outcome` that is not a success."""

    @property
    def id(self) -> int: ...
    @property
    def status(self) -> str: ...
    @property
    def task(self) -> Any: ...
    @property
    def error(self) -> BaseException | None: ...
    @property
    def attempts(self) -> int: ...
    @property
    def seconds(self) -> float | None: ...
    @property
    def worker(self) -> int | None: ...
    @property
    def original(self) -> int | None: ...


@attrs.define(eq=False)
class Settled:
    """What settled in one delivered batch: the successes as columns of one length, all others as outcomes.

    Attributes:
        ids, tasks, values, seconds, workers: The successes.
        tries: The attempts of those successes that took more than one, by id.
        others: Errors, duplicates and cancelled ones, as they settled.
    """

    ids: Sequence[int] = ()
    tasks: Sequence[Any] = ()
    values: Sequence[Any] = ()
    seconds: Sequence[float | None] = ()
    workers: Sequence[int | None] = ()
    tries: Mapping[int, int] = attrs.field(factory=dict)
    others: Sequence[SettledOutcome] = ()


class Summary(Protocol):
    """What observers read of a `RunSummary`; the first line of its ``str`` is the account in one line."""

    @property
    def total(self) -> int: ...


class Observer(Protocol):
    """Watches a run."""

    def start(self, run: RunInfo) -> None:
        """The run begins."""
        ...

    def settled(self, batch: Settled) -> None:
        """These tasks have their outcome."""
        ...

    def retried(self, task: Any, error: BaseException, attempt: int, delay: float) -> None:
        """Attempt number *attempt* of *task* raised *error*; the next one comes after *delay* seconds."""
        ...

    def finish(self, summary: Summary | None) -> None:
        """The run has ended. Releases everything; *summary* is None if there is no account."""
        ...
