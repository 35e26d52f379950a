"""Keeps what a run is asked to keep: the two dicts, the slowest tasks, the errors by kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celestialflow_core._driver.results import Results
from celestialflow_core._observe.interface import Settled
from celestialflow_core._outcome import ErrorGroup, Outcome, SlowTask
from celestialflow_core._text import place_of, qualified_name, text_of

__all__ = ["Account"]

SLOWEST = 5
MOST_KINDS = 256  # kinds of errors that are told apart; the rest are one more kind


class _Group:
    """The failures of one kind so far."""

    __slots__ = ("count", "message", "task")

    def __init__(self, task: Any, message: str) -> None:
        self.count = 0
        self.task = task
        self.message = message


class Account:
    """What is known of the settled tasks of one run.

    Args:
        successes, errors: Where to keep results and errors, or None.
    """

    def __init__(self, successes: Results | None, errors: Results | None) -> None:
        self._successes = successes
        self._errors = errors
        self._slowest: list[tuple[float, int, Any, int | None]] = []
        self._threshold = -1.0
        self._groups: dict[tuple[str, str | None], _Group] = {}
        self.abandoned = 0
        self.crashes = 0
        self.reruns = 0

    def add(self, batch: Settled, others: Sequence[Outcome[Any, Any]]) -> None:
        """Keep what settled."""
        if batch.ids:
            if self._successes is not None:
                self._successes.add_all(batch.tasks, batch.values)
            try:
                top = max(batch.seconds)  # type: ignore[type-var]  # a foreign executor may not know: then it has Nones
            except TypeError:
                top = max((seconds for seconds in batch.seconds if seconds is not None), default=-1.0)
            if top is not None and top > self._threshold:
                self._note_slow(batch.tasks, batch.seconds, batch.workers)
        for outcome in others:
            if outcome.status == "error":
                self._add_error(outcome)
            elif outcome.status == "restored":
                kept, value = (self._successes, outcome.value) if outcome.ok else (self._errors, outcome.error)
                if kept is not None:
                    kept.add_all((outcome.task,), (value,))

    def _note_slow(self, tasks: Sequence[Any], seconds: Sequence[float | None], workers: Sequence[int | None]) -> None:
        slow = self._slowest
        for at, duration in enumerate(seconds):
            if duration is not None and duration > self._threshold:
                slow.append((duration, -len(slow), tasks[at], workers[at]))
                if len(slow) > SLOWEST:
                    slow.sort(key=_duration, reverse=True)
                    slow.pop()
                    self._threshold = slow[-1][0]

    def _add_error(self, outcome: Outcome[Any, Any]) -> None:
        error = outcome.error
        assert error is not None
        if self._errors is not None:
            self._errors.add_all((outcome.task,), (error,))
        if outcome.seconds is not None and outcome.seconds > self._threshold:
            self._note_slow((outcome.task,), (outcome.seconds,), (outcome.worker,))
        kind = (qualified_name(error), place_of(error, outcome.traceback))
        group = self._groups.get(kind)
        if group is None:
            if len(self._groups) >= MOST_KINDS:
                kind = ("other errors", None)
                group = self._groups.get(kind)
            if group is None:
                group = self._groups[kind] = _Group(outcome.task, text_of(error)[:500])
        group.count += 1

    def slowest(self) -> tuple[SlowTask, ...]:
        """The tasks that ran longest, slowest first."""
        ranked = sorted(self._slowest, key=_duration, reverse=True)
        return tuple(SlowTask(task=task, seconds=seconds, worker=worker) for seconds, _, task, worker in ranked)

    def errors(self) -> tuple[ErrorGroup, ...]:
        """The failures by kind, most frequent first."""
        ranked = sorted(self._groups.items(), key=lambda item: -item[1].count)
        return tuple(
            ErrorGroup(type=kind, place=place, count=group.count, task=group.task, message=group.message)
            for (kind, place), group in ranked
        )


def _duration(row: tuple[float, int, Any, int | None]) -> float:
    return row[0]
