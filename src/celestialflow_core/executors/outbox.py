"""Results of many workers on their way to the driver, without a lock and without an object a result."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import Any

from celestialflow_core._call import Result, Successes
from celestialflow_core.executors.interface import Deliver

__all__ = ["Outbox"]

Row = tuple[int, Any, float, int]


class Outbox:
    """Collects results, and announces itself to the driver once for all that come before the driver looks.

    A success is put as a plain row ``(id, value, seconds, worker)``, anything else as a `Result`. ``put`` is the
    ``append`` of a deque, so it may be called from any thread; after it, call ``announce``. The order of the two
    writes on each side makes sure that no row is left behind: a worker puts, then reads ``announced``; the driver
    clears ``announced``, then takes the rows.
    """

    __slots__ = ("_deliver", "_mixed", "_rows", "announced", "closed", "put", "taken")

    def __init__(self, deliver: Deliver) -> None:
        self._deliver = deliver
        self._rows: deque[Row | Result] = deque()
        self._mixed = False
        self.put = self._rows.append
        self.announced = False
        self.closed = False
        self.taken = 0
        """How many results the driver found when it looked last."""

    def put_other(self, result: Result) -> None:
        """Put what is no plain success."""
        self._mixed = True
        self._rows.append(result)

    def announce(self) -> None:
        """Tell the driver that there is something, unless it has been told."""
        if not self.announced and not self.closed:
            self.announced = True
            self._deliver(self)

    def __bool__(self) -> bool:
        return bool(self._rows)

    def take(self) -> Iterable[Successes | Result]:
        """All that has come by now, in order: runs of successes as columns, other results one by one."""
        self.announced = False
        mixed, self._mixed = self._mixed, False
        rows: list[Any] = list(islice(iter(self._rows.popleft, None), len(self._rows)))
        self.taken = len(rows)
        if not mixed:
            return (Successes(*zip(*rows, strict=True)),) if rows else ()
        return _runs(rows)


def _runs(rows: list[Row | Result]) -> list[Successes | Result]:
    runs: list[Successes | Result] = []
    begin = 0
    for end, row in enumerate(rows):
        if isinstance(row, Result):
            if begin < end:
                runs.append(Successes(*zip(*rows[begin:end], strict=True)))
            runs.append(row)
            begin = end + 1
    if begin < len(rows):
        runs.append(Successes(*zip(*rows[begin:], strict=True)))
    return runs
