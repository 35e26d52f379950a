"""Makes an adaptive cluster grow.

Dask's scheduler counts what it can place nowhere, half a second each while it does not know better, and wants one
thread for every five seconds of that. Batches are for workers that are there, so they count for nothing. So calls that
wait are shown to it as tasks that no worker can ever run, since they ask for a resource that none has.
"""

from __future__ import annotations

import math
from typing import Any
from uuid import uuid4

from distributed import Future

__all__ = ["Recruiting"]

RESOURCE = {"celestialflow: a worker more": 1}
TASKS_PER_PLACE = 10
"""The scheduler's target-duration over its unknown-task-duration, as they are by default."""
MOST = 500
"""Tasks at a time."""


class Recruiting:
    """The tasks that ask for workers.

    Args:
        client: Connected to the cluster.
        limit: The most places that the run may use, or None.
    """

    def __init__(self, client: Any, limit: int | None) -> None:
        self._client = client
        self._limit = limit
        self._futures: list[Future] = []

    def want(self, calls: int, places: int) -> None:
        """Ask for as many places again as there are, where *calls* wait and *places* are there."""
        target = min(2 * places or 1, places + calls, math.inf if self._limit is None else self._limit)
        # The scheduler rounds up: a place more than there are takes one task more than those would be worth.
        number = min(int(target - 1) * TASKS_PER_PLACE + 1, MOST) if target > places else 0
        self._futures = [future for future in self._futures if future.status == "pending"]
        if number > len(self._futures):
            keys = [f"celestialflow-recruit-{uuid4()}" for _ in range(number - len(self._futures))]
            self._futures += self._client.map(int, range(len(keys)), key=keys, resources=RESOURCE, pure=False)
        elif number < len(self._futures):
            drop = self._futures[number:]
            del self._futures[number:]
            self._client.loop.add_callback(self._client.cancel, drop, asynchronous=True, force=True)
