"""What a run has at one worker: the future of its seat, and the batches that are there.

The executor's thread sends, the client's loop receives, and the worker may be lost at any time. Whoever takes a batch
out of the dict, which is one step for the interpreter, is the one that answers for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from distributed import Future

__all__ = ["Desk", "Flight", "WorkerLost"]

Done = Callable[[Any], None]


class WorkerLost(ConnectionError):
    """A worker is gone, and what was there with it."""


@attrs.define(eq=False)
class Flight:
    """A batch on its way.

    Attributes:
        future: Dask's future for what comes of it.
        done: Told once.
    """

    future: Future
    done: Done


@attrs.define(eq=False)
class Desk:
    """One worker.

    Attributes:
        seat: Dask's future for the seat there.
        flights: By the key of their futures, in the order in which they were sent.
        lost: Why nothing can be sent any more.
    """

    seat: Future
    flights: dict[Any, Flight] = attrs.field(factory=dict)
    lost: BaseException | None = None

    def add(self, flight: Flight) -> None:
        """Take note of a batch that has been sent."""
        self.flights[flight.future.key] = flight
        if self.lost is not None:
            self.end(flight, self.lost)

    def end(self, flight: Flight, answer: Any) -> None:
        """Say what became of a batch, if nobody has."""
        if self.flights.pop(flight.future.key, None) is not None:
            flight.done(answer)

    def close(self, reason: BaseException) -> list[Future]:
        """Give up all that is there; gives the futures that nobody waits for now."""
        self.lost = reason
        flights = list(self.flights.values())
        for flight in flights:
            self.end(flight, reason)
        return [*(flight.future for flight in flights), self.seat]
