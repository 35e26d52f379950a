"""Which workers there are, kept up to date by the scheduler's events and a look now and then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import attrs

__all__ = ["Member", "Roster", "WorkerId"]

LOOK = 0.5
"""Seconds between two looks. Leaving is told by an event; joining is seen by looking, since the topic with the events
of all workers also has one for each result that anybody fetches."""
LOOK_PER_WORKER = 0.005

WorkerId = tuple[str, str]
"""The address of a worker and its own directory: one that starts again may have the same address."""


@attrs.frozen
class Member:
    """A worker that can be used.

    Attributes:
        places: How many calls it runs at a time.
        killable: Whether a nanny can end it, and a call of ours is all that it runs.
    """

    places: int
    killable: bool


class Roster:
    """The workers of a cluster that a run may use.

    Args:
        client: Connected to it.
        resources: What a call takes of them.
        limit: The most places, or None.
        killable_only: Whether workers that cannot be ended are left out.
        changed: Called in the client's loop when the workers have changed.
        left: Called there with each that has left, and whether the scheduler expected it to.
        gone: Called there when the scheduler is.

    Attributes:
        members: The workers; replaced as a whole.
        unfit: Addresses of workers that are left out since they cannot be ended.
        lacking: Whether there are workers, and none has the resources.
    """

    def __init__(
        self,
        client: Any,
        resources: Mapping[str, float] | None,
        limit: int | None,
        killable_only: bool,
        changed: Callable[[], None],
        left: Callable[[WorkerId, bool], None],
        gone: Callable[[], None],
    ) -> None:
        self._client = client
        self._resources = resources or {}
        self._limit = limit
        self._killable_only = killable_only
        self._changed = changed
        self._left = left
        self._gone = gone
        self.members: dict[WorkerId, Member] = {}
        self.unfit: list[str] = []
        self.lacking = False

    async def watch(self) -> None:
        """Look again and again; ends when it is cancelled, or the scheduler is gone."""
        while True:
            await asyncio.sleep(max(LOOK, LOOK_PER_WORKER * len(self.members)))
            try:
                await self.look()
            except OSError:
                if self._client.status != "running":
                    return self._gone()

    async def look(self) -> None:
        """Ask the scheduler."""
        info = await self._client.scheduler.identity(n_workers=-1)
        there = {(address, facts["local_directory"]): facts for address, facts in info["workers"].items()}
        for worker in [worker for worker in self.members if worker not in there]:
            self._remove(worker, False)
        members = dict(self.members)
        left = None if self._limit is None else self._limit - sum(member.places for member in members.values())
        self.unfit = []
        able = 0
        for worker, facts in there.items():
            places = self._places(facts)
            able += places > 0
            if worker in members or not places or facts["status"] not in ("running", "paused"):
                continue
            killable = bool(facts["nanny"]) and facts["nthreads"] == 1
            if self._killable_only and not killable:
                self.unfit.append(worker[0])
                continue
            if left is not None:
                places = min(places, left)
                left -= places
            if places:
                members[worker] = Member(places, killable)
        self.lacking = bool(there) and not able
        new = [worker for worker in members if worker not in self.members]
        self.members = members
        for worker in new:
            self._client.subscribe_topic(worker[0], partial(self._heard, worker))
        if new:
            self._changed()

    def _places(self, facts: Mapping[str, Any]) -> int:
        """How many calls a worker has threads and resources for."""
        places = int(facts["nthreads"])
        for name, amount in self._resources.items():
            places = min(places, int(facts["resources"].get(name, 0) / amount))
        return places

    def _heard(self, worker: WorkerId, event: tuple[float, Any]) -> None:
        """An event of the worker's."""
        said = event[1]
        if isinstance(said, dict) and said.get("action") == "remove-worker":
            self._remove(worker, bool(said.get("expected")))

    def _remove(self, worker: WorkerId, expected: bool) -> None:
        if worker not in self.members:
            return
        members = dict(self.members)
        del members[worker]
        self.members = members
        if not any(address == worker[0] for address, _ in members):
            self._client.unsubscribe_topic(worker[0])
        self._left(worker, expected)
        self._changed()
