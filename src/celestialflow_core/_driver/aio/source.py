"""An async iterable as the source of a run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Any, ClassVar

from celestialflow_core._driver.source import Source

__all__ = ["AsyncSource", "open_source"]


class AsyncSource:
    """Pulls tasks from an async iterable: one at a time, beside the run, which goes on meanwhile.

    Args:
        tasks: The async iterable.
        total: How many tasks there will be, where that is known.
        wake: Called when a task has come, or the end.
    """

    __slots__ = ("_iterator", "_pull", "_wake", "error", "exhausted", "total")
    interrupt: ClassVar[KeyboardInterrupt | None] = None  # one in a coroutine goes to the loop itself

    def __init__(self, tasks: AsyncIterable[Any], total: int | None, wake: Callable[[], None]) -> None:
        self._iterator = aiter(tasks)
        self._wake = wake
        self._pull: asyncio.Future[Any] | None = None
        self.total = total
        self.exhausted = False
        self.error: BaseException | None = None

    def take(self, most: int) -> list[Any]:
        """The task that has come, or none; in either case the next one is asked for."""
        if self.exhausted:
            return []
        chunk: list[Any] = []
        pull, self._pull = self._pull, None
        if pull is not None and not pull.done():
            self._pull = pull
            return chunk
        if pull is not None:
            try:
                chunk.append(pull.result())
            except StopAsyncIteration:
                self.exhausted = True
                return chunk
            except BaseException as error:
                self.error = error
                self.exhausted = True
                return chunk
        self._pull = asyncio.ensure_future(_anext(self._iterator))
        self._pull.add_done_callback(lambda _: self._wake())
        return chunk

    async def aclose(self) -> None:
        """Take nothing more: cancel the pull that is under way."""
        self.exhausted = True
        pull, self._pull = self._pull, None
        if pull is not None:
            pull.cancel()
            await asyncio.wait([pull])
            if not pull.cancelled():
                pull.exception()


async def _anext(iterator: AsyncIterator[Any]) -> Any:
    return await anext(iterator)


def open_source(tasks: Any, total: int | None, wake: Callable[[], None], patience: float) -> Source | AsyncSource:
    """The source of a run that is driven in an event loop, which may have an async iterable."""
    if isinstance(tasks, AsyncIterable):
        return AsyncSource(tasks, total, wake)
    return Source(tasks, total, patience)
