"""The table of transitions, walked: each legal pair leads where it says, each other pair changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from itertools import product
from typing import Any

import pytest

from celestialflow_core._engine.machine import Engine
from celestialflow_core._engine.transitions import TRANSITIONS, Event, State
from celestialflow_core.errors import InvalidTransition

pytestmark = pytest.mark.pure

ID = 7


def engine_with_task_in(state: State) -> Engine[str, Any]:
    """An engine whose one task is in *state*."""
    engine: Engine[str, Any] = Engine(max_in_flight=10)
    if state is State.NEW:
        return engine
    engine.admit((ID,), ("task",), ("task",), 0.0)
    if state is State.READY:
        return engine
    engine.submit(1, 1.0)
    if state is State.WAITING:
        engine.retry(ID, 10.0, 2.0)
    elif state is State.SETTLED:
        engine.succeed((ID,), 2.0)
    return engine


# How the engine is told of an event for its task. What says nothing of other tasks is told here as the driver tells it.
TELL: dict[Event, Callable[[Engine[str, Any]], object]] = {
    Event.SUBMIT: lambda engine: engine.submit(1, 3.0),
    Event.SUCCEED: lambda engine: engine.succeed((ID,), 3.0),
    Event.FAIL: lambda engine: engine.fail(ID, 3.0),
    Event.RETRY: lambda engine: engine.retry(ID, 10.0, 3.0),
    Event.WAKE: lambda engine: engine.wake(100.0),
    Event.CANCEL: lambda engine: engine.cancel(3.0, running=True),
}


def state_of(engine: Engine[str, Any]) -> State:
    """Where the one task is, told by the public counts alone."""
    for state, count in (
        (State.READY, engine.ready),
        (State.RUNNING, engine.running),
        (State.WAITING, engine.waiting),
    ):
        if count:
            return state
    return State.SETTLED if engine.admitted else State.NEW


def everything(engine: Engine[str, Any]) -> tuple[object, ...]:
    """All that a transition could change, but the count of late results."""
    return (repr(engine), engine.retries, engine.failed_in_a_row, list(engine.journal), engine.next_due())


@pytest.mark.parametrize(
    ("state", "event"),
    [pair for pair in TRANSITIONS if pair[1] in TELL and pair[0] is not State.NEW],
    ids=lambda value: value.value,
)
def test_legal_event_leads_where_the_table_says(state: State, event: Event) -> None:
    """A legal event moves the task into the state that follows, is written down, and leaves the engine consistent."""
    engine = engine_with_task_in(state)
    assert state_of(engine) is state
    TELL[event](engine)
    assert state_of(engine) is TRANSITIONS[state, event]
    assert engine.journal.of(ID)[-1][0] is event
    engine.check()


@pytest.mark.parametrize(
    ("state", "event"),
    [pair for pair in product([s for s in State if s is not State.NEW], TELL) if pair not in TRANSITIONS],
    ids=lambda value: value.value,
)
def test_illegal_event_changes_nothing(state: State, event: Event) -> None:
    """An illegal event raises InvalidTransition, is counted as late, or finds nobody; the task stays where it is."""
    engine = engine_with_task_in(state)
    before = everything(engine)
    if event in (Event.FAIL, Event.RETRY):
        with pytest.raises(InvalidTransition, match=f"Call {ID} is not running: {state.value}."):
            TELL[event](engine)
        assert engine.late == 0
    else:
        TELL[event](engine)
        assert engine.late == (1 if event is Event.SUCCEED else 0)
    assert everything(engine) == before
    assert state_of(engine) is state
    engine.check()


@pytest.mark.parametrize("event", [Event.FAIL, Event.RETRY, Event.SUCCEED], ids=lambda value: value.value)
def test_event_for_an_unknown_id_changes_nothing(event: Event) -> None:
    """A result for an id that was never admitted is a stranger's."""
    engine = engine_with_task_in(State.NEW)
    before = everything(engine)
    if event is Event.SUCCEED:
        assert engine.succeed((ID,), 3.0) == ([], [], {})
        assert engine.late == 1
    else:
        with pytest.raises(InvalidTransition):
            TELL[event](engine)
    assert everything(engine) == before


@pytest.mark.parametrize(
    ("enter", "event"),
    [
        (lambda engine: engine.admit((ID,), ("task",), ("task",), 0.0), Event.ADMIT),
        (lambda engine: engine.refuse(ID, 0.0), Event.FAIL),
    ],
    ids=["admit", "refuse"],
)
def test_new_task_enters_as_the_table_says(enter: Callable[[Engine[str, Any]], object], event: Event) -> None:
    """A new task becomes ready, or where its key is no good, fails at once."""
    engine = engine_with_task_in(State.NEW)
    enter(engine)
    assert state_of(engine) is TRANSITIONS[State.NEW, event]
    assert engine.journal.of(ID) == [(event, 0.0)]
    engine.check()


def test_second_task_of_one_key_is_settled_at_once() -> None:
    """A duplicate names the first, and never becomes ready."""
    engine = engine_with_task_in(State.SETTLED)
    assert engine.admit((8,), ("again",), ("task",), 4.0) == [(8, "again", ID)]
    assert engine.journal.of(8) == [(Event.DUPLICATE, 4.0)]
    assert (engine.ready, engine.duplicates) == (0, 1)
    assert TRANSITIONS[State.NEW, Event.DUPLICATE] is State.SETTLED
    engine.check()


def test_settled_is_the_end() -> None:
    """No event leads out of SETTLED, and every other state has a way into it."""
    assert not [pair for pair in TRANSITIONS if pair[0] is State.SETTLED]
    for state in State:
        reached, found = {state}, {state}
        while found:
            found = {after for (before, _), after in TRANSITIONS.items() if before in found} - reached
            reached |= found
        assert State.SETTLED in reached


class Poison:
    """A key whose hash raises."""

    def __hash__(self) -> int:
        raise ZeroDivisionError("no hash today")


@pytest.mark.parametrize("at", [0, 1, 2])
def test_key_that_raises_admits_nothing(at: int) -> None:
    """The batch can then be admitted one by one, and its good tasks are no duplicates of themselves."""
    engine: Engine[str, Any] = Engine(max_in_flight=10)
    keys: list[Hashable] = ["a", "b", "c"]
    keys[at] = Poison()
    before = everything(engine)
    with pytest.raises(ZeroDivisionError):
        engine.admit(range(3), ["a", "b", "c"], keys, 0.0)
    assert everything(engine) == before
    engine.check()
    for id, key in enumerate(keys):
        if id == at:
            engine.refuse(id, 1.0)
        else:
            assert engine.admit((id,), ("task",), (key,), 1.0) == []
    assert (engine.ready, engine.failed) == (2, 1)
    engine.check()
