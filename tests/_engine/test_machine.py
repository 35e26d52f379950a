"""What the engine says of itself: it notices tampering, and tells the story of a task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from celestialflow_core._engine.journal import Journal
from celestialflow_core._engine.machine import Engine
from celestialflow_core._engine.transitions import Event
from celestialflow_core.errors import InvalidTransition

pytestmark = pytest.mark.pure


def busy_engine(**options: Any) -> Engine[str, str]:
    """An engine with a task in each state: 0 succeeded, 1 failed, 2 runs, 3 waits after one attempt, 4 is ready."""
    engine: Engine[str, str] = Engine(max_in_flight=10, **options)
    engine.admit(range(5), list("abcde"), list("abcde"), 0.0)
    engine.submit(4, 1.0)
    engine.succeed((0,), 2.0)
    engine.fail(1, 2.5)
    engine.retry(3, 4.0, 3.0)
    engine.check()
    return engine


TAMPERING: dict[str, tuple[str, Callable[[Any], object]]] = {
    "a running task is forgotten": ("counts add up", lambda engine: engine._running.clear()),
    "a running task is ready as well": ("in one container", lambda engine: engine._ready.add((2,), ("c",))),
    "a ready task is forgotten": ("counts add up", lambda engine: engine._ready.clear()),
    "a waiting task is forgotten": ("counts add up", lambda engine: engine._waiting.clear()),
    "a task is swapped for a stranger": (
        "Task 2 should be running",
        lambda engine: engine._running.__setitem__(99, engine._running.pop(2)),
    ),
    "a timer is lost": ("has a timer", lambda engine: engine._timers.clear()),
    "a timer is there twice": ("has a timer", lambda engine: engine._timers.add(3, 9.0)),
    "a success is counted twice": ("counts add up", lambda engine: setattr(engine, "succeeded", 2)),
    "a failure is not counted": ("counts add up", lambda engine: setattr(engine, "failed", 0)),
    "a duplicate is made up": ("counts add up", lambda engine: setattr(engine, "duplicates", 1)),
    "a task too many was admitted": ("counts add up", lambda engine: setattr(engine, "admitted", 6)),
    "a count is negative": ("negative", lambda engine: setattr(engine, "late", -1)),
    "attempts are known of a settled task": ("attempts are known", lambda engine: engine._tries.__setitem__(0, 1)),
    "more are in flight than may be": ("max_in_flight", lambda engine: setattr(engine, "max_in_flight", 1)),
    "something is held in a run without order": (
        "only an ordered run holds",
        lambda engine: engine._held.update({0: ""}),
    ),
    "an event is in the journal twice": (
        "was settled when succeed came",
        lambda engine: engine.journal.add(Event.SUCCEED, 9.0, (0,)),
    ),
    "an event is in the journal that did not happen": (
        "should be ready",
        lambda engine: engine.journal.add(Event.WAKE, 9.0, (3,)),
    ),
    "an event of nobody is in the journal": (
        "was new when submit came",
        lambda engine: engine.journal.add(Event.SUBMIT, 9.0, (99,)),
    ),
}


@pytest.mark.parametrize("what", TAMPERING)
def test_check_notices(what: str) -> None:
    """Whatever is changed behind the engine's back, check() raises and says which rule is broken."""
    message, tamper = TAMPERING[what]
    engine = busy_engine()
    tamper(engine)
    with pytest.raises(InvalidTransition, match=message):
        engine.check()


def test_check_notices_an_outcome_that_is_held_although_its_turn_has_come() -> None:
    """In an ordered run the first of the order is never among those that wait."""
    engine = busy_engine(ordered=True)
    engine.hold([(1, "second")])
    engine.check()
    engine._held[0] = "first"
    with pytest.raises(InvalidTransition, match="what is held waits for an earlier one"):
        engine.check()


def test_check_goes_by_what_is_left_of_the_journal() -> None:
    """Where the beginning has been forgotten, a task is still followed from the first event that is known."""
    engine: Engine[str, str] = Engine(max_in_flight=10)
    engine.journal = Journal(1)
    engine.admit(range(3), list("abc"), list("abc"), 0.0)
    engine.submit(2, 1.0)
    engine.check()
    assert not engine.journal.complete
    engine.succeed((0,), 2.0)
    engine.check()
    engine._running[0] = engine._running.pop(1)
    with pytest.raises(InvalidTransition, match="Task 0 should be settled, but is running"):
        engine.check()


def test_story_tells_every_event_with_its_moment() -> None:
    """The story of a task that was tried twice, line by line."""
    engine = busy_engine()
    engine.wake(7.0)
    engine.submit(1, 8.0)
    assert engine.story("d").splitlines() == [
        "task 3: now running, 1 failed attempts",
        "  0.000000  admit",
        "  1.000000  submit",
        "  3.000000  retry",
        "  7.000000  wake",
        "  8.000000  submit",
    ]
    assert "task 0: now settled" in engine.story("a")
    assert "task 4: now ready" in engine.story("e")
    assert engine.story("never seen") == "This task was not seen."


def test_story_finds_tasks_without_keys_while_they_are_alive() -> None:
    """Without the duplicate check equal tasks have a story each."""
    engine: Engine[str, str] = Engine(max_in_flight=10, deduplicate=False)
    engine.admit(range(3), ["a", "b", "a"], None, 0.0)
    engine.submit(1, 1.0)
    engine.retry(0, 1.0, 2.0)
    story = engine.story("a")
    assert "task 0: now waiting, 1 failed attempts" in story
    assert "task 2: now ready, 0 failed attempts" in story
    assert "task 1" not in story


def test_story_says_that_it_has_forgotten() -> None:
    """A story that may be incomplete says so."""
    engine: Engine[str, str] = Engine(max_in_flight=10)
    engine.journal = Journal(1)
    engine.admit(range(2), list("ab"), list("ab"), 0.0)
    engine.submit(2, 1.0)
    assert engine.story("a").splitlines()[-1] == "  (only the last transitions of the run are remembered)"


def test_task_gives_only_running_tasks() -> None:
    """task() and is_running() agree about which results are welcome."""
    engine = busy_engine()
    assert engine.task(2) == "c"
    assert [id for id in range(6) if engine.is_running(id)] == [2]
    with pytest.raises(InvalidTransition, match="Call 3 is not running: waiting"):
        engine.task(3)


def test_failed_in_a_row_counts_only_the_last_row() -> None:
    """A success begins a new row; a retry and a duplicate do not."""
    engine: Engine[int, int] = Engine(max_in_flight=20)
    engine.admit(range(10), range(10), range(10), 0.0)
    engine.submit(10, 0.0)
    for id in (0, 1, 2):
        engine.fail(id, 1.0)
    engine.retry(3, 1.0, 1.0)
    engine.admit((20,), (0,), (0,), 1.0)
    assert engine.failed_in_a_row == 3
    engine.succeed((4,), 2.0)
    assert engine.failed_in_a_row == 0
    engine.fail(5, 3.0)
    assert engine.failed_in_a_row == 1


def test_restored_tasks_are_settled_without_having_run() -> None:
    """Nothing of them is in flight; later tasks of their keys are duplicates of them."""
    engine: Engine[str, str] = Engine(max_in_flight=10)
    assert engine.restore(range(3), ["a", "b", "a"], 0.0) == {2: 0}
    assert engine.admit(range(3, 5), list("bc"), list("bc"), 1.0) == [(3, "b", 1)]
    engine.check()
    assert (engine.restored, engine.duplicates, engine.ready) == (2, 2, 1)


def test_restored_tasks_are_all_settled_without_the_duplicate_check() -> None:
    """Equal keys are then tasks of their own."""
    engine: Engine[str, str] = Engine(max_in_flight=10, deduplicate=False)
    assert engine.restore(range(2), ["a", "a"], 0.0) == {}
    engine.check()
    assert engine.restored == 2


def test_turns_come_in_the_order_of_admission_whatever_settles_how() -> None:
    """Restored, refused and run tasks of an ordered run have one order, that of their ids."""
    engine: Engine[str, str] = Engine(max_in_flight=10, ordered=True)
    engine.restore(range(1), ["a"], 0.0)
    engine.refuse(1, 0.0)
    engine.admit(range(2, 4), list("cd"), list("cd"), 0.0)
    assert engine.hold([(3, "d"), (1, "b")]) == []
    assert engine.hold([(0, "a")]) == ["a", "b"]
    assert engine.hold([(2, "c")]) == ["c", "d"]


def test_cancel_leaves_running_tasks_alone_unless_told() -> None:
    """What waits and what is ready goes, in the order of ids, with the attempts that it had."""
    engine = busy_engine()
    assert engine.cancel(5.0, running=False) == [(3, "d", 1), (4, "e", 0)]
    engine.check()
    assert engine.cancel(6.0, running=True) == [(2, "c", 1)]
    engine.check()


def test_cancel_with_nothing_left_changes_nothing() -> None:
    """Neither a count nor the journal."""
    engine: Engine[str, str] = Engine(max_in_flight=10)
    assert engine.cancel(1.0, running=True) == []
    engine.check()
    assert engine.cancelled == 0
