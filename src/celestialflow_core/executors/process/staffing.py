"""How many workers there may be, and what to make of one that cannot start.

The system may refuse a process at any number of them. With some at work the run goes on with those, and says so once;
with none it ends, with the limit's name. A worker that dies before it can run a call is started anew, three times in a
row at most.
"""

from __future__ import annotations

import errno
from collections import deque

import celestialflow_core.executors.process.descriptors as descriptors
from celestialflow_core.errors import WorkerSetupError
from celestialflow_core.executors.process._worker import NO_THREAD
from celestialflow_core.executors.process.handle import Handle

__all__ = ["Staffing"]

_TRIES = 3
_NO_MORE_THREADS = "The limit on processes and threads is reached (ulimit -u, or the container's pids limit)."
_SPARE_DESCRIPTORS = 16  # four for a worker, seven more while it starts, some for the program


class Staffing:
    """Keeps the limit on workers.

    Args:
        limit: The most workers that are wanted.

    Attributes:
        limit: The most workers that are possible, as far as is known by now.
        warnings: What the user should be told, to be given in the caller's thread.
        untold: Why there are fewer than wanted, until `tell` is called.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.warnings: deque[str] = deque()
        self.untold: str | None = None
        self._told = False
        self._wanted = limit
        self._failures = 0  # since a new worker has last run a call
        self._in_vain = 0  # since any worker has

    def may_start(self, present: int) -> bool:
        """Whether the descriptors reach for one more worker beside the *present* ones."""
        left = descriptors.descriptors_left() if present else None
        if left is None or left >= _SPARE_DESCRIPTORS:
            return True
        self._shrink(present, f"only {left} more file descriptors may be opened (ulimit -n)")
        return False

    @staticmethod
    def may_start_heir() -> bool:
        """Whether the descriptors reach for one that is to replace another; if not, that one has to leave first."""
        left = descriptors.descriptors_left()
        return left is None or left >= _SPARE_DESCRIPTORS

    def refused(self, error: OSError, present: int) -> None:
        """The system refused to start a worker.

        Raises:
            WorkerSetupError: And there is no other.
        """
        if not present:
            raise WorkerSetupError(f"No worker process can be started: {error}. {_advice(error)}") from error
        self._shrink(present, f"{error}. {_advice(error)}".rstrip(" ."))

    def died_at_start(self, handle: Handle, at_work: int, present: int) -> None:
        """A worker ended before it ran a call, while *at_work* others have proved that they can, of *present* ones.

        Raises:
            WorkerSetupError: It was the last of too many in a row, and nobody ran a call in between.
        """
        if handle.exitcode == NO_THREAD:
            # Those that start at the same time may take the room of one another: the last of them tries again, alone.
            self._in_vain += not present
            if self._in_vain >= _TRIES:
                raise WorkerSetupError(f"No worker process can start its second thread. {_NO_MORE_THREADS}")
            self._shrink(max(1, present), _NO_MORE_THREADS.rstrip("."))
            return
        self._failures += 1
        self._in_vain += 1
        if (self._failures if at_work else self._in_vain) < _TRIES:
            return
        said = handle.output.of(0) or ""
        how = f"exit status {handle.exitcode}" if (handle.exitcode or 0) >= 0 else f"signal {-(handle.exitcode or 0)}"
        if at_work:
            last = said.strip().splitlines()[-1:]
            self._shrink(at_work, f"others end before they can run a call ({how}: {''.join(last)[:200]})")
            return
        raise WorkerSetupError(
            f"{_TRIES} worker processes in a row ended before they could run a call; the last with {how}.",
            said,
        )

    def worked(self, *, first: bool) -> None:
        """A worker has run calls; its *first* ones or others."""
        self._in_vain = 0
        if first:
            self._failures = 0

    def _shrink(self, limit: int, reason: str) -> None:
        self.limit = limit
        self._failures = 0
        if not self._told:
            self.untold = reason

    def tell(self) -> None:
        """Warn that there are fewer workers than wanted, once, when it is known how many there are."""
        if self.untold is not None:
            self.warnings.append(f"Running with {self.limit} of {self._wanted} worker processes: {self.untold}.")
            self.untold, self._told = None, True


def _advice(error: OSError) -> str:
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return "The limit on open files is reached: raise it (ulimit -n)."
    if error.errno == errno.EAGAIN:
        return _NO_MORE_THREADS
    if error.errno == errno.ENOMEM:
        return "There is not enough memory for another process: lower worker_limit."
    return ""
