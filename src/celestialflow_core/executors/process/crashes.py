"""The error of a call that has ended its worker, and all that can be said about it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

import celestialflow_core.executors.process.cgroup as cgroup
from celestialflow_core.errors import WorkerCrashed
from celestialflow_core.executors.interface import describe
from celestialflow_core.executors.process._worker import CONNECTION_LOST
from celestialflow_core.executors.process.handle import Handle

__all__ = ["Crashes"]

_FRESH = 5.0  # seconds for which a kill that the kernel reports may explain the death of a worker


class Crashes:
    """Makes the errors of one run.

    Args:
        oom_kills: Tells how many processes of our group the kernel has killed for want of memory.
        clock: Tells the time.
    """

    def __init__(
        self, oom_kills: Callable[[], int | None] = cgroup.oom_kills, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._oom_kills = oom_kills
        self._clock = clock
        self._known = oom_kills()
        self._unexplained = 0
        self._seen_at = 0.0
        self._times: dict[int, int] = {}

    def forget_calls(self) -> None:
        """A new run begins, and its calls are numbered anew."""
        self._times = {}

    def error(self, id: int, args: tuple[Any, ...], handle: Handle) -> WorkerCrashed:
        """The error of call *id* with *args*, which has ended the worker of *handle*."""
        self._times[id] = times = self._times.get(id, 0) + 1
        note = ""
        if handle.exitcode == CONNECTION_LOST:
            note = "The task closed the descriptor that leads from the worker to its parent."
        elif handle.exitcode == -signal.SIGKILL and self.out_of_memory():
            note = "It is likely out of memory: the kernel has just killed a process of this group for that reason."
        return WorkerCrashed(describe(args), handle.index, handle.pid, handle.exitcode, handle.peak_bytes, note, times)

    def out_of_memory(self) -> bool:
        """Whether a SIGKILL that was just seen is likely the kernel's, for want of memory. One kill explains one."""
        kills, now = self._oom_kills(), self._clock()
        if kills is None or self._known is None:
            return False
        if kills > self._known:
            self._unexplained += kills - self._known
            self._known, self._seen_at = kills, now
        elif now - self._seen_at > _FRESH:
            self._unexplained = 0
        if not self._unexplained:
            return False
        self._unexplained -= 1
        return True
