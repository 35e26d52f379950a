"""The engine against a naive model, driven in any order by hypothesis; it checks itself after each step.

The model is a dict from id to `Life`, and two lists. Where the engine moves batches by C loops, the model moves one
task at a time, so that a disagreement is a bug of the engine.
"""

from __future__ import annotations

import attrs
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from celestialflow_core._engine.journal import Journal
from celestialflow_core._engine.machine import Engine, IdSource
from celestialflow_core.errors import InvalidTransition

pytestmark = pytest.mark.pure

STATES = ("ready", "running", "waiting")
STRANGER = 10_000  # an id that was never admitted


@attrs.define
class Life:
    """What the model knows of one task: ``state`` is ready, running, waiting, or the status of its outcome."""

    task: int
    state: str
    tries: int = 0
    due: float = 0.0


class EngineMachine(RuleBasedStateMachine):
    """Does to an engine whatever a driver may do, and to the model the same."""

    @initialize(
        max_in_flight=st.integers(1, 12),
        deduplicate=st.booleans(),
        ordered=st.booleans(),
        remembered=st.sampled_from([0, 5, 8192]),
    )
    def begin(self, max_in_flight: int, deduplicate: bool, ordered: bool, remembered: int) -> None:
        """A new engine, and an empty model."""
        self.engine: Engine[int, int] = Engine(max_in_flight=max_in_flight, deduplicate=deduplicate, ordered=ordered)
        self.max_in_flight = max_in_flight
        self.engine.journal = Journal(remembered)
        self.ids = IdSource()
        self.now = 0.0
        self.lives: dict[int, Life] = {}
        self.ready: list[int] = []
        self.waiting: list[int] = []  # in the order in which they began to wait
        self.first_of: dict[int, int] = {}
        self.late = self.retries = self.in_a_row = 0
        self.unreleased: list[int] = []
        self.held: set[int] = set()

    # ------------------------------------------------------------------ the model's side

    def ids_in(self, state: str) -> list[int]:
        """The ids of the tasks in *state*, in their order."""
        return [id for id, life in self.lives.items() if life.state == state]

    def settle(self, settled: list[tuple[int, str]]) -> None:
        """These tasks have ended: note it, and in an ordered run hand the outcomes to ``hold``."""
        for id, status in settled:
            self.lives[id].state = status
            if status == "error":
                self.in_a_row += 1
            elif status == "success":
                self.in_a_row = 0
        if not self.engine.ordered:
            return
        expected = []
        self.held |= {id for id, _ in settled}
        while self.unreleased and self.unreleased[0] in self.held:
            expected.append(self.unreleased.pop(0))
            self.held.remove(expected[-1])
        assert self.engine.hold((id, id) for id, _ in settled) == expected

    def in_flight(self) -> int:
        """How many tasks are somewhere inside."""
        return sum(life.state in STATES for life in self.lives.values()) + len(self.held)

    # ------------------------------------------------------------------ what a driver does

    @rule(tasks=st.lists(st.integers(0, 15), max_size=8), keyed=st.booleans())
    def admit(self, tasks: list[int], keyed: bool) -> None:
        """A batch of tasks, equal ones among them; without keys nothing is a duplicate."""
        tasks = tasks[: self.max_in_flight - self.engine.in_flight]
        ids = self.ids.take(len(tasks))
        expected = []
        for id, task in zip(ids, tasks, strict=True):
            self.lives[id] = Life(task, "ready")
            if self.engine.ordered:
                self.unreleased.append(id)
            if keyed and self.engine.deduplicate and self.first_of.setdefault(task, id) != id:
                expected.append((id, task, self.first_of[task]))
            else:
                self.ready.append(id)
        duplicates = self.engine.admit(ids, tasks, tasks if keyed else None, self.now)
        assert list(duplicates) == expected
        self.settle([(id, "duplicate") for id, _, _ in expected])

    @rule(tasks=st.lists(st.integers(0, 15), max_size=5))
    def restore(self, tasks: list[int]) -> None:
        """Tasks whose outcomes are known, equal ones among them."""
        tasks = tasks[: self.max_in_flight - self.engine.in_flight]
        ids = self.ids.take(len(tasks))
        expected = {}
        for id, task in zip(ids, tasks, strict=True):
            self.lives[id] = Life(task, "ready")
            if self.engine.ordered:
                self.unreleased.append(id)
            if self.engine.deduplicate and self.first_of.setdefault(task, id) != id:
                expected[id] = self.first_of[task]
        assert self.engine.restore(ids, tasks, self.now) == expected
        self.settle([(id, "duplicate" if id in expected else "restored") for id in ids])

    @precondition(lambda self: self.engine.in_flight < self.max_in_flight)
    @rule(task=st.integers(0, 15))
    def refuse(self, task: int) -> None:
        """A task without a usable key."""
        (id,) = self.ids.take(1)
        self.lives[id] = Life(task, "ready")
        if self.engine.ordered:
            self.unreleased.append(id)
        self.engine.refuse(id, self.now)
        self.settle([(id, "error")])

    @rule(most=st.integers(-1, 9))
    def submit(self, most: int) -> None:
        """Some go to the executor, in their order."""
        expected, self.ready = self.ready[: max(0, most)], self.ready[max(0, most) :]
        ids, tasks = self.engine.submit(most, self.now)
        assert list(ids) == expected
        assert list(tasks) == [self.lives[id].task for id in expected]
        for id in expected:
            self.lives[id].state = "running"

    @rule(data=st.data())
    def succeed(self, data: st.DataObject) -> None:
        """Successes come in any order and split; among them late ones, repeated ones and ones of nobody."""
        running = self.ids_in("running")
        pool = st.sampled_from([*running, *list(self.lives)[:5], STRANGER])
        delivered = data.draw(st.lists(pool, max_size=8), label="delivered")
        if data.draw(st.booleans(), label="clean"):
            delivered = [id for id in dict.fromkeys(delivered) if id in running]
        expected = list(dict.fromkeys(id for id in delivered if id in running))
        ids, tasks, attempts = self.engine.succeed(delivered, self.now)
        assert list(ids) == expected
        assert list(tasks) == [self.lives[id].task for id in expected]
        assert attempts == {id: self.lives[id].tries + 1 for id in expected if self.lives[id].tries}
        self.late += len(delivered) - len(expected)
        self.settle([(id, "success") for id in expected])

    @precondition(lambda self: self.ids_in("running"))
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        """A running task fails for good."""
        id = data.draw(st.sampled_from(self.ids_in("running")))
        life = self.lives[id]
        assert self.engine.attempt(id) == life.tries + 1
        assert self.engine.fail(id, self.now) == (life.task, life.tries + 1)
        self.settle([(id, "error")])

    @precondition(lambda self: self.ids_in("running"))
    @rule(data=st.data(), delay=st.sampled_from([0.0, 0.5, 1.0, 1.0, 7.25]))
    def retry(self, data: st.DataObject, delay: float) -> None:
        """A running task fails, and waits for its next attempt."""
        id = data.draw(st.sampled_from(self.ids_in("running")))
        self.engine.retry(id, delay, self.now)
        life = self.lives[id]
        life.state, life.tries, life.due = "waiting", life.tries + 1, self.now + delay
        self.waiting.append(id)
        self.retries += 1

    @rule(data=st.data(), how=st.sampled_from(["fail", "retry"]))
    def answer_what_is_not_running(self, data: st.DataObject, how: str) -> None:
        """A failure for a task that is not running raises, and changes nothing."""
        id = data.draw(st.sampled_from([STRANGER, *[i for i, life in self.lives.items() if life.state != "running"]]))
        with pytest.raises(InvalidTransition, match=f"Call {id} is not running"):
            if how == "fail":
                self.engine.fail(id, self.now)
            else:
                self.engine.retry(id, 1.0, self.now)

    @rule(seconds=st.sampled_from([0.0, 0.25, 0.5, 1.0, 10.0]))
    def advance_the_clock(self, seconds: float) -> None:
        """Time passes; whoever is due comes before all that never ran."""
        self.now += seconds
        due = sorted((id for id in self.waiting if self.lives[id].due <= self.now), key=lambda id: self.lives[id].due)
        self.waiting = [id for id in self.waiting if id not in due]
        assert self.engine.wake(self.now) == len(due)
        for id in due:
            self.lives[id].state = "ready"
        self.ready[:0] = due

    @rule(data=st.data(), again=st.booleans())
    def lose_a_worker(self, data: st.DataObject, again: bool) -> None:
        """A worker dies with some calls: they fail at once, or are run elsewhere and come twice."""
        running = self.ids_in("running")
        lost = data.draw(st.lists(st.sampled_from(running), unique=True) if running else st.just([]), label="lost")
        if again:
            assert list(self.engine.succeed(lost, self.now)[0]) == lost
            self.settle([(id, "success") for id in lost])
            assert list(self.engine.succeed(lost, self.now)[0]) == []
            self.late += len(lost)
            return
        for id in lost:
            self.engine.fail(id, self.now)
            self.settle([(id, "error")])

    @rule(running=st.booleans())
    def cancel(self, running: bool) -> None:
        """What has not started is cancelled, and perhaps what runs, too."""
        states = {"ready", "waiting", *(["running"] if running else [])}
        gone = sorted(id for id, life in self.lives.items() if life.state in states)
        lives = [(id, self.lives[id]) for id in gone]
        expected = [(id, life.task, life.tries + (life.state == "running")) for id, life in lives]
        assert self.engine.cancel(self.now, running=running) == expected
        self.ready, self.waiting = [], []
        self.settle([(id, "cancelled") for id in gone])

    @precondition(lambda self: self.lives)
    @rule(data=st.data())
    def tell_a_story(self, data: st.DataObject) -> None:
        """The story of a task that is alive says where it is."""
        id = data.draw(st.sampled_from(list(self.lives)))
        life = self.lives[id]
        story = self.engine.story(life.task)
        if life.state in STATES and self.first_of.get(life.task, id) == id:
            assert f"task {id}: now {life.state}, {life.tries} failed attempts" in story

    # ------------------------------------------------------------------ after each step

    @invariant()
    def agrees_with_the_model(self) -> None:
        """Every count of the engine is what counting one by one gives; and its own check finds nothing."""
        engine = self.engine
        engine.check()
        assert engine.admitted == len(self.lives)
        assert (engine.ready, engine.running, engine.waiting) == tuple(len(self.ids_in(state)) for state in STATES)
        assert engine.succeeded == len(self.ids_in("success"))
        assert engine.failed == len(self.ids_in("error"))
        assert engine.duplicates == len(self.ids_in("duplicate"))
        assert engine.restored == len(self.ids_in("restored"))
        assert engine.cancelled == len(self.ids_in("cancelled"))
        assert (engine.late, engine.retries, engine.failed_in_a_row) == (self.late, self.retries, self.in_a_row)
        assert engine.held == len(self.held)
        assert engine.in_flight == self.in_flight() <= self.max_in_flight
        assert engine.next_due() == min((self.lives[id].due for id in self.waiting), default=None)

    def teardown(self) -> None:
        """The end: drain, and every task has had exactly one outcome."""
        if not hasattr(self, "engine"):
            return
        while self.in_flight() - len(self.held):
            self.advance_the_clock(10.0)
            self.submit(5)
            done = self.ids_in("running")[::-1]
            assert sorted(self.engine.succeed(done, self.now)[0]) == sorted(done)
            self.settle([(id, "success") for id in done])
            self.agrees_with_the_model()
        ends = ("success", "error", "duplicate", "restored", "cancelled")
        assert sum(len(self.ids_in(end)) for end in ends) == self.engine.admitted
        assert self.engine.held == 0
        assert self.unreleased == []


TestEngineMachine = EngineMachine.TestCase
