"""The numbers that a progress display shows: how many, how fast, how long still."""

from __future__ import annotations

from math import exp

from celestialflow_core._observe.interface import Settled

__all__ = ["Tally", "duration"]

_MEMORY_SECONDS = 20.0


class Tally:
    """Counts what has settled.

    The rate is that of tasks that were really run: a duplicate settles in no time, and would make a slow run look
    fast. It is weighted towards the last 20 seconds, and falls while nothing settles.

    Args:
        total: How many tasks there will be, where that is known.
        now: The time of the start, in seconds of a clock that does not jump.
    """

    __slots__ = ("_last", "_ran", "_seconds", "failed", "n", "ok", "restored", "retried", "started", "total")

    def __init__(self, total: int | None, now: float) -> None:
        self.total = total
        self.started = now
        self.n = self.ok = self.failed = self.restored = self.retried = 0
        self._last = now
        self._ran = 0.0
        self._seconds = 0.0

    def add(self, batch: Settled, now: float) -> int:
        """Count a batch, and give the number of its tasks."""
        ok, size = len(batch.tasks), len(batch.tasks) + len(batch.others)
        failed = sum([outcome.status == "error" for outcome in batch.others])
        self.restored += sum([outcome.status == "restored" for outcome in batch.others])
        self.n += size
        self.ok += ok
        self.failed += failed
        if self.total is not None and self.n > self.total:
            self.total = self.n
        # What settles at once had been running since the last batch: spread over that time, as the seconds are.
        passed = max(0.0, now - self._last)
        keep = exp(-passed / _MEMORY_SECONDS)
        seconds = _MEMORY_SECONDS * (1 - keep)
        self._ran = self._ran * keep + (ok + failed) * (seconds / passed if passed else 1.0)
        self._seconds = self._seconds * keep + seconds
        self._last = now
        return size

    def rate(self, now: float) -> float | None:
        """Tasks run per second of late, or None while that cannot be said."""
        keep = exp(-max(0.0, now - self._last) / _MEMORY_SECONDS)
        seconds = self._seconds * keep + _MEMORY_SECONDS * (1 - keep)
        return self._ran * keep / seconds if seconds > 0 else None

    def mean_rate(self, now: float) -> float | None:
        """Tasks run per second since the start."""
        seconds = now - self.started
        return (self.ok + self.failed) / seconds if seconds > 0 else None

    def remaining(self, now: float) -> float | None:
        """The seconds that the rest takes at this rate, or None where that cannot be said."""
        rate = self.rate(now)
        return (self.total - self.n) / rate if rate and self.total is not None else None

    def parts(self) -> str:
        """ "ok=3 failed=1 retried=2" without what is zero, but for the first."""
        counts = (("ok", self.ok), ("failed", self.failed), ("restored", self.restored), ("retried", self.retried))
        return " ".join([f"{name}={number}" for name, number in counts if number or name == "ok"])


def duration(seconds: float) -> str:
    """ "0:07", "12:30", "3:02:01"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
