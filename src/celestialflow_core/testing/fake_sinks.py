"""Sinks that remember what they were told, and fail when a test says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from celestialflow_core._outcome import Outcome
from celestialflow_core.sinks.interface import Manifest, Record

__all__ = ["RecordingSink", "RecordingStore"]


class RecordingSink:
    """A sink in memory that writes down every call.

        RecordingSink(fail_at=3)                  its third batch is not accepted
        RecordingSink(refuse=SinkError(...))      it refuses every run

    Args:
        fail_at: The number of the batch, from 1, with which it begins to fail, or None.
        error: What it then raises.
        refuse: What ``open`` raises, or None.
        close_error: What ``close`` raises, or None.
        batch: How many outcomes it wants at a time, and after how many seconds at most; None for the default.
        on_write: Called with each batch before it is accepted.
    """

    def __init__(
        self,
        *,
        fail_at: int | None = None,
        error: BaseException | None = None,
        refuse: BaseException | None = None,
        close_error: BaseException | None = None,
        batch: tuple[int, float] | None = None,
        on_write: Callable[[Sequence[Outcome[Any, Any]]], object] | None = None,
    ) -> None:
        if batch is not None:
            self.batch = batch
        self.log: list[tuple[str, Any]] = []
        """What happened: ("open", manifest), ("write", how many), ("restore", keys), ("close", error)."""
        self.batches: list[list[Outcome[Any, Any]]] = []
        """The batches that it has accepted."""
        self._fail_at = fail_at
        self._error = error or OSError("the fake is full")
        self._refuse = refuse
        self._close_error = close_error
        self._on_write = on_write
        self._writes = 0

    @property
    def outcomes(self) -> list[Outcome[Any, Any]]:
        """All that it has accepted, in order."""
        return [outcome for batch in self.batches for outcome in batch]

    @property
    def is_open(self) -> bool:
        """Whether it was opened and not yet closed."""
        opened = sum(verb == "open" for verb, _ in self.log)
        return opened > sum(verb == "close" for verb, _ in self.log)

    def open(self, run: Manifest) -> None:
        """Note *run*, or refuse it."""
        if self._refuse is not None:
            raise self._refuse
        self.log.append(("open", run))

    def write(self, outcomes: Sequence[Outcome[Any, Any]]) -> None:
        """Accept *outcomes*, or fail."""
        if not self.is_open:
            raise RuntimeError("write() was called before open(), or after close().")
        self._writes += 1
        self.log.append(("write", len(outcomes)))
        if self._on_write is not None:
            self._on_write(outcomes)
        if self._fail_at is not None and self._writes >= self._fail_at:
            raise self._error
        self.batches.append(list(outcomes))

    def close(self, error: BaseException | None) -> None:
        """Note that the run is over."""
        self.log.append(("close", error))
        if self._close_error is not None:
            raise self._close_error


class RecordingStore(RecordingSink):
    """A `RecordingSink` that a run can go on with: what it has accepted, and what the test gives it.

    Args:
        stored: What it knows from the beginning, by key.
        options: As for `RecordingSink`.
    """

    def __init__(self, stored: Mapping[str, Record] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.stored: dict[str, Record] = dict(stored or {})
        """What it knows of each key."""

    def write(self, outcomes: Sequence[Outcome[Any, Any]]) -> None:
        """Accept *outcomes*, or fail."""
        super().write(outcomes)
        for outcome in outcomes:
            self.stored[outcome.key] = Record(
                key=outcome.key,
                status=outcome.status,
                value=outcome.value,
                error=outcome.error,
                traceback=outcome.traceback,
                attempts=outcome.attempts,
                seconds=outcome.seconds,
            )

    def restore(self, keys: Sequence[str]) -> Mapping[str, Record]:
        """What it knows of *keys*."""
        self.log.append(("restore", list(keys)))
        return {key: self.stored[key] for key in keys if key in self.stored}
