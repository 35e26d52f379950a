"""All that an executor sees of a task: the call that it runs, and the result that it delivers.

A batch of calls or of successful results can travel as columns (`Calls`, `Successes`): four parallel lists cost a
fifth of four hundred small objects, and the built-in executors move nothing else. Whoever iterates a batch gets
ordinary `Call` and `Result` objects, so an executor may be written without knowing that columns exist.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, overload, runtime_checkable

import attrs

from celestialflow_core._text import cut

if TYPE_CHECKING:
    from attrs import frozen as record
else:
    from functools import partial

    # A frozen slotted class costs four times an ordinary one to make; type checkers see it frozen, the run does not
    # pay for it. eq=False: a value may be an array, for which == gives no bool.
    record = partial(attrs.define, eq=False)

__all__ = [
    "Call",
    "Calls",
    "Delivery",
    "Drain",
    "Malformed",
    "Result",
    "Spread",
    "Successes",
    "args_of",
    "parts",
    "record",
]


@record
class Call:
    """One execution of the function: an id, unique in the run, and the arguments."""

    id: int
    args: tuple[Any, ...]


@record
class Result:
    """What became of a call. ``error`` is None for a success.

    Attributes:
        id: The call's.
        value: What the function returned.
        error: What it raised, or what the executor makes of its end.
        seconds: How long the call ran, or None where it is not known.
        worker: The index of the worker that ran it.
        traceback: The traceback as text, where the exception itself does not carry it (another process).
        output: What the call printed, where the executor keeps it.
        reruns: How often the call had been started before without its being charged.
    """

    id: int
    value: Any = None
    error: BaseException | None = None
    seconds: float | None = None
    worker: int | None = None
    traceback: str | None = None
    output: str | None = None
    reruns: int = 0


class Spread(tuple[Any, ...]):
    """The arguments of a call that has not exactly one, among others that stand for themselves; see `Calls`."""

    __slots__ = ()


def args_of(argument: Any) -> tuple[Any, ...]:
    """The arguments of a call that has only *argument*, or the ones that a `Spread` holds."""
    return tuple(argument) if type(argument) is Spread else (argument,)


class Calls(Sequence[Call]):
    """A batch of calls as two columns, ``ids`` and ``args``.

    Where every call has one argument, which is the rule, the batch is made of these themselves (``singles``), and the
    tuples around them only when somebody asks for ``args``: to make, unpack and collect them costs 0.1 us a call.
    """

    __slots__ = ("_args", "ids", "singles")

    def __init__(
        self,
        ids: Sequence[int],
        args: Sequence[tuple[Any, ...]] | None = None,
        *,
        singles: Sequence[Any] | None = None,
    ) -> None:
        self.ids = ids
        self.singles = singles
        self._args = args

    @property
    def args(self) -> Sequence[tuple[Any, ...]]:
        """The arguments of each call."""
        if self._args is None:
            self._args = list(zip(self.singles or (), strict=True))
        return self._args

    def arguments(self) -> Sequence[Any]:
        """The only argument of each call, or its arguments as a `Spread`."""
        return list(map(Spread, self.args)) if self.singles is None else self.singles

    @classmethod
    def of(cls, calls: Sequence[Call]) -> Calls:
        """*calls* as columns; a batch that has them already is given back as it is."""
        if isinstance(calls, cls):
            return calls
        return cls([call.id for call in calls], [call.args for call in calls])

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Call]:
        return map(Call, self.ids, self.args)

    @overload
    def __getitem__(self, index: int) -> Call: ...
    @overload
    def __getitem__(self, index: slice) -> Calls: ...
    def __getitem__(self, index: int | slice) -> Call | Calls:
        if isinstance(index, slice):
            if self.singles is not None:
                return Calls(self.ids[index], singles=self.singles[index])
            return Calls(self.ids[index], self.args[index])
        return Call(self.ids[index], self.args[index])


class Successes(Sequence[Result]):
    """A batch of successful results as four columns of one length."""

    __slots__ = ("ids", "seconds", "values", "workers")

    def __init__(
        self,
        ids: Sequence[int],
        values: Sequence[Any],
        seconds: Sequence[float | None],
        workers: Sequence[int | None],
    ) -> None:
        self.ids = ids
        self.values = values
        self.seconds = seconds
        self.workers = workers

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Result]:
        for id, value, seconds, worker in zip(self.ids, self.values, self.seconds, self.workers, strict=True):
            yield Result(id, value, None, seconds, worker)

    @overload
    def __getitem__(self, index: int) -> Result: ...
    @overload
    def __getitem__(self, index: slice) -> Successes: ...
    def __getitem__(self, index: int | slice) -> Result | Successes:
        if isinstance(index, slice):
            return Successes(self.ids[index], self.values[index], self.seconds[index], self.workers[index])
        return Result(self.ids[index], self.values[index], None, self.seconds[index], self.workers[index])


@runtime_checkable
class Drain(Protocol):
    """A delivery whose content is taken when the driver gets to it, so that one call can announce many results."""

    def take(self) -> Iterable[Successes | Result]:
        """All that has come by now, in order."""
        ...


Delivery = Sequence[Result] | Drain


class Malformed(TypeError):
    """What was delivered is no delivery; the text says what is wrong with it."""


def parts(delivery: Delivery) -> Iterator[Successes | Result]:
    """Split a delivery into runs of successes, as columns, and failures one by one, in their order.

    Raises:
        Malformed: It is no delivery, or what is in it is no `Result`.
    """
    if isinstance(delivery, Successes):
        yield delivery
        return
    if isinstance(delivery, Drain):
        yield from delivery.take()
        return
    if not isinstance(delivery, Iterable):
        raise Malformed(f"It delivered {cut(delivery, 100)}; it has to deliver a sequence of Result objects.")
    run: list[Result] = []
    for result in delivery:
        plain = type(result) is Result and result.error is None and not result.reruns and result.output is None
        if not (plain and type(result.seconds) is float) and (fault := _fault(result)) is not None:
            if run:
                yield _columns(run)
            raise Malformed(fault)
        if plain:
            run.append(result)
            continue
        if run:
            yield _columns(run)
            run = []
        yield result
    if run:
        yield _columns(run)


def _fault(result: Any) -> str | None:
    """What is wrong with *result*, and would fail much later, where nobody knows any more who made it; or None."""
    if not isinstance(result, Result):
        return f"It delivered {cut(result, 100)}, which is no Result."
    wrong = next((name for name, fits in _FIELDS.items() if not fits(getattr(result, name))), None)
    if wrong is None:
        return None
    return (
        f"It delivered a Result, with the id {cut(result.id, 50)}, whose {wrong!r} is "
        f"{cut(getattr(result, wrong), 100)}; see celestialflow_core.executors.Result for what it may be."
    )


_FIELDS: dict[str, Callable[[Any], bool]] = {
    "id": lambda id: isinstance(id, Hashable),
    "error": lambda error: error is None or isinstance(error, BaseException),
    "seconds": lambda seconds: seconds is None or hasattr(seconds, "__float__"),
    "traceback": lambda text: text is None or isinstance(text, str),
    "output": lambda text: text is None or isinstance(text, str),
    "reruns": lambda number: isinstance(number, int),
}


def _columns(run: list[Result]) -> Successes:
    return Successes(
        [result.id for result in run],
        [result.value for result in run],
        [result.seconds for result in run],
        [result.worker for result in run],
    )
