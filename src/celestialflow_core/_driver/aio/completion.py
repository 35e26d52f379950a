"""The completion queue of a driver that is a coroutine."""

from __future__ import annotations

import asyncio
import threading
from typing import TypeVar

from celestialflow_core._driver.completion import Completions

__all__ = ["AsyncCompletions"]

X = TypeVar("X")


class AsyncCompletions(Completions[X]):
    """As `Completions`, for a driver in the running loop."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._event = asyncio.Event()

    def wake(self) -> None:
        """End the driver's wait, or its next one."""
        if threading.get_ident() == self._thread:
            self._event.set()
        else:
            try:
                self.loop.call_soon_threadsafe(self._event.set)
            except RuntimeError:  # the loop is closed: nobody waits any more
                pass

    async def wait_async(self, timeout: float | None) -> None:
        """As ``wait``, awaited."""
        self._asleep = True
        if not self.items:
            try:
                async with asyncio.timeout(timeout):
                    await self._event.wait()
            except TimeoutError:
                pass
        self._asleep = False
        self._event.clear()
