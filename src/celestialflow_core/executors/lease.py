"""How many calls go to a worker at a time, worked out from how long calls take.

Too few calls in a lease and the trip costs more than the work; too many and a slow call holds up its neighbours. The
size that is right is a duration, not a number: a lease should be worth a few milliseconds, and at least ten round
trips. Work that turns slow is noticed at the first lease that shows it.
"""

from __future__ import annotations

__all__ = ["LeaseSizer"]


class LeaseSizer:
    """Sizes leases so that each takes about *target* seconds.

    Args:
        target: Seconds of work that a lease should be worth.
        maximum: The largest lease, in calls.
    """

    __slots__ = ("_per_call", "_round_trip", "maximum", "size", "target")

    def __init__(self, target: float = 0.005, maximum: int = 1024) -> None:
        self.target = target
        self.maximum = maximum
        self.size = 1
        """How many calls the next lease should have."""
        self._per_call: float | None = None
        self._round_trip = 0.0

    @property
    def per_call(self) -> float | None:
        """How long a call is thought to take, in seconds; None before the first was seen."""
        return self._per_call

    def observe(self, calls: int, seconds: float, round_trip: float | None = None) -> None:
        """Learn from *calls* that ran for *seconds* in all.

        Args:
            calls: How many calls.
            seconds: How long they ran, together.
            round_trip: What sending a lease and its results costs beside the work, in seconds, where it is known.
        """
        if calls <= 0:
            return
        seen = seconds / calls
        known = self._per_call
        # Slower than thought: believe it at once, since a lease that is too large hurts the calls behind the slow
        # one. Faster than thought: come down by halves, since one fast call proves little.
        self._per_call = seen if known is None or seen >= known else (seen + known) / 2
        if round_trip is not None:
            self._round_trip = round_trip if not self._round_trip else (self._round_trip + round_trip) / 2
        worth = max(self.target, 10 * self._round_trip)
        wanted = int(worth / self._per_call) if self._per_call > 0 else self.maximum
        # At most four times the last size: an estimate from few calls should not fill the longest lease.
        self.size = max(1, min(wanted, self.maximum, self.size * 4))
