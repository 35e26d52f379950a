"""What a worker holds for a run. This module travels by value: it may need what every Dask worker has, and no more.

A seat is the result of a task of Dask's, so that it goes away with the run, however that ends. Dask may also write
results to disk, or move them to another worker. The station in it must stay where it is: then only its name travels.
"""

from __future__ import annotations

import copyreg
import os
import pickle
import signal
import sys
from types import ModuleType
from typing import Any

from distributed import get_worker

__all__ = ["Seat", "Taking", "end_worker"]

KEPT = "_celestialflow_dask_kept"


class Taking:
    """Unpickled in a worker, this is a seat there.

    Args:
        name: What nobody else calls a seat.
        station: What makes the station, pickled.
        index: The worker's index.
        directory: The worker's own directory, by which it is known again.
    """

    def __init__(self, name: str, station: bytes, index: int, directory: str) -> None:
        self._args = (name, station, index, directory)

    def __reduce__(self) -> tuple[Any, ...]:
        return _take, self._args


class Seat:
    """Runs batches in the worker where it was taken."""

    def __init__(self, name: str, station: Any) -> None:
        self.name = name
        self.station = station

    def __call__(self, parcel: bytes) -> Any:
        """What the station makes of *parcel*; of an empty one, what its tear-down says."""
        if self.station is None:
            raise RuntimeError("The worker that had this part of the run has left.")
        if parcel:
            return self.station.run(parcel)
        kept().pop(self.name, None)
        return self.station.leave()

    def __reduce__(self) -> tuple[Any, ...]:
        kept()[self.name] = self.station
        return _find, (self.name,)


def end_worker(dask_worker: Any) -> None:
    """Run by a nanny: ends its worker, also where a call that is stuck holds the interpreter."""
    os.kill(dask_worker.pid, signal.SIGKILL)


def kept() -> dict[str, Any]:
    """The stations of this process whose seats have been written to disk or moved."""
    return sys.modules.setdefault(KEPT, ModuleType(KEPT)).__dict__


def _take(name: str, station: bytes, index: int, directory: str) -> Seat:
    if get_worker().local_directory != directory:
        # The address is the same, but what was to run there has been given up.
        raise RuntimeError("The worker for which this was meant has ended, and another has its address.")
    # Dask has tblib pickle exceptions, which makes of this one what cannot be unpickled; Python itself can do it.
    copyreg.dispatch_table.pop(BaseExceptionGroup, None)
    return Seat(name, pickle.loads(station)(index))


def _find(name: str) -> Seat:
    return Seat(name, kept().pop(name, None))
