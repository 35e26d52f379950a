"""Time in tests: a clock that stands still, and waiting that ends."""

from __future__ import annotations

import asyncio

import pytest

from celestialflow_core.testing import FakeClock, wait_until

pytestmark = pytest.mark.pure


def test_clock_moves_when_told() -> None:
    """By advance and by sleeping, which takes no time and is noted."""
    clock = FakeClock(100.0)
    assert clock() == clock() == 100.0
    assert clock.advance(2.5) == 102.5
    clock.sleep(3600.0)
    asyncio.run(clock.sleep_async(0.5))
    assert clock() == 3703.0
    assert clock.sleeps == [3600.0, 0.5]


def test_clock_refuses_to_go_back() -> None:
    """As a monotonic clock does."""
    with pytest.raises(ValueError, match="never goes back"):
        FakeClock().advance(-1.0)


def test_wait_until_gives_the_true_value() -> None:
    """It asks until the condition gives something."""
    answers = iter([0, "", None, "there"])
    assert wait_until(lambda: next(answers), interval=0.0) == "there"


def test_wait_until_ends_with_what_it_waited_for() -> None:
    """A condition that stays false is named, with its last value."""

    def has_come() -> int:
        return 0

    with pytest.raises(AssertionError, match=r"has_come did not become true within 0 s; at last it gave 0"):
        wait_until(has_come, seconds=0.0)
