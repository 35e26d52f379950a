"""What a shell needs to carry out one run: everything that the manager has put together for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs

from celestialflow_core._driver.customs import Customs
from celestialflow_core._driver.run import Run
from celestialflow_core._driver.workers import Workers
from celestialflow_core._observe.interface import Observer, RunInfo
from celestialflow_core._outcome import RunSummary
from celestialflow_core.executors.interface import AsyncExecutor, Executor

__all__ = ["Plan"]


@attrs.frozen(kw_only=True, eq=False)
class Plan:
    """A run that is ready to begin.

    Attributes:
        run: Its body.
        tasks: The user's iterable.
        total: How many tasks there will be, where the user says so.
        workers: The executor, and whether it stays warm.
        info: What observers are told.
        observers: Log, progress.
        customs: Overrides and hooks.
        grace: Seconds that running calls have at an early end.
        summarise: Makes the summary of what has happened so far.
        conclude: Called once everything is released; may call the user's overrides, and gives the final summary.
        done: Called last, whatever happens.
    """

    run: Run
    tasks: Iterable[Any]
    total: int | None
    workers: Workers
    info: RunInfo
    observers: Sequence[Observer]
    customs: Customs
    grace: float
    summarise: Callable[[], RunSummary]
    conclude: Callable[[], RunSummary]
    done: Callable[[], None]

    @property
    def executor(self) -> Executor | AsyncExecutor:
        """The executor of the run."""
        return self.workers.executor

    def announce(self, total: int | None) -> None:
        """Tell observers and plugins that the run begins."""
        info = attrs.evolve(self.info, total=total)
        for observer in self.observers:
            observer.start(info)
        self.customs.tell("on_start")

    def conclude_all(self, error: BaseException | None) -> tuple[RunSummary, BaseException | None]:
        """Let the user's overrides have the results, then tell observers and plugins that the run is over.

        Returns:
            The summary, and the first error: *error*, or what the overrides or plugins raised.
        """
        try:
            summary = self.conclude()
        except BaseException as raised:
            error = error or raised
            summary = self.summarise()
        try:
            self.customs.tell("on_finish", summary)
        except BaseException as raised:
            error = error or raised
        unfinished = self.finish_observers(summary)  # always: an observer holds a log handler, a bar
        return summary, error or unfinished

    def finish_observers(self, summary: RunSummary | None) -> BaseException | None:
        """Let every observer release what it has: the bar before the log, whose last line goes below it.

        Returns:
            The first error, if one raised.
        """
        first: BaseException | None = None
        for observer in reversed(self.observers):
            try:
                observer.finish(summary)
            except BaseException as error:
                first = first or error
        return first
