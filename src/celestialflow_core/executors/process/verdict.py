"""Who is to blame when a worker dies, and what becomes of the calls that it had.

The counts in shared memory tell, exactly, which call was running. That one is charged. What had ended but whose result
was not sent, and what had not started, runs elsewhere and is not charged.

One death tells nothing: nobody was running, but results were lost. Either somebody killed the worker between two
calls, or one of these calls left something behind that did (a thread that ends the process, a closed descriptor). Each
of them runs again, alone; one that ends its worker a second time, alone, is charged.
"""

from __future__ import annotations

import attrs

__all__ = ["Verdict", "judge"]


@attrs.frozen(kw_only=True)
class Verdict:
    """Positions in the worker's queue of calls.

    Attributes:
        ended: How many calls at the front had ended without their results having been sent.
        running: The position of the call that was running, or None.
        charged: Whether the running call, or the only ended one, is to blame.
        alone: Whether the ended calls have to run alone.
    """

    ended: int
    running: int | None
    charged: int | None
    alone: bool


def judge(started: int, ended: int, done: int, *, innocent: bool, was_alone: bool) -> Verdict:
    """Judge the death of a worker.

    Args:
        started: How many calls the worker had started.
        ended: How many of them had ended.
        done: How many of its results have arrived; the position of a call is its number less this.
        innocent: Whether we killed the worker ourselves, for another call.
        was_alone: Whether the call that it had was sent alone for having been suspected before.
    """
    unsent = max(0, ended - done)
    running = started - 1 - done if started > ended and started > done else None
    if running is not None:
        return Verdict(ended=unsent, running=running, charged=None if innocent else running, alone=False)
    suspects = unsent > 0 and not innocent
    return Verdict(
        ended=unsent,
        running=None,
        charged=0 if suspects and was_alone else None,
        alone=suspects and not was_alone,
    )
