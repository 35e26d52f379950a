"""What the synchronous and the asynchronous shell have in common: the beginning and the end of a run."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from celestialflow_core._call import Delivery
from celestialflow_core._driver.completion import Completions
from celestialflow_core._driver.plan import Plan
from celestialflow_core._driver.source import Source
from celestialflow_core._driver.stage import Stage
from celestialflow_core._outcome import RunSummary
from celestialflow_core.errors import SinkError, TooManyErrors
from celestialflow_core.executors.interface import Work

if TYPE_CHECKING:
    from celestialflow_core._driver.aio.source import AsyncSource

__all__ = ["UNRESPONSIVE", "Shell"]

UNRESPONSIVE = 10.0  # seconds after which an executor that was told to stop at once is left behind


class Shell:
    """Carries out the run of *plan*.

    Args:
        plan: What to run.
        completions: Where the executors deliver.
    """

    def __init__(self, plan: Plan, completions: Completions[tuple[Any, Delivery]]) -> None:
        self._plan = plan
        self._deliveries = completions
        self.run = plan.run
        self.run.inbox = completions.items
        self.grace = plan.grace
        self.closed = False
        self._sources: deque[tuple[Stage, Source | AsyncSource]] = deque()
        self._source_error: BaseException | None = None

    def _add_source(self, stage: Stage, source: Source | AsyncSource) -> None:
        self._sources.append((stage, source))
        stage.open_sources += 1
        self.run.open_sources += 1

    def _take_over(self, tasks: list[Any]) -> None:
        """Give the run the *tasks* that came from the first source, which is the last one from now on, or gone."""
        run, (stage, source) = self.run, self._sources[0]
        if source.exhausted:
            self._source_error = self._source_error or source.error
            self._sources.popleft()
            stage.open_sources -= 1
            run.open_sources -= 1
        else:
            self._sources.rotate(-1)
        if source.interrupt is not None:
            run.keep(stage, tasks)
            raise source.interrupt
        if tasks:
            run.take(stage, tasks)

    def _route(self, stage: Stage) -> Work | None:
        """Let the executor of *stage* deliver to this run; gives the work to start it with, unless it is warm."""
        workers = stage.workers
        workers.route(self._deliveries, stage)
        work = workers.starting(stage.make_work)
        if work is not None:
            workers.started = True
        return work

    def _announce(self, totals: dict[str, int | None]) -> None:
        try:
            self._plan.announce(totals)
        except BaseException as error:
            self.run.interrupted(error)

    def _to_stop(self) -> list[Stage]:
        """The stages whose executors are to be stopped now, which they are taken to be from here on."""
        early = self.run.ending is not None
        stages = [stage for stage in self.run.stages if early or not stage.workers.warm]
        for stage in stages:
            stage.workers.stopped = True
        return stages

    def _dropped(self) -> list[Stage]:
        """Let nobody deliver any more; gives the stages whose executors are to be stopped at once."""
        stages = self.run.stages
        if self.run.storage is not None:
            self.run.storage.close(None)
        for stage in stages:
            stage.workers.route(None)
            stage.workers.stopped = True
        return [stage for stage in stages if stage.workers.started]

    def _grace(self) -> float:
        ending = self.run.ending
        return ending.grace if ending is not None else self._plan.grace

    def _conclude(self, error: BaseException | None) -> RunSummary:
        """The executors have stopped: settle the account, tell everybody, and raise what is to be raised."""
        plan, run = self._plan, self.run
        try:
            for stage in run.stages:
                stage.workers.route(None)
            late_error = run.settle_rest()
            cause = run.ending.error if run.ending is not None else None
            error = error or cause or late_error or self._source_error
            if run.storage is not None:
                if isinstance(error, SinkError):
                    error = run.storage.error or error
                unclosed = run.storage.close(error)
                error = error or unclosed
            summary, error = plan.conclude_all(error)
        finally:
            plan.done()
        if isinstance(error, TooManyErrors):
            raise TooManyErrors(error.rule, summary)
        if error is not None:
            raise error
        return summary
