"""The text of the log: one whole line for each thing that happens to a task."""

from __future__ import annotations

from collections.abc import Iterator
from time import localtime, strftime
from typing import Any

from celestialflow_core._observe.interface import RunInfo, Settled, SettledOutcome
from celestialflow_core._text import cut, error_text

__all__ = ["LEVELS", "Lines", "count"]

LEVELS = {"TRACE": 5, "DEBUG": 10, "INFO": 20, "SUCCESS": 25, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}
"""The numbers of loguru's own levels, which cannot be changed there."""

_ERROR, _WARNING, _SUCCESS, _INFO = (LEVELS[name] for name in ("ERROR", "WARNING", "SUCCESS", "INFO"))


def count(number: int, noun: str) -> str:
    """ "1 task", "2 tasks"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


class Lines:
    """Makes the lines of one run, leaving out what is below its log level before anything is formatted.

    Args:
        run: The run.
        level: The number of the lowest level that is written.
    """

    __slots__ = ("_max_info", "_mode", "_second", "_stamp", "_where", "level")

    def __init__(self, run: RunInfo, level: int) -> None:
        self.level = level
        self._max_info = run.max_info
        self._mode = run.mode
        self._where = f"In {cut(run.name, 100)}, task"
        self._second = -1
        self._stamp = ""

    def settled(self, batch: Settled, now: float) -> list[str]:
        """The lines of a batch; *now* is in seconds since the epoch."""
        lines = self._successes(batch, now) if batch.tasks and self.level <= _SUCCESS else []
        if batch.others and self.level <= _ERROR:
            lines += self._others(batch, now)
        return lines

    def retried(self, task: Any, error: BaseException, attempt: int, delay: float, now: float) -> str | None:
        """The line of a retry, or None where the level leaves it out."""
        if self.level > _WARNING:
            return None
        when = f"is retried in {delay:.2f} s" if delay > 0 else "is retried"
        info = self._max_info
        return (
            f"{self.stamp(now)} WARNING {self._where} {cut(task, info)} failed on attempt {attempt} and {when}: "
            f"{error_text(error, info)}"
        )

    def stamp(self, now: float) -> str:
        """Local date and time, to the second."""
        second = int(now)
        if second != self._second:
            self._second = second
            self._stamp = strftime("%Y-%m-%d %H:%M:%S", localtime(second))
        return self._stamp

    def _successes(self, batch: Settled, now: float) -> list[str]:
        head, info, tries = f"{self.stamp(now)} SUCCESS {self._where}", self._max_info, batch.tries
        columns = zip(batch.ids, batch.tasks, batch.values, batch.seconds, batch.workers, strict=True)
        # One f-string for the common case, 1 us with both texts; the rare parts are made in _by.
        return [
            f"{head} {cut(task, info)} completed by {self._mode}-{worker}. Result is {cut(value, info)}. "
            f"Used {seconds:.2f} s."
            if seconds is not None and worker is not None and id not in tries
            else f"{head} {cut(task, info)} completed{self._by(worker, tries.get(id, 1))}. "
            f"Result is {cut(value, info)}.{_used(seconds)}"
            for id, task, value, seconds, worker in columns
        ]

    def _others(self, batch: Settled, now: float) -> Iterator[str]:
        stamp = self.stamp(now)
        for outcome in batch.others:
            failed = outcome.status == "error"
            if failed or self.level <= _INFO:
                level = "ERROR" if failed else "INFO"
                yield f"{stamp} {level} {self._where} {cut(outcome.task, self._max_info)} {self._ending(outcome)}"

    def _ending(self, outcome: SettledOutcome) -> str:
        if outcome.error is not None:
            by = self._by(outcome.worker, outcome.attempts)
            said = error_text(outcome.error, self._max_info)
            if outcome.status == "error":
                return f"failed{by}{_after(outcome.seconds)}: {said}"
            return f"was {outcome.status}{by}: {said}"
        if outcome.status == "duplicate":
            first = "an earlier one" if outcome.original is None else f"task number {outcome.original}"
            return f"equals {first} and was not run."
        if outcome.status == "cancelled":
            return f"was cancelled before it {'had ended' if outcome.attempts else 'began'}."
        return f"was {outcome.status}."

    def _by(self, worker: int | None, attempts: int) -> str:
        by = f" by {self._mode}" if worker is None else f" by {self._mode}-{worker}"
        return f"{by} on attempt {attempts}" if attempts > 1 else by


def _used(seconds: float | None) -> str:
    return "" if seconds is None else f" Used {seconds:.2f} s."


def _after(seconds: float | None) -> str:
    return "" if seconds is None else f" after {seconds:.2f} s"
