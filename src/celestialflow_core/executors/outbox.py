"""Results of many workers on their way to the driver, without a lock and without an object a result."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from celestialflow_core._call import Result, Successes
from celestialflow_core.executors.interface import Deliver

__all__ = ["Outbox"]

_OTHER: Any = object()


class Outbox:
    """Collects results, and announces itself to the driver once for all that come before the driver looks.

    A success is put as a row ``(id, value, seconds, worker)``, anything else as a `Result`. ``put`` is the ``extend``
    of one list that holds all rows end to end, so it may be called from any thread, the row's tuple is free again at
    once, and the columns are four slices: rows that are kept as tuples cost 0.2 us each, the most of it in the garbage
    collector. After ``put`` call ``announce``. The order of the two writes on each side makes sure that no row is left
    behind: a worker puts, then reads ``announced``; the driver clears ``announced``, then takes the rows.
    """

    __slots__ = ("_deliver", "_mixed", "_rows", "announced", "closed", "put", "taken")

    def __init__(self, deliver: Deliver) -> None:
        self._deliver = deliver
        self._rows: list[Any] = []
        self._mixed = False
        self.put = self._rows.extend
        self.announced = False
        self.closed = False
        self.taken = 0
        """How many results the driver found when it looked last."""

    def put_other(self, result: Result) -> None:
        """Put what is no plain success."""
        self._mixed = True
        self._rows.extend((result.id, result, _OTHER, result.worker))

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
        rows = self._rows[:]
        del self._rows[: len(rows)]  # a thread may have put another row by now
        if not rows:
            self.taken = 0
            return ()
        columns = Successes(rows[0::4], rows[1::4], rows[2::4], rows[3::4])
        self.taken = len(columns)
        # The flag is set before its row is put and never cleared: whatever is in the columns, it has been set.
        return _runs(columns) if self._mixed and object in set(map(type, columns.seconds)) else (columns,)


def _runs(columns: Successes) -> list[Successes | Result]:
    runs: list[Successes | Result] = []
    begin = 0
    for end, seconds in enumerate(columns.seconds):
        if seconds is _OTHER:
            if begin < end:
                runs.append(columns[begin:end])
            runs.append(columns.values[end])
            begin = end + 1
    if begin < len(columns):
        runs.append(columns[begin:])
    return runs
