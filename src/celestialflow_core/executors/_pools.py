"""What can be known of, and done to, a ``concurrent.futures`` pool that is not ours to understand.

The only module that looks behind a pool's public face. It does so to end processes that would not end by themselves
and to name how one died, and does without wherever a pool keeps its processes elsewhere.
"""

from __future__ import annotations

import inspect
import os
import signal
import sys
import threading
from concurrent.futures import Executor as Pool
from concurrent.futures import Future
from typing import Any

from celestialflow_core.executors.tracebacks import reason_of

__all__ = ["Closing", "ask_to_cancel", "exit_of", "has_processes", "processes_of"]


def has_processes(pool: Pool) -> bool:
    """Whether *pool* surely runs its calls in other processes; False means that it cannot be told."""
    return isinstance(getattr(pool, "_processes", None), dict)


def processes_of(pool: Pool) -> list[Any]:
    """The worker processes that *pool* has now, where it keeps them as the standard library and loky do."""
    held = getattr(pool, "_processes", None)
    found = list(held.values()) if isinstance(held, dict) else []
    return [process for process in found if hasattr(process, "pid") and hasattr(process, "exitcode")]


def ask_to_cancel(future: Future[Any]) -> None:
    """Request that *future* be cancelled. That it cannot be is no error: its result is then waited for, or dropped."""
    try:
        future.cancel()
    except Exception:  # parsl raises NotImplementedError; any answer but a cancellation means the same
        return


def exit_of(processes: list[Any]) -> int | None:
    """How the one of *processes* died that took its pool along, where that is plain; to be asked when all are gone.

    A pool that breaks ends its other workers itself: by SIGTERM (the standard library) or SIGKILL (loky).
    """
    codes = {process.exitcode for process in processes} - {None, 0}
    for pools_own in (-signal.SIGTERM, -signal.SIGKILL):
        if len(codes) > 1:
            codes.discard(int(pools_own))
    return codes.pop() if len(codes) == 1 else None


class Closing:
    """A pool on its way out: shut down by a thread of its own, since ``shutdown`` may wait for ever.

    Args:
        pool: The pool.
        idle: Whether nothing is with it. Then it is not asked to cancel, since parsl warns of that at each request.
    """

    def __init__(self, pool: Pool, idle: bool = False) -> None:
        self._pool = pool
        # Read now: a pool forgets its processes as soon as it is shut down.
        self._processes = processes_of(pool)
        self.cancels = not idle and "cancel_futures" in inspect.signature(pool.shutdown).parameters
        """Whether the pool is asked to cancel by itself what it has not started."""
        self.can_kill = bool(self._processes)
        """Whether the pool has processes that `kill` can end."""
        self.problem: str | None = None
        self._thread = threading.Thread(target=self._shut_down, name="celestialflow-pool-closing", daemon=True)
        self._thread.start()

    def _shut_down(self) -> None:
        for options in ({"cancel_futures": True}, {}) if self.cancels else ({},):
            try:
                self._pool.shutdown(wait=True, **options)
            except Exception as error:  # of the pool's; one that refuses to cancel is still to be shut down
                self.problem = reason_of(error)
            else:
                return

    def wait(self, seconds: float) -> bool:
        """Whether the pool was gone within *seconds*."""
        self._thread.join(max(0.0, seconds))
        return not self._thread.is_alive()

    def kill(self) -> None:
        """End the pool's processes, if it has any that can be found."""
        for process in self._processes:
            # Not process.kill(): loky's processes have none. One without an exit code has not been reaped, so that
            # its id cannot be another's by now.
            if process.exitcode is None and process.pid is not None:
                try:
                    os.kill(process.pid, signal.SIGKILL)
                except ProcessLookupError:  # reaped in this moment
                    continue

    def finish(self, seconds: float) -> None:
        """Wait up to *seconds*, and kill what is still there then.

        Also where ``shutdown`` has returned: a pool whose own thread has died waits for no process.
        """
        self.wait(seconds)
        if self.can_kill:
            self.kill()
            self.wait(5.0)
            for process in self._processes:
                # Loky with psutil does not: then multiprocessing keeps the process, and a pipe to it, for a good while.
                process.join(1.0)
        multiprocessing = sys.modules.get("multiprocessing")
        if multiprocessing is not None:
            # The same for those of a pool that had broken, and forgotten them, before it was closed.
            multiprocessing.active_children()
