"""The life of a task, as data. The machine moves tasks as this table says, and ``check`` replays it.

A task is *ready* when it may be handed to the executor, *running* while the executor has it, *waiting* until its next
attempt is due, and *settled* when its outcome is known. Each of the first three is one container of the machine, so a
task's state is the container that holds it and no second record of it can disagree.

    admit            submit              succeed, fail
    -----> READY --------------> RUNNING --------------> SETTLED
             ^                      |                       ^
             | wake                 | retry                 | cancel, from any of the three
             +------- WAITING <-----+                       | duplicate and restore, at once
"""

from __future__ import annotations

from enum import Enum

__all__ = ["TRANSITIONS", "Event", "State"]


class State(Enum):
    """Where a task is."""

    NEW = "new"
    READY = "ready"
    RUNNING = "running"
    WAITING = "waiting"
    SETTLED = "settled"


class Event(Enum):
    """What happens to a task."""

    ADMIT = "admit"
    DUPLICATE = "duplicate"
    RESTORE = "restore"
    SUBMIT = "submit"
    SUCCEED = "succeed"
    FAIL = "fail"
    RETRY = "retry"
    WAKE = "wake"
    CANCEL = "cancel"


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.NEW, Event.ADMIT): State.READY,
    (State.NEW, Event.DUPLICATE): State.SETTLED,
    (State.NEW, Event.RESTORE): State.SETTLED,
    (State.NEW, Event.FAIL): State.SETTLED,
    (State.READY, Event.SUBMIT): State.RUNNING,
    (State.READY, Event.CANCEL): State.SETTLED,
    (State.RUNNING, Event.SUCCEED): State.SETTLED,
    (State.RUNNING, Event.FAIL): State.SETTLED,
    (State.RUNNING, Event.RETRY): State.WAITING,
    (State.RUNNING, Event.CANCEL): State.SETTLED,
    (State.WAITING, Event.WAKE): State.READY,
    (State.WAITING, Event.CANCEL): State.SETTLED,
}
"""The state that follows, for each event that a state allows. Any other pair is a bug."""
