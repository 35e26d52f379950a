"""What an executor must not do, told where the run would otherwise stand still, or fail in a place that names nobody.

Each of these is asked only where something is odd already, so a run with a good executor does not pay for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import index
from typing import Any

from celestialflow_core._call import Delivery, Malformed, Result, Successes, parts
from celestialflow_core._text import cut
from celestialflow_core.errors import ExecutorError

FATAL = -1  # the id of a result that speaks for the whole executor

__all__ = ["FATAL", "odd_slots", "parts_of", "silent_end", "stray"]


def odd_slots(executor: str, slots: Any, running: int) -> int:
    """What *slots* that are no positive int mean.

    Args:
        executor: Its name.
        slots: What it says.
        running: How many calls it has.

    Raises:
        ExecutorError: They mean nothing; or no call can go to it, and it has none whose end could change that.
    """
    try:
        number = index(slots)
    except TypeError:
        raise ExecutorError(executor, f"Its slots are {cut(slots, 50)}; they have to be an int, at least 1.") from None
    if number < 1 and not running:
        raise ExecutorError(
            executor,
            f"Its slots are {number} while it has no call, so it would never get one. They have to be at least 1 at "
            f"all times; where there is no worker at the moment, let the call wait for one.",
        )
    return number


def parts_of(executor: str, delivery: Delivery) -> Iterator[Successes | Result]:
    """The parts of *delivery*.

    Raises:
        ExecutorError: It is none.
    """
    try:
        yield from parts(delivery)
    except Malformed as error:
        raise ExecutorError(executor, str(error)) from None


def stray(executor: str, ids: Iterable[int], given: int) -> str | None:
    """What to say of results with *ids* for which no call waits: nothing, where they are only late.

    They change nothing, but where they were meant for a call, that one is waited for, for ever.

    Args:
        executor: Its name.
        ids: Of results that were delivered.
        given: How many ids there are in the run, from 0 on.
    """
    for id in ids:
        if id not in range(given):
            return (
                f"The executor {executor!r} is at fault: it delivered a result with the id {cut(id, 50)}, which no "
                f"call of this run has. It is dropped; a result has to have the id of its call."
            )
    return None


def silent_end(executor: str) -> ExecutorError:
    """What ends a run whose executor says that it cannot go on, and not why."""
    return ExecutorError(
        executor, "It delivered a result with the id -1, which ends the run, without the error that says why."
    )
