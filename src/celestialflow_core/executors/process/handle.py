"""One worker, as the parent sees it: its process, its descriptors, and the calls that it has."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

from celestialflow_core.executors.process.calls import CallQueue
from celestialflow_core.executors.process.output import Output
from celestialflow_core.executors.process.pickling import Outgoing
from celestialflow_core.executors.process.spawn import Spawned
from celestialflow_core.executors.process.wire import Message, Receiver, Sender

__all__ = ["Handle"]


class Handle:
    """A worker process.

    Attributes:
        calls: What was sent to it and has not come back, in the order in which it runs them.
        done: How many results have come back.
        asked: How many requests to hand calls back it has not answered.
        limit: How many calls it may run in its life.
        ready: Whether it has said that it is set up.
        born: When it was started.
        predecessor: The worker whose place it takes once that one leaves, or None.
        worn: Whether it is to get no more calls.
        alone: Whether the call that it has was sent alone, because one like it may have ended a worker.
        leaving: Since when it is to end by itself, or None.
        dropped: Whether it was killed because the run is over; nothing that it has matters any more.
        condemned: The count of the call for whose time limit it is killed, or None.
        kill_at: When that happens at the latest, until it has happened.
        check_at: When its time limit has to be looked at.
        stack: Where that call was stuck, if it could be had.
    """

    def __init__(self, index: int, slot: int, spawned: Spawned, outgoing: Outgoing, output: Output, limit: int) -> None:
        self.index = index
        self.slot = slot
        self.pid = spawned.process.pid
        self.connection = spawned.connection
        self.stdout = spawned.stdout
        self.stderr = spawned.stderr
        self.pidfd = spawned.pidfd
        self.outgoing = outgoing
        self.output = output
        self.sender = Sender(spawned.connection)
        self.calls = CallQueue()
        self.done = 0
        self.asked = 0
        self.limit = limit
        self.ready = False
        self.born = time.monotonic()
        self.predecessor: Handle | None = None
        self.worn = False
        self.alone = False
        self.leaving: float | None = None
        self.dropped = False
        self.condemned: int | None = None
        self.kill_at: float | None = None
        self.check_at = 0.0
        self.stack: str | None = None
        self.exitcode: int | None = None
        self.peak_bytes: int | None = None
        self._process = spawned.process
        self._reaped = False
        self._parent_peak = spawned.parent_peak
        self._receiver = Receiver(spawned.connection)

    @property
    def free(self) -> bool:
        """Whether calls may be sent to it."""
        before = self.predecessor
        return self.settled and not self.worn and self.room > 0 and (before is None or before.leaving is not None)

    @property
    def settled(self) -> bool:
        """Whether it runs calls, and may be asked to give some back."""
        return self.ready and not self.asked and not self.alone and self.leaving is None and self.condemned is None

    @property
    def room(self) -> int:
        """How many more calls may be sent to it."""
        return self.limit - self.done - len(self.calls)

    @property
    def descriptors(self) -> list[int]:
        """Our ends of all that leads to it."""
        fds = (self.connection, self.stdout, self.stderr, self.pidfd)
        return [fd for fd in fds if fd is not None]

    def messages(self) -> Iterator[Message]:
        """What has come from it."""
        return self._receiver.messages()

    @property
    def ended(self) -> bool:
        """Whether its end of the connection is closed."""
        return self._receiver.ended

    def kill(self) -> None:
        """End it at once, if it has not ended."""
        self.signal(signal.SIGKILL)

    def signal(self, number: int) -> None:
        """Send it a signal, if it has not ended."""
        if self._reaped:
            return  # the number may be another process's by now
        try:
            if self.pidfd is not None:
                signal.pidfd_send_signal(self.pidfd, number)
            else:
                os.kill(self.pid, number)
        except ProcessLookupError:
            pass  # it has ended, and somebody else has asked for its exit status

    def reap(self) -> None:
        """Wait for the end of the process, which is certain, and note how it ended."""
        if self._reaped:
            return
        self._reaped = True
        try:
            _, status, usage = os.wait4(self.pid, 0)
        except ChildProcessError:
            self._process.returncode = 0  # the program ignores SIGCHLD or waits for all children itself
            return
        self.exitcode = self._process.returncode = os.waitstatus_to_exitcode(status)
        # A child's high-water mark begins at that of the process it was spawned from: only more than that is its own.
        if usage.ru_maxrss > self._parent_peak:
            self.peak_bytes = usage.ru_maxrss * 1024

    def close(self) -> None:
        """Close our ends."""
        for fd in self.descriptors:
            os.close(fd)
