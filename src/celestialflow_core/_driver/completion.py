"""The completion queue: what executors deliver, from any thread, to the one thread that drives the run."""

from __future__ import annotations

from collections import deque
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

__all__ = ["Completions"]

X = TypeVar("X")

LONGEST = 1.0  # seconds; a signal that comes between the interpreter's last look and the wait is seen only after it


class Completions(Generic[X]):
    """Holds deliveries, and wakes a driver that waits in ``wait``.

    ``put`` may be called from any thread and from a signal handler. It costs an append while the driver is busy: the
    driver says that it sleeps *before* it looks a last time, a deliverer appends *before* it asks whether it sleeps.
    """

    def __init__(self) -> None:
        self.items: deque[X] = deque()
        self._asleep = False
        self._tokens: SimpleQueue[None] = SimpleQueue()

    def put(self, item: X) -> None:
        """Deliver *item*."""
        self.items.append(item)
        if self._asleep:
            self._asleep = False
            self.wake()

    def wake(self) -> None:
        """End the driver's wait, or its next one."""
        self._tokens.put(None)

    def wait(self, timeout: float | None) -> None:
        """Return when something has been delivered, at a ``wake``, or after *timeout* seconds; perhaps earlier."""
        self._asleep = True
        if not self.items:
            try:
                self._tokens.get(timeout=LONGEST if timeout is None else min(timeout, LONGEST))
            except Empty:
                pass
        self._asleep = False
        while not self._tokens.empty():
            self._tokens.get()
