"""When to try again, after how long, and when to give up on a whole run: values and pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal, cast

import attrs

__all__ = ["Backoff", "RetryPolicy", "Stop", "check_exceptions"]


def _seconds(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"Backoff.{attribute.name} must be a number of seconds, at least 0, got {value!r}.")


def _factor(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value < math.inf:
        raise ValueError(f"Backoff.factor must be a number of at least 1, got {value!r}.")


def _part(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"Backoff.jitter must be a part between 0 and 1, got {value!r}.")


@attrs.frozen
class Backoff:
    """How long a failed task waits before it is tried again: exponential, with a cap and jitter.

    The delay before retry n is ``min(maximum, initial * factor ** (n - 1))`` seconds, of which jitter takes away a
    random part of up to ``jitter``, so that tasks which failed together do not come back together. (Exponential
    backoff with jitter as described in M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.)

    Attributes:
        initial: Seconds before the first retry.
        factor: What each further delay is multiplied by, at least 1.
        maximum: The longest delay, in seconds.
        jitter: The largest part of a delay that jitter may take away, from 0 to 1.

    Raises:
        ValueError: A value is out of its range.
    """

    initial: float = attrs.field(default=0.1, validator=_seconds)
    factor: float = attrs.field(default=2.0, validator=_factor)
    maximum: float = attrs.field(default=30.0, validator=_seconds)
    jitter: float = attrs.field(default=0.5, validator=_part)

    def delay(self, attempt: int, jitter: float = 0.0) -> float:
        """Seconds to wait after *attempt* (from 1) has failed.

        Args:
            attempt: The attempt that failed.
            jitter: A random number in [0, 1): how much of the jitter is taken.
        """
        try:
            delay = min(self.maximum, self.initial * float(self.factor) ** (attempt - 1))
        except OverflowError:
            delay = self.maximum if self.initial else 0.0
        return delay * (1.0 - self.jitter * jitter)


def check_exceptions(value: object) -> tuple[type[BaseException], ...]:
    """*value* as a tuple of exception classes.

    Raises:
        TypeError: It is not one exception class, nor an iterable of them.
    """
    if isinstance(value, type) and issubclass(value, BaseException):
        return (value,)
    try:
        # A str is iterable, but no more a class than its characters are: refused below, whole.
        members: tuple[Any, ...] = (value,) if isinstance(value, str) else tuple(cast("Iterable[Any]", value))
    except TypeError:  # it is not iterable: refused below
        members = (value,)
    for member in members:
        if not (isinstance(member, type) and issubclass(member, BaseException)):
            raise TypeError(
                f"retry_exceptions must be exception classes, got {member!r}. For example "
                f"retry_exceptions=(TimeoutError, ConnectionError)."
            )
    return members


@attrs.define(eq=False)
class RetryPolicy:
    """Decides whether a failed attempt is tried again.

    Attributes:
        max_retries: Tries after the first.
        exceptions: Errors of these classes are worth a retry.
        explicit: Classes that are only worth one when they are listed themselves, not through a base class.
        backoff: How long to wait.
    """

    max_retries: int
    exceptions: tuple[type[BaseException], ...]
    explicit: tuple[type[BaseException], ...]
    backoff: Backoff

    def wants(self, error: BaseException) -> bool:
        """True if *error* is of a kind that is worth a retry."""
        for kind in self.explicit:
            if isinstance(error, kind):
                return any(issubclass(listed, kind) and isinstance(error, listed) for listed in self.exceptions)
        return isinstance(error, self.exceptions)


def _count(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ValueError(f"Stop.{attribute.name} must be a positive int or None, got {value!r}.")


def _minimum(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"Stop.minimum must be a positive int, got {value!r}.")


def _tasks(number: int) -> str:
    return "1 task" if number == 1 else f"{number} tasks"


def _fraction(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1):
        raise ValueError(f"Stop.fraction must be a part of the settled tasks, above 0 and up to 1, got {value!r}.")


def _when(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value not in ("soon", "now"):
        raise ValueError(f"Stop.when must be 'soon' or 'now', got {value!r}.")


@attrs.frozen(kw_only=True)
class Stop:
    """When to end a run before its tasks are through.

    Attributes:
        errors: After this many failed tasks.
        fraction: When more than this part of the tasks that ran have failed, once ``minimum`` have run.
        minimum: How many tasks must have run before ``fraction`` counts.
        consecutive: After this many failed tasks in a row.
        successes: After this many successful tasks; this is no error.
        when: "soon" lets the running calls finish; "now" ends them at once.

    Raises:
        ValueError: A value is out of its range, or no rule is given.
    """

    errors: int | None = attrs.field(default=None, validator=_count)
    fraction: float | None = attrs.field(default=None, validator=_fraction)
    minimum: int = attrs.field(default=30, validator=_minimum)
    consecutive: int | None = attrs.field(default=None, validator=_count)
    successes: int | None = attrs.field(default=None, validator=_count)
    when: Literal["soon", "now"] = attrs.field(default="soon", validator=_when)

    def __attrs_post_init__(self) -> None:
        if self.errors is self.fraction is self.consecutive is self.successes is None:
            raise ValueError("Stop needs a rule: errors=, fraction=, consecutive= or successes=.")

    def broken_by(self, succeeded: int, failed: int, in_a_row: int) -> str | None:
        """The rule that these counts break, in words, or None. Reaching ``successes`` is not asked here."""
        if self.errors is not None and failed >= self.errors:
            return f"{_tasks(failed)} failed (stop at errors={self.errors})"
        if self.consecutive is not None and in_a_row >= self.consecutive:
            return f"{_tasks(in_a_row)} failed in a row (stop at consecutive={self.consecutive})"
        ran = succeeded + failed
        if self.fraction is not None and ran >= self.minimum and failed > self.fraction * ran:
            return f"{failed} of {ran} tasks failed (stop above fraction={self.fraction:g})"
        return None

    def satisfied_by(self, succeeded: int) -> str | None:
        """Says in words that ``successes`` is reached, or None."""
        if self.successes is not None and succeeded >= self.successes:
            return f"{_tasks(succeeded)} succeeded (stop at successes={self.successes})"
        return None

    @classmethod
    def of(cls, value: Stop | int | None) -> Stop | None:
        """*value* as a rule; an int means ``errors``.

        Raises:
            TypeError: It is neither.
            ValueError: It is no positive number.
        """
        if value is None or isinstance(value, Stop):
            return value
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(
                f"stop must be a Stop, an int (so many errors) or None, got {value!r}. For example Stop(fraction=0.1)."
            )
        return cls(errors=value)
