"""What a shell needs to carry out one run: everything that the manager or the graph has put together for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs

from celestialflow_core._driver.run import Run
from celestialflow_core._driver.stage import Stage
from celestialflow_core._observe.interface import Observer, RunInfo
from celestialflow_core._outcome import RunSummary

__all__ = ["Input", "Plan"]


@attrs.frozen(kw_only=True, eq=False)
class Input:
    """One source of a run: the stage that takes it, the user's iterable, and its length where the user says so."""

    stage: Stage
    tasks: Iterable[Any]
    total: int | None


@attrs.frozen(kw_only=True, eq=False)
class Plan:
    """A run that is ready to begin.

    Attributes:
        run: Its body.
        inputs: Its sources.
        info: What the observers of the whole run are told, if it has any.
        observers: Those of the whole run, besides those of each stage.
        grace: Seconds that running calls have at an early end.
        summarise: Makes the summary of what has happened so far.
        conclude: Called once everything is released; may call the user's overrides, and gives the final summary.
        summary_of: The summary of a stage, or of the whole run for None, as of the last of these two.
        done: Called last, whatever happens.
    """

    run: Run
    inputs: Sequence[Input]
    grace: float
    summarise: Callable[[], RunSummary]
    conclude: Callable[[], RunSummary]
    summary_of: Callable[[Stage | None], RunSummary | None]
    done: Callable[[], None]
    info: RunInfo | None = None
    observers: Sequence[Observer] = ()

    def announce(self, totals: dict[str, int | None]) -> None:
        """Tell observers and plugins that the run begins.

        Args:
            totals: How many tasks each stage gets from its source, by the name of the stage.
        """
        for observer in self.observers:
            assert self.info is not None
            observer.start(self.info)
        for stage in self.run.stages:
            info = attrs.evolve(stage.info, total=totals.get(stage.name))
            for observer in stage.observers:
                observer.start(info)
        for stage in self.run.stages:
            stage.customs.tell("on_start")

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
        ended_by = error
        for stage in self.run.stages:
            try:
                stage.customs.tell("on_finish", self.summary_of(stage), ended_by)
            except BaseException as raised:
                error = error or raised
        unfinished = self.finish_observers()  # always: an observer holds a log handler, a bar
        return summary, error or unfinished

    def finish_observers(self) -> BaseException | None:
        """Let every observer release what it has: the bars before the log, whose last line goes below them.

        Returns:
            The first error, if one raised.
        """
        first: BaseException | None = None
        # Bars of several stages stay on the screen in the order in which they end.
        watched = [*[(stage, stage.observers) for stage in self.run.stages], (None, self.observers)]
        for stage, observers in watched:
            for observer in reversed(observers):
                try:
                    observer.finish(self.summary_of(stage))
                except BaseException as error:
                    first = first or error
        return first
