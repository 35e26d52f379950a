"""The dict in which unhashable tasks are found, against a list of pairs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celestialflow_core._driver.results import Results, TaskDict

pytestmark = pytest.mark.pure

tasks = st.one_of(
    st.integers(0, 5),
    st.text("ab", max_size=2),
    st.lists(st.integers(0, 2), max_size=2),
    st.dictionaries(st.sampled_from("ab"), st.integers(0, 1), max_size=2),
    st.tuples(st.integers(0, 1), st.lists(st.integers(0, 1), max_size=1)),
)
steps = st.lists(st.tuples(st.sampled_from(["set", "set", "del"]), tasks, st.integers()), max_size=30)


class Pairs:
    """The model: a list of pairs, searched from the front."""

    def __init__(self) -> None:
        self.pairs: list[tuple[Any, Any]] = []

    def find(self, task: Any) -> int | None:
        """Where *task* is."""
        same = (at for at, (other, _) in enumerate(self.pairs) if other == task and type(other) is type(task))
        return next(same, None)


@given(steps, tasks)
def test_task_dict_is_a_dict_of_any_task(actions: list[tuple[str, Any, int]], other: Any) -> None:
    """Set, get, delete, look up, iterate: the same as a list of pairs, with the first equal task as the key."""
    mapping, model = TaskDict(), Pairs()
    for action, task, value in actions:
        at = model.find(task)
        if action == "set":
            mapping[task] = value
            if at is None:
                model.pairs.append((task, value))
            else:
                model.pairs[at] = (model.pairs[at][0], value)
        elif at is None:
            with pytest.raises(KeyError):
                del mapping[task]
        else:
            del mapping[task]
            del model.pairs[at]
        assert len(mapping) == len(model.pairs)
    assert list(mapping.items()) == model.pairs
    assert all(mine is theirs for mine, (theirs, _) in zip(mapping, model.pairs, strict=True))
    assert list(mapping.keys()) == [task for task, _ in model.pairs]
    at = model.find(other)
    assert (other in mapping) == (at is not None)
    assert mapping.get(other, "nothing") == ("nothing" if at is None else model.pairs[at][1])
    twin = mapping.copy()
    assert twin == mapping
    assert repr(twin) == repr(mapping) == "{" + ", ".join(f"{task!r}: {value!r}" for task, value in model.pairs) + "}"


def test_missing_task_is_named() -> None:
    """The KeyError has the task, not the key that stands for it."""
    with pytest.raises(KeyError) as raised:
        _ = TaskDict({1: 2})[[7]]
    assert raised.value.args == ([7],)


@pytest.mark.parametrize("keep_pairs", [False, True])
def test_results_turn_into_a_task_dict_when_they_must(keep_pairs: bool) -> None:
    """A plain dict while every task is hashable; what was kept before is kept."""
    results = Results(keep_pairs)
    results.add_all([1, 2], ["a", "b"])
    assert type(results.by_task) is dict
    results.add_all([3, [4], 5], ["c", "d", "e"])
    assert isinstance(results.by_task, TaskDict)
    assert results.by_task[[4]] == "d"
    assert results.pairs() == [(1, "a"), (2, "b"), (3, "c"), ([4], "d"), (5, "e")]
