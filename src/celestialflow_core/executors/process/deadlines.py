"""The limit on how long a call may run, and what is done about one that is late.

Its worker is asked for the stack of the stuck code and gets a moment for that; then it is killed, whatever it does. The
moment passes between two turns of the pool, so nobody waits for it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

import celestialflow_core.executors.process.stacks as stacks
from celestialflow_core.errors import TaskTimeout
from celestialflow_core.executors.interface import describe
from celestialflow_core.executors.process.handle import Handle
from celestialflow_core.executors.process.memory import SharedMemory

__all__ = ["Deadlines"]

_TO_ANSWER = 0.05  # seconds that a late worker has to tell where it is
_LOOK = 0.001  # seconds between two looks for the answer


class Deadlines:
    """Keeps one time limit for every call.

    Args:
        timeout: The longest that a call may run, in seconds.
        memory: Where workers say since when their call has been running.
    """

    def __init__(self, timeout: float, memory: SharedMemory) -> None:
        self._timeout = timeout
        self._memory = memory

    def begin(self, handle: Handle) -> None:
        """The worker is about to get its first call after a while."""
        handle.check_at = time.monotonic() + self._timeout

    def moments(self, handles: Iterable[Handle]) -> Iterator[float]:
        """When `enforce` has something to look at."""
        for handle in handles:
            if handle.kill_at is not None or (handle.calls.ids and handle.condemned is None):
                yield handle.check_at

    def enforce(self, handles: Iterable[Handle]) -> None:
        """Ask every worker whose call has run too long for its stack, and kill those that were asked."""
        now = time.monotonic()
        for handle in handles:
            if handle.check_at > now:
                continue
            if handle.kill_at is not None:
                self._carry_out(handle, now, handle.kill_at)
            elif handle.calls.ids and handle.condemned is None:
                self._look_at(handle, now)

    def error(self, handle: Handle, args: tuple[Any, ...]) -> TaskTimeout:
        """The error of the call with *args*, for which *handle*'s worker was killed."""
        return TaskTimeout(describe(args), self._timeout, handle.stack)

    def _look_at(self, handle: Handle, now: float) -> None:
        started, ended, since = self._memory.read(handle.slot)
        if started == ended:
            handle.check_at = now + self._timeout  # what starts from now on cannot be late before
        elif since + self._timeout > now:
            handle.check_at = since + self._timeout
        else:
            handle.condemned = started
            handle.kill_at = now + _TO_ANSWER
            handle.check_at = now + _LOOK
            handle.signal(stacks.ASK_FOR_STACK)

    def _carry_out(self, handle: Handle, now: float, kill_at: float) -> None:
        dump = self._memory.stack(handle.slot)
        if now < kill_at and not stacks.is_whole(dump):
            handle.check_at = now + _LOOK
            return
        handle.stack = stacks.readable(dump)
        handle.kill_at = None
        handle.kill()
