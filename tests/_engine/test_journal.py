"""The memory of the last transitions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celestialflow_core._engine.journal import Journal
from celestialflow_core._engine.transitions import Event

pytestmark = pytest.mark.pure


@given(st.lists(st.integers(0, 20), max_size=40), st.integers(0, 50))
def test_journal_is_bounded_and_keeps_the_newest(sizes: list[int], limit: int) -> None:
    """It holds at most *limit* ids, or the last batch alone; what it holds is the end of what was written."""
    journal = Journal(limit)
    written = []
    for number, size in enumerate(sizes):
        written.append((Event.ADMIT, float(number), range(size)))
        journal.add(*written[-1])
        held = list(journal)
        assert sum(len(ids) for _, _, ids in held) <= limit or len(held) == 1
        assert held == written[len(written) - len(held) :]
        assert journal.complete == (held == written)


def test_of_gives_one_task_oldest_first() -> None:
    """The events of one task, and of no other."""
    journal = Journal()
    journal.add(Event.ADMIT, 0.0, [1, 2])
    journal.add(Event.SUBMIT, 1.0, (2,))
    journal.add(Event.SUBMIT, 2.0, (1,))
    assert journal.of(1) == [(Event.ADMIT, 0.0), (Event.SUBMIT, 2.0)]
    assert journal.of(3) == []


def test_journal_may_be_written_while_it_is_read() -> None:
    """Whoever reads it has what was there when it began: another thread asks for stories while the run goes on."""
    journal = Journal(2)
    journal.add(Event.ADMIT, 0.0, [1])
    reader = iter(journal)
    journal.add(Event.SUBMIT, 1.0, [1])
    journal.add(Event.SUCCEED, 2.0, [1])
    assert list(reader) == [(Event.ADMIT, 0.0, [1])]
