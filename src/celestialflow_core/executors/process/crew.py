"""The workers that exist: how they come, how they are replaced, how they go.

Everything here belongs to the pool's thread. What a worker is given to do, and what becomes of that when it is gone, is
the pool's affair.
"""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from functools import partial

import celestialflow_core.executors.process.wire as wire
from celestialflow_core.executors.process.handle import Handle
from celestialflow_core.executors.process.memory import SharedMemory
from celestialflow_core.executors.process.output import Emit, Output
from celestialflow_core.executors.process.pickling import Outgoing
from celestialflow_core.executors.process.recycling import TO_LEAVE, Recycling
from celestialflow_core.executors.process.spawn import Recipe, spawn
from celestialflow_core.executors.process.staffing import Staffing

__all__ = ["CONNECTION", "OUTPUT", "PIDFD", "Crew"]

CONNECTION, OUTPUT, PIDFD = range(3)


class Crew:
    """The workers of one pool.

    Args:
        recipe: What workers are made from.
        limit: The most workers at work.
        recycling: When they are replaced.
        poll: Where their descriptors are watched.
        emit: Takes what they write.

    Attributes:
        handles: All workers.
        memory: What they share with us.
        staffing: How many there may be.
        roles: For each descriptor that is watched, whose it is, and what for.
    """

    def __init__(self, recipe: Recipe, limit: int, recycling: Recycling, poll: select.poll, emit: Emit) -> None:
        self._recipe = recipe
        self._recycling = recycling
        self._poll = poll
        self._emit = emit
        self._places = 2 * limit if recycling.active else limit  # one that leaves and its heir are there together
        self.memory = SharedMemory(self._places)
        self.staffing = Staffing(limit)
        self.handles: list[Handle] = []
        self.roles: dict[int, tuple[Handle, int]] = {}

    def hire(self, calls: int) -> bool:
        """Start as many workers as *calls* that are not finished need. Whether there may be fewer than before.

        Raises:
            WorkerSetupError: The system does not allow a single one.
        """
        handles, staffing = self.handles, self.staffing
        taken = {handle.index for handle in handles if handle.leaving is None}
        while len(taken) < min(calls, staffing.limit) and len(handles) < self._places:
            present = len(taken)
            if not staffing.may_start(present):
                return True
            index = next(index for index in range(present + 1) if index not in taken)
            try:
                self._start(index)
            except OSError as error:
                staffing.refused(error, present)
                return True
            taken.add(index)
        return False

    def recycle(self, per_call: float) -> None:
        """Let workers go that have done enough, and start others for those that soon will have.

        Args:
            per_call: How long a call takes, in seconds.
        """
        if not self._recycling.active:
            return
        now = time.monotonic()
        for handle in self._recycling.done_for(self.handles):
            self.let_go(handle, now)
        for handle in self.handles:
            if handle.leaving is not None and now >= handle.leaving + TO_LEAVE:
                handle.dropped = True
                handle.kill()
        for handle in list(self._recycling.without_heir(self.handles, per_call)):
            if len(self.handles) == self._places or not self.staffing.may_start_heir():
                return
            try:
                heir = self._start(handle.index)
            except OSError:
                return  # then the place is empty for a moment
            heir.predecessor = handle

    def moments(self) -> Iterator[float]:
        """When one that is leaving has taken too long."""
        for handle in self.handles:
            if handle.leaving is not None and not handle.dropped:
                yield handle.leaving + TO_LEAVE

    def came_up(self, handle: Handle) -> None:
        """The worker has said that it is ready."""
        handle.ready = True
        self._recycling.came_up(time.monotonic() - handle.born)

    def holds_too_much(self, handle: Handle) -> bool:
        """Whether the worker has just turned out to hold too much memory; it gets no more calls then."""
        if handle.worn or not self._recycling.holds_too_much(handle):
            return False
        handle.worn = True
        return True

    def let_go(self, handle: Handle, now: float) -> None:
        """Have the worker tear down and end."""
        handle.leaving = now
        self.send(handle, wire.message(wire.EXIT))

    def send(self, handle: Handle, buffers: list[wire.Buffer]) -> None:
        """Send a message, now as far as possible."""
        handle.sender.put(buffers)
        if handle.sender:
            self._watch_writing(handle)

    def send_more(self, handle: Handle) -> None:
        """The worker can take more of what waits to be sent."""
        handle.sender.flush()
        self._watch_writing(handle)

    def unwatch(self, fd: int) -> None:
        """Nothing more will come from *fd*."""
        if self.roles.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def remove(self, handle: Handle) -> None:
        """Take a worker that is dead off the books."""
        for fd in handle.descriptors:
            self.unwatch(fd)
        handle.close()
        self.handles.remove(handle)
        for other in self.handles:
            if other.predecessor is handle:
                other.predecessor = None

    def close(self) -> None:
        """End every worker that is left, and give the memory back."""
        for handle in self.handles[:]:
            handle.kill()
            handle.reap()
            handle.output.finish()
            self.remove(handle)
        self.memory.close()

    def _start(self, index: int) -> Handle:
        """Start worker *index*.

        Raises:
            OSError: The system refuses.
        """
        taken = {handle.slot for handle in self.handles}
        slot = next(slot for slot in range(self._places) if slot not in taken)
        self.memory.reset(slot)
        spawned = spawn(self._recipe, index, slot, self.memory.fd)
        func, setup = self._recipe.func, self._recipe.setup
        known = func.classes | (setup.classes if setup else frozenset())
        started = partial(self.memory.started, slot)
        output = Output(index, spawned.stdout, spawned.stderr, started, self._emit)
        handle = Handle(index, slot, spawned, Outgoing(known, func.by_value), output, self._recycling.calls)
        self.handles.append(handle)
        for fd in handle.descriptors:
            role = CONNECTION if fd == handle.connection else PIDFD if fd == handle.pidfd else OUTPUT
            self._poll.register(fd, select.POLLIN)
            self.roles[fd] = handle, role
        self.send(handle, self._recipe.preamble(index, output.token))
        return handle

    def _watch_writing(self, handle: Handle) -> None:
        self._poll.modify(handle.connection, select.POLLIN | (select.POLLOUT if handle.sender else 0))
