"""An event loop in a thread of its own, for our client.

A client that makes its own leaves it, and its thread, behind when it cannot connect.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from tornado.ioloop import IOLoop

__all__ = ["LoopThread"]

T = TypeVar("T")


class LoopThread:
    """Runs from the start.

    Attributes:
        loop: The loop.
    """

    loop: Any
    _over: asyncio.Event

    def __init__(self) -> None:
        ready = threading.Event()

        async def run() -> None:
            self.loop = IOLoop.current()
            self._over = asyncio.Event()
            ready.set()
            await self._over.wait()

        self._thread = threading.Thread(target=asyncio.run, args=(run(),), name="celestialflow-dask", daemon=True)
        self._thread.start()
        ready.wait()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What *coroutine* gives in the loop. An interrupt in the waiting thread cancels it."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop.asyncio_loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """End it, and what still runs in it."""
        self.loop.add_callback(self._over.set)
        self._thread.join()
