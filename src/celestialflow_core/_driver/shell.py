"""What the synchronous and the asynchronous shell have in common: the beginning and the end of a run."""

from __future__ import annotations

from collections.abc import Callable

from celestialflow_core._call import Delivery
from celestialflow_core._driver.completion import Completions
from celestialflow_core._driver.plan import Plan
from celestialflow_core._outcome import RunSummary
from celestialflow_core.errors import TooManyErrors
from celestialflow_core.executors.interface import Work

__all__ = ["UNRESPONSIVE", "Shell"]

UNRESPONSIVE = 10.0  # seconds after which an executor that was told to stop at once is left behind


class Shell:
    """Carries out the run of *plan*.

    Args:
        plan: What to run.
        completions: Where the executor delivers.
        make_work: Gives what the executor is to do.
    """

    def __init__(self, plan: Plan, completions: Completions[Delivery], make_work: Callable[[], Work]) -> None:
        self._plan = plan
        self._make_work = make_work
        self._deliveries = completions
        self.run = plan.run
        self.grace = plan.grace
        self.closed = False

    def _route(self) -> Work | None:
        """Let the executor deliver to this run; gives the work to start it with, unless it is warm."""
        workers = self._plan.workers
        workers.route(self._deliveries)
        return workers.starting(self._make_work)

    def _announce(self, total: int | None) -> None:
        try:
            self._plan.announce(total)
        except BaseException as error:
            self.run.interrupted(error)

    def _must_stop(self) -> bool:
        return self.run.ending is not None or not self._plan.workers.warm

    def _grace(self) -> float:
        ending = self.run.ending
        return ending.grace if ending is not None else self._plan.grace

    def _conclude(self, error: BaseException | None, source_error: BaseException | None) -> RunSummary:
        """The executor has stopped: settle the account, tell everybody, and raise what is to be raised."""
        plan, run = self._plan, self.run
        try:
            plan.workers.route(None)
            late_error = run.settle_rest()
            cause = run.ending.error if run.ending is not None else None
            summary, error = plan.conclude_all(error or cause or late_error or source_error)
        finally:
            plan.done()
        if isinstance(error, TooManyErrors):
            raise TooManyErrors(error.rule, summary)
        if error is not None:
            raise error
        return summary
