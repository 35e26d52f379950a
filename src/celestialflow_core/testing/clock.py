"""A clock that moves only when a test says so."""

from __future__ import annotations

__all__ = ["FakeClock"]


class FakeClock:
    """Stands in for ``time.monotonic`` (call it) and ``time.sleep``; sleeping moves it, and takes no time.

    Args:
        now: Where it begins, in seconds.
    """

    def __init__(self, now: float = 0.0) -> None:
        self.now = now
        self.sleeps: list[float] = []
        """Every delay that was slept, in order."""

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> float:
        """Move the clock forward, and give the new time.

        Raises:
            ValueError: *seconds* is negative: a monotonic clock never goes back.
        """
        if seconds < 0:
            raise ValueError(f"A monotonic clock never goes back, so seconds must be at least 0, got {seconds!r}.")
        self.now += seconds
        return self.now

    def sleep(self, seconds: float) -> None:
        """Sleep without waiting."""
        self.sleeps.append(seconds)
        self.advance(seconds)

    async def sleep_async(self, seconds: float) -> None:
        """`sleep`, to be awaited."""
        self.sleep(seconds)
