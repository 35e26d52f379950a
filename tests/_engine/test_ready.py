"""The queue of tasks that may be submitted, against a plain list."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celestialflow_core._engine.ready import Ready

pytestmark = pytest.mark.pure

steps = st.lists(st.tuples(st.sampled_from(["add", "add_first", "take", "clear"]), st.integers(-1, 6)), max_size=30)


@given(steps)
def test_ready_is_a_list_that_is_taken_from_in_batches(actions: list[tuple[str, int]]) -> None:
    """Whatever the batches in which tasks come and go, they go in their order, each with its id."""
    ready: Ready[str] = Ready()
    model: list[int] = []
    given = 0
    for action, number in actions:
        ids = range(given, given + max(number, 0))
        if action in ("add", "add_first"):
            given += len(ids)
            getattr(ready, action)(ids, [str(id) for id in ids])
            model = [*model, *ids] if action == "add" else [*ids, *model]
        elif action == "take":
            taken, tasks = ready.take(number)
            expected, model = model[: max(number, 0)], model[max(number, 0) :]
            assert list(taken) == expected
            assert list(tasks) == [str(id) for id in expected]
        else:
            ready.clear()
            model = []
        assert len(ready) == len(model)
        assert list(ready) == [(id, str(id)) for id in model]
