"""The engine: where every task of a manager is, and what may happen to it next.

It answers for identity, admission, retry timers, order, cancellation and counts. It does not know executors, hooks,
threads or clocks: moments come in as ``now``, randomness has been spent before a delay reaches it, and whatever the
user's code raises is raised outside of it. So a whole run can be replayed in a test, event by event.

The rules of the game:

 - A task is in exactly one container (see `transitions`); every count is the length of one, or a sum that ``check``
   compares with them.
 - Methods move *batches*. The driver calls two or three of them for hundreds of tasks, and all loops over tasks
   inside are C loops (``dict.update``, ``map``): 0.12 us a task from admission to settlement.
 - A result for a task that is not running (a late one, a second one) changes nothing and is counted in ``late``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Sequence
from itertools import repeat
from typing import Any, Generic, TypeVar

from celestialflow_core._engine.journal import Journal
from celestialflow_core._engine.ready import Ready
from celestialflow_core._engine.timers import Timers
from celestialflow_core._engine.transitions import TRANSITIONS, Event, State
from celestialflow_core.errors import InvalidTransition

__all__ = ["Engine", "IdSource"]

T = TypeVar("T")
H = TypeVar("H")
_MISSING: Any = object()
_LEADS_TO = {event: after for (_, event), after in TRANSITIONS.items()}


class IdSource:
    """Numbers the tasks of a run, from 0."""

    __slots__ = ("given",)

    def __init__(self) -> None:
        self.given = 0
        """How many ids have been taken."""

    def take(self, count: int) -> range:
        """The next *count* ids."""
        first = self.given
        self.given = first + count
        return range(first, self.given)


class Engine(Generic[T, H]):
    """Moves tasks of type T from state to state; in an ordered run it also holds back outcomes of type H.

    Args:
        max_in_flight: The most tasks that may be admitted and not yet gone; None where somebody else looks after that.
        deduplicate: Settle a task whose key was seen before as a duplicate.
        ordered: Hold what is given to `hold` until all that was admitted before it has been released.
    """

    __slots__ = (
        "_batch",
        "_held",
        "_order",
        "_ready",
        "_running",
        "_seen",
        "_timers",
        "_tries",
        "_waiting",
        "admitted",
        "cancelled",
        "deduplicate",
        "duplicates",
        "failed",
        "failed_in_a_row",
        "journal",
        "late",
        "max_in_flight",
        "ordered",
        "restored",
        "retries",
        "succeeded",
    )

    def __init__(self, *, max_in_flight: int | None, deduplicate: bool = True, ordered: bool = False) -> None:
        self.max_in_flight = max_in_flight
        self.deduplicate = deduplicate
        self.ordered = ordered
        self.admitted = self.succeeded = self.failed = self.duplicates = self.restored = self.cancelled = 0
        self.retries = self.late = self.failed_in_a_row = 0
        self.journal = Journal()
        self._seen: dict[Hashable, int] = {}
        self._ready: Ready[int, T] = Ready()
        self._running: dict[int, T] = {}
        self._batch: tuple[Sequence[int], Sequence[T]] | None = None
        """What was submitted last, if nothing else ran then."""
        self._waiting: dict[int, T] = {}
        self._timers = Timers()
        self._tries: dict[int, int] = {}  # attempts that have failed, of the tasks that had any
        self._order: deque[int] = deque()  # of an ordered run: the ids that have not been released
        self._held: dict[int, H] = {}

    # ------------------------------------------------------------------ what is where

    @property
    def ready(self) -> int:
        """How many tasks could be submitted now."""
        return len(self._ready)

    @property
    def running(self) -> int:
        """How many tasks the executor has."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """How many tasks wait for their next attempt."""
        return len(self._waiting)

    @property
    def held(self) -> int:
        """How many outcomes wait for earlier ones."""
        return len(self._held)

    @property
    def in_flight(self) -> int:
        """How many tasks are in here: ready, running, waiting, or held."""
        return len(self._ready) + len(self._running) + len(self._waiting) + len(self._held)

    def next_due(self) -> float | None:
        """The moment at which the next retry is due, or None."""
        return self._timers.next_due()

    def attempt(self, id: int) -> int:
        """Which attempt of the task is the next, or the running one; from 1."""
        return self._tries.get(id, 0) + 1

    # ------------------------------------------------------------------ events

    def admit(
        self, ids: Sequence[int], tasks: Sequence[T], keys: Sequence[Hashable] | None, now: float
    ) -> Sequence[tuple[int, T, int]]:
        """Take tasks in. Gives the duplicates among them, settled at once, as ``(id, task, id of the first)``.

        An exception of a key's ``__hash__`` or ``__eq__`` comes out with nothing admitted; the same tasks can then be
        admitted one by one.

        Args:
            ids: One a task, never used before.
            tasks: The tasks.
            keys: What identifies each; None where duplicates do not matter.
            now: The moment.
        """
        duplicates: list[tuple[int, T, int]] = []
        if self.deduplicate and keys is not None:
            known = len(self._seen)
            firsts = list(map(self._seen.setdefault, keys, ids))
            if len(self._seen) - known != len(firsts):  # or they were seen in an attempt that an exception ended
                rows = zip(ids, tasks, firsts, strict=True)
                duplicates = [(id, task, first) for id, task, first in rows if id != first]
        if duplicates:
            again = {id for id, _, _ in duplicates}
            fresh = [(id, task) for id, task in zip(ids, tasks, strict=True) if id not in again]
            taken_ids: Sequence[int] = [id for id, _ in fresh]
            taken: Sequence[T] = [task for _, task in fresh]
            self.duplicates += len(duplicates)
            self.journal.add(Event.DUPLICATE, now, [id for id, _, _ in duplicates])
        else:
            taken_ids, taken = ids, tasks
        self._ready.add(taken_ids, taken)
        self.journal.add(Event.ADMIT, now, taken_ids)
        self.admitted += len(ids)
        if self.ordered:
            self._order.extend(ids)
        return duplicates

    def restore(self, ids: Sequence[int], keys: Sequence[Hashable], now: float) -> dict[int, int]:
        """Settle new tasks as restored, since their outcomes are known from an earlier run; or as duplicates.

        An exception of a key's ``__hash__`` or ``__eq__`` comes out with nothing settled.

        Returns:
            For each duplicate the id of the task that it equals.
        """
        firsts = list(map(self._seen.setdefault, keys, ids)) if self.deduplicate else ids
        duplicates = {id: first for id, first in zip(ids, firsts, strict=True) if id != first}
        self.admitted += len(ids)
        if self.ordered:
            self._order.extend(ids)
        restored: Sequence[int] = ids
        if duplicates:
            self.duplicates += len(duplicates)
            self.journal.add(Event.DUPLICATE, now, list(duplicates))
            restored = [id for id in ids if id not in duplicates]
        self.restored += len(restored)
        self.journal.add(Event.RESTORE, now, restored)
        return duplicates

    def refuse(self, id: int, now: float) -> None:
        """Settle a new task as failed at once: it has no usable key."""
        self.admitted += 1
        self._count_failure()
        self.journal.add(Event.FAIL, now, (id,))
        if self.ordered:
            self._order.append(id)

    def submit(self, most: int, now: float) -> tuple[Sequence[int], Sequence[T]]:
        """Move up to *most* tasks from ready to running; gives their ids and tasks."""
        ids, tasks = self._ready.take(most)
        if ids:
            self._batch = None if self._running else (ids, tasks)
            self._running.update(zip(ids, tasks, strict=True))
            self.journal.add(Event.SUBMIT, now, ids)
        return ids, tasks

    def task(self, id: int) -> T:
        """The running task with this id.

        Raises:
            InvalidTransition: It is not running.
        """
        try:
            return self._running[id]
        except KeyError:
            raise InvalidTransition(f"Call {id} is not running: {self._where(id).value}.") from None

    def is_running(self, id: int) -> bool:
        """True while the executor has the task; a result for any other is late."""
        return id in self._running

    def succeed(self, ids: Sequence[int], now: float) -> tuple[Sequence[int], Sequence[T], dict[int, int]]:
        """Settle running tasks as successes.

        Returns:
            The ids that were running, their tasks, and the attempts of those that needed more than one.
        """
        running, batch = self._running, self._batch
        self._batch = None
        before = len(running)
        tasks: Sequence[T]
        if batch is not None and before == len(ids) and ids == batch[0]:
            tasks = batch[1]  # all that runs comes back at once, as in series: 0.03 us a task less than to look it up
            running.clear()
        else:
            tasks = list(map(running.pop, ids, repeat(_MISSING)))
        if before - len(running) != len(ids):
            known = [(id, task) for id, task in zip(ids, tasks, strict=True) if task is not _MISSING]
            self.late += len(ids) - len(known)
            ids, tasks = [id for id, _ in known], [task for _, task in known]
        if not ids:
            return ids, tasks, {}
        self.succeeded += len(ids)
        self.failed_in_a_row = 0
        self.journal.add(Event.SUCCEED, now, ids)
        tries = self._tries
        return ids, tasks, {id: tries.pop(id) + 1 for id in ids if id in tries} if tries else {}

    def fail(self, id: int, now: float) -> tuple[T, int]:
        """Settle a running task as failed; gives the task and how many attempts it had.

        Raises:
            InvalidTransition: It is not running.
        """
        task = self.task(id)
        del self._running[id]
        self._batch = None
        self._count_failure()
        self.journal.add(Event.FAIL, now, (id,))
        return task, self._tries.pop(id, 0) + 1

    def retry(self, id: int, delay: float, now: float) -> None:
        """Let a running task wait *delay* seconds for its next attempt.

        Raises:
            InvalidTransition: It is not running.
        """
        self._waiting[id] = self.task(id)
        del self._running[id]
        self._batch = None
        self._tries[id] = self._tries.get(id, 0) + 1
        self._timers.add(id, now + delay)
        self.retries += 1
        self.journal.add(Event.RETRY, now, (id,))

    def wake(self, now: float) -> int:
        """Make the tasks ready whose delay is over, ahead of those that never ran; gives how many."""
        due = self._timers.pop_due(now)
        if due:
            self._ready.add_first(due, [self._waiting.pop(id) for id in due])
            self.journal.add(Event.WAKE, now, due)
        return len(due)

    def cancel(self, now: float, *, running: bool) -> list[tuple[int, T, int]]:
        """Settle as cancelled what is ready or waiting, and with ``running=True`` what runs.

        Returns:
            The tasks, in the order of their ids, as ``(id, task, attempts begun)``.
        """
        gone = [(id, task, self._tries.pop(id, 0)) for id, task in [*self._ready, *self._waiting.items()]]
        self._ready.clear()
        self._waiting.clear()
        self._timers.clear()
        if running:
            gone += [(id, task, self._tries.pop(id, 0) + 1) for id, task in self._running.items()]
            self._running.clear()
            self._batch = None
        if gone:
            gone.sort(key=_first)
            self.cancelled += len(gone)
            self.journal.add(Event.CANCEL, now, [id for id, _, _ in gone])
        return gone

    # ------------------------------------------------------------------ order

    def hold(self, settled: Iterable[tuple[int, H]]) -> list[H]:
        """Keep outcomes of an ordered run, and give those whose turn has come."""
        held, order = self._held, self._order
        held.update(settled)
        turn: list[H] = []
        while order and order[0] in held:
            turn.append(held.pop(order.popleft()))
        return turn

    # ------------------------------------------------------------------ looking inside

    def check(self) -> None:
        """Compare every count and container with the others, and the journal with the transition table.

        Raises:
            InvalidTransition: They disagree; the message says where.
        """
        ready, running, waiting = {id for id, _ in self._ready}, set(self._running), set(self._waiting)
        settled = self.succeeded + self.failed + self.duplicates + self.restored + self.cancelled
        alive = len(self._ready) + len(running) + len(waiting)
        rules = {
            "a task is in one container": len(ready | running | waiting) == alive,
            "the counts add up to the tasks taken": settled + alive == self.admitted,
            "every waiting task has a timer": self._timers.ids() == waiting and len(self._timers) == len(waiting),
            "attempts are known of live tasks only": set(self._tries) <= ready | running | waiting,
            "no count is negative": min(settled, self.admitted, self.retries, self.late) >= 0,
            "no more than max_in_flight are in flight": self.max_in_flight is None
            or self.in_flight <= self.max_in_flight,
            "what is held waits for an earlier one": not self._order or self._order[0] not in self._held,
            "only an ordered run holds": self.ordered or (not self._held and not self._order),
        }
        for rule, kept in rules.items():
            if not kept:
                raise InvalidTransition(f"The engine is inconsistent, not so: {rule}. {self!r}")
        self._replay()

    def _replay(self) -> None:
        """Walk the journal through the transition table, and compare where each task ends with where it is."""
        states: dict[int, State] = {}
        for event, _, ids in self.journal:
            for id in ids:
                before = states.get(id, State.NEW)
                after = TRANSITIONS.get((before, event))
                if id not in states and not self.journal.complete:
                    after = _LEADS_TO[event]  # how it began has been forgotten
                if after is None:
                    raise InvalidTransition(f"Task {id} was {before.value} when {event.value} came. {self!r}")
                states[id] = after
        actual = dict.fromkeys((id for id, _ in self._ready), State.READY)
        actual.update(dict.fromkeys(self._running, State.RUNNING))
        actual.update(dict.fromkeys(self._waiting, State.WAITING))
        for id, state in states.items():
            if state is not actual.get(id, State.SETTLED):
                raise InvalidTransition(
                    f"Task {id} should be {state.value}, but is {actual.get(id, State.SETTLED).value}. {self!r}"
                )

    def _where(self, id: int) -> State:
        if id in self._running:
            return State.RUNNING
        if id in self._waiting:
            return State.WAITING
        if any(id == other for other, _ in self._ready):
            return State.READY
        return State.SETTLED

    def story(self, key: Hashable) -> str:
        """What is remembered of the task with this key, a line an event; for messages and debugging."""
        ids = [self._seen[key]] if key in self._seen else self._ids_of(key)
        if not ids:
            return "This task was not seen."
        lines = []
        for id in ids:
            lines.append(f"task {id}: now {self._where(id).value}, {self._tries.get(id, 0)} failed attempts")
            lines += [f"  {now:.6f}  {event.value}" for event, now in self.journal.of(id)]
        if not self.journal.complete:
            lines.append("  (only the last transitions of the run are remembered)")
        return "\n".join(lines)

    def _ids_of(self, task: object) -> list[int]:
        alive = [*self._ready, *self._running.items(), *self._waiting.items()]
        return [id for id, other in alive if other is task or other == task]

    def _count_failure(self) -> None:
        self.failed += 1
        self.failed_in_a_row += 1

    def __repr__(self) -> str:
        return (
            f"<Engine admitted={self.admitted} ready={self.ready} running={self.running} waiting={self.waiting} "
            f"held={self.held} succeeded={self.succeeded} failed={self.failed} duplicates={self.duplicates} "
            f"restored={self.restored} cancelled={self.cancelled}>"
        )


def _first(row: tuple[int, Any, int]) -> int:
    return row[0]
