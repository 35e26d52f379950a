"""The heap of retries that are not due yet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celestialflow_core._engine.timers import Timers

pytestmark = pytest.mark.pure


@given(st.lists(st.integers(0, 5)), st.integers(-1, 6))
def test_pop_due_gives_what_is_due_in_order(moments: list[int], now: int) -> None:
    """What is due comes soonest first, and of one moment in the order in which it was added; the rest stays."""
    timers = Timers()
    for id, due in enumerate(moments):
        timers.add(id, float(due))
    ranked = sorted(range(len(moments)), key=moments.__getitem__)
    due_now = [id for id in ranked if moments[id] <= now]
    assert timers.pop_due(now) == due_now
    assert timers.ids() == set(ranked) - set(due_now)
    assert len(timers) == len(moments) - len(due_now)
    assert timers.next_due() == min((due for due in moments if due > now), default=None)
    assert timers.pop_due(now) == []


def test_clear_forgets_all() -> None:
    """After clear nothing is ever due."""
    timers = Timers()
    timers.add(1, 5.0)
    timers.clear()
    assert timers.next_due() is None
    assert timers.pop_due(100.0) == []
    assert len(timers) == 0
