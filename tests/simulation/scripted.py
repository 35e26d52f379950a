"""The executor of the simulated worlds: it answers by a script, in an order and in batches that the dice decide."""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import attrs

from celestialflow_core import WorkerSetupError
from celestialflow_core.executors import Call, Result, Successes, Work

STRANGER = 10**9  # the id of a call that nobody made


def seeds(first: int, number: int) -> range:
    """The seeds of a test: those, or the one that the environment names."""
    chosen = os.environ.get("SEED")
    return range(first, first + number) if chosen is None else range(int(chosen), int(chosen) + 1)


class Script(Protocol):
    """Knows what comes of each attempt."""

    def answer(self, call: Call, task: Any, attempt: int) -> Result:
        """What the executor says of this attempt."""
        ...


class Box:
    """A delivery whose content is taken later, as the built-in executors make them."""

    def __init__(self, content: Sequence[Successes | Result]) -> None:
        self.content = content

    def take(self) -> Sequence[Successes | Result]:
        """All of it."""
        return self.content


class WorldExecutor:
    """Answers calls by the script, in an order and in batches that the dice decide, inline or from a thread."""

    def __init__(
        self, dice: random.Random, script: Script, inline: bool, gives_up_at: int | None, most_slots: int = 8
    ) -> None:
        self.dice = dice
        self.script = script
        self.inline = inline
        self.gives_up_at = gives_up_at
        self.capabilities = frozenset({"inline"} if inline else ())
        self.most_slots = most_slots
        self.slots = dice.randint(1, most_slots)
        self.waiting: list[Call] = []
        self.settled: list[Result] = []
        self.attempts: Counter[int] = Counter()
        self.succeeded: set[int] = set()  # the ids of the calls that were delivered as successes
        self.started = self.stopped = 0
        self.answered = 0
        self.gave_up = False
        self.problems: list[str] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def start(self, work: Work, deliver: Any) -> None:
        """Begin."""
        self.started += 1
        self.deliver = deliver
        if not self.inline:
            self._thread = threading.Thread(target=self._run, name="world")
            self._thread.start()

    def submit(self, calls: Sequence[Call]) -> None:
        """Take calls; inline, also answer some."""
        with self._changed:
            if self.stopped:
                self.problems.append("calls were submitted after stop")
            if len(self.waiting) + len(calls) > self.slots:
                self.problems.append(f"{len(self.waiting)} + {len(calls)} calls are more than {self.slots} slots")
            known = {call.id for call in self.waiting}
            self.problems += [f"call {call.id} was submitted while it ran" for call in calls if call.id in known]
            self.waiting += calls
            self._changed.notify()
        if self.inline:
            self._answer_some()

    def stop(self, grace: float) -> None:
        """End; what waits is dropped."""
        with self._changed:
            self.stopped += 1
            left, self.waiting = self.waiting, []
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
        if left and grace and self.dice.random() < 0.5:  # something still ends within the grace
            last = self._answer(left[0])
            self.succeeded |= {last.id} if last.error is None else set()
            self.deliver([last])

    def _run(self) -> None:
        while True:
            enough = self.dice.randint(1, self.slots)
            with self._changed:
                if len(self.waiting) < enough and not self.stopped:
                    self._changed.wait(0.0005)
                if self.stopped:
                    return
            self._answer_some()

    def _answer(self, call: Call) -> Result:
        self.attempts[call.id] += 1
        (task,) = call.args
        return self.script.answer(call, task, self.attempts[call.id])

    def _answer_some(self) -> None:
        with self._changed:
            if not self.waiting or self.gave_up:
                return
            number = self.dice.choice([1, 1, self.dice.randint(1, len(self.waiting)), len(self.waiting)])
            picked = [self.waiting.pop(self.dice.randrange(len(self.waiting))) for _ in range(number)]
            if self.dice.random() < 0.9:
                self.slots = max(self.slots, self.dice.randint(1, self.most_slots))
            results = [self._answer(call) for call in picked]
            self.answered += number
            if self.gives_up_at is not None and self.answered >= self.gives_up_at:
                self.gave_up = True
                results.append(Result(-1, error=WorkerSetupError("The executor gave up.")))
        self.succeeded |= {result.id for result in results if result.error is None}
        for delivery in self._deliveries(results):
            self.deliver(delivery)
        self.settled += [result for result in results if result.error is None]

    def _deliveries(self, results: list[Result]) -> Iterator[Any]:
        """The results split into deliveries of every form, with what does not belong there mixed in."""
        dice = self.dice
        while results:
            number = dice.choice([dice.randint(1, len(results)), len(results)])
            part, results = results[:number], results[number:]
            if dice.random() < 0.1:  # comes twice; the second time with another value, which must not count
                part.append(attrs.evolve(dice.choice(part), value="second delivery"))
                part = [result for at, result in enumerate(part) if result.id != -1 or at < number]
            if dice.random() < 0.1 and self.settled:
                part.insert(dice.randrange(len(part)), attrs.evolve(dice.choice(self.settled), value="late"))
            if dice.random() < 0.1:
                part.insert(dice.randrange(len(part)), Result(STRANGER, "whose?"))
            form = dice.choice(["list", "tuple", "box", "columns"])
            if form in ("box", "columns") and all(result.error is None for result in part):
                columns = Successes(
                    [result.id for result in part],
                    [result.value for result in part],
                    [result.seconds for result in part],
                    [result.worker for result in part],
                )
                yield columns if form == "columns" else Box([columns])
            else:
                yield Box(part) if form == "box" else part if form == "list" else tuple(part)
