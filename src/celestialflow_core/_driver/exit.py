"""Where outcomes leave a run: for the consumer of a stream, or, where there is none, for nobody."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from celestialflow_core._observe.interface import Settled
from celestialflow_core._outcome import Outcome

if TYPE_CHECKING:
    from celestialflow_core._driver.stage import Kin, Stage

__all__ = ["Exit", "Flushed", "Outlet"]


class Flushed(NamedTuple):
    """What settled in a stage between two looks at it.

    Attributes:
        stage: Where it settled.
        batch: All of it; the successes as columns.
        kin: Where each success came from, if the run keeps track of that.
        outcomes: The outcomes of the successes, where they are wanted; or none.
        others: All other outcomes.
        kin_of_others: Where these came from.
    """

    stage: Stage
    batch: Settled
    kin: Sequence[Kin] | None
    outcomes: Sequence[Outcome[Any, Any]]
    others: Sequence[Outcome[Any, Any]]
    kin_of_others: Sequence[Kin] | None


class Outlet(Protocol):
    """What becomes of the tasks of a stage once they have settled."""

    @property
    def wants_outcomes(self) -> bool:
        """Whether somebody sees the outcomes, those of failures at least."""
        ...

    @property
    def wants_successes(self) -> bool:
        """Whether the `Outcome` of every success is needed."""
        ...

    def held(self) -> int:
        """How many settled tasks are kept, since something that comes of them has not been taken yet."""
        ...

    def close(self) -> None:
        """The run is ending: let nothing more come of anything."""
        ...

    def pass_on(self, flushed: Flushed) -> None:
        """Take what has settled in a stage."""
        ...


class Exit:
    """Holds outcomes until the consumer takes them.

    Attributes:
        wants_outcomes: Whether there is a consumer.
        outcomes: What it has not taken, in order.
    """

    __slots__ = ("outcomes", "wants_outcomes")

    def __init__(self, wants_outcomes: bool) -> None:
        self.wants_outcomes = wants_outcomes
        self.outcomes: deque[Outcome[Any, Any]] = deque()

    @property
    def wants_successes(self) -> bool:
        """As the outcomes of failures."""
        return self.wants_outcomes

    def held(self) -> int:
        """None: what waits for the consumer belongs to the run, not to a stage."""
        return 0

    def close(self) -> None:
        """Nothing comes of an outcome here."""

    def pass_on(self, flushed: Flushed) -> None:
        """Keep the outcomes for the consumer; in an ordered run those whose turn has come."""
        if not self.wants_outcomes:
            return
        settled = [*flushed.outcomes, *flushed.others] if flushed.others else flushed.outcomes
        engine = flushed.stage.engine
        if engine.ordered:
            settled = engine.hold((outcome.id, outcome) for outcome in settled)
        self.outcomes.extend(settled)
