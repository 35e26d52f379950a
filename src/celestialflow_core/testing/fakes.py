"""Doubles that do what a test tells them, in the order that it tells them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from time import perf_counter
from typing import Any, Literal

from celestialflow_core._call import Call, Result
from celestialflow_core.executors.interface import Deliver, Work

__all__ = ["ScriptedExecutor"]

Order = Literal["first", "last"] | Callable[[Sequence[Call]], int]


class ScriptedExecutor:
    """An executor without workers: it answers calls in a given order, with given values and failures.

    It runs inside ``submit``, a few calls at a time, as the driver's only thread of control: a run over it takes the
    same course every time. A call that the script says nothing about runs the function.

        ScriptedExecutor(failures={3: [ConnectionError(), None]}, order="last")

    Args:
        answers: Values by task: by the argument of a call that has one, else by the tuple of all of them.
        failures: Errors by task: one for every attempt, or a sequence with one for each attempt, where None, and the
            end of the sequence, means that the attempt does not fail.
        order: Which of the waiting calls is next: "first", "last", or a function from the calls to an index.
        slots: How many calls it wants in flight.
        burst: How many calls each ``submit`` answers.
        capabilities: What it says that it can do; "inline" comes with them.
    """

    def __init__(
        self,
        *,
        answers: Mapping[Any, Any] | None = None,
        failures: Mapping[Any, BaseException | Sequence[BaseException | None]] | None = None,
        order: Order = "first",
        slots: int = 4,
        burst: int = 1,
        capabilities: Iterable[str] = (),
    ) -> None:
        self.slots = slots
        self.capabilities = frozenset({*capabilities, "inline"})
        self.waiting: list[Call] = []
        """Calls that are submitted and not answered."""
        self.log: list[tuple[str, Any]] = []
        """What happened: ("start", work), ("submit", ids), ("deliver", id), ("stop", grace)."""
        self._answers = dict(answers or {})
        self._failures = dict(failures or {})
        self._attempts: dict[Any, int] = {}
        self._order = order
        self._burst = burst
        self._work: Work | None = None
        self._deliver: Deliver | None = None

    def start(self, work: Work, deliver: Deliver) -> None:
        """Keep both."""
        self._work, self._deliver = work, deliver
        self.log.append(("start", work))

    def submit(self, calls: Sequence[Call]) -> None:
        """Take *calls*, then answer the next few of all that wait."""
        if self._work is None or self._deliver is None:
            raise RuntimeError("submit() was called before start(), or after stop().")
        if len(calls):
            self.log.append(("submit", [call.id for call in calls]))
            self.waiting.extend(calls)
        for _ in range(min(self._burst, len(self.waiting))):
            call = self.waiting.pop(self._next())
            result = self._answer(call, self._work.func)
            self.log.append(("deliver", call.id))
            self._deliver([result])

    def stop(self, grace: float) -> None:
        """Drop what waits."""
        self.log.append(("stop", grace))
        self.waiting.clear()
        self._deliver = None

    def _next(self) -> int:
        if isinstance(self._order, str):
            return 0 if self._order == "first" else -1
        return self._order(self.waiting)

    def _answer(self, call: Call, func: Callable[..., Any]) -> Result:
        task = call.args[0] if len(call.args) == 1 else call.args
        try:
            hash(task)
        except TypeError:
            task = None  # the script cannot name it
        error = self._failure(task)
        begin = perf_counter()
        value = None
        if error is None:
            try:
                value = self._answers[task] if task in self._answers else func(*call.args)
            except BaseException as raised:  # the user's function, as in any executor
                error = raised
        return Result(call.id, value, error, perf_counter() - begin, 0)

    def _failure(self, task: Any) -> BaseException | None:
        attempt = self._attempts[task] = self._attempts.get(task, 0) + 1
        scripted = self._failures.get(task)
        if scripted is None or isinstance(scripted, BaseException):
            return scripted
        return scripted[attempt - 1] if attempt <= len(scripted) else None
