"""What runs in a worker of Ray: holds a station, and passes bytes to it. Shipped by value, so Ray is all it needs."""

from __future__ import annotations

import pickle
from typing import Any

__all__ = ["StationHolder"]


class StationHolder:
    """An actor with a station.

    Args:
        packed: ``pickle.loads(packed)(index)`` makes the station.
    """

    def __init__(self, packed: bytes) -> None:
        self._packed = packed
        self._station: Any = None

    def ready(self) -> None:
        """Answers as soon as the worker has started."""

    def enlist(self, index: int) -> None:
        """Make the station."""
        try:
            import cloudpickle
        except ImportError:  # Ray brings one of its own, which will do
            import sys

            from ray import cloudpickle
            from ray.cloudpickle import cloudpickle as inner

            sys.modules.update({"cloudpickle": cloudpickle, "cloudpickle.cloudpickle": inner})
        self._station = pickle.loads(self._packed)(index)

    def run(self, parcel: bytes) -> bytes:
        """Run a batch."""
        ran: bytes = self._station.run(parcel)
        return ran

    def leave(self) -> str:
        """Run the tear-down."""
        said: str = self._station.leave()
        return said
