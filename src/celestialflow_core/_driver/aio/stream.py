"""What ``stream_async`` gives."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Generic, TypeVar

from celestialflow_core._driver.aio.shell import AsyncShell
from celestialflow_core._driver.run import Ending
from celestialflow_core._outcome import Outcome

__all__ = ["AsyncOutcomeStream"]

T = TypeVar("T")
R = TypeVar("R")


class AsyncOutcomeStream(Generic[T, R]):
    """The outcomes of a run, as they settle: an async iterator, and an async context manager that ends the run.

    The run begins with ``async with``, or with the first outcome that is asked for.
    """

    def __init__(self, make_shell: Callable[[], AsyncShell]) -> None:
        self._make_shell = make_shell
        self._shell: AsyncShell | None = None
        self._error: BaseException | None = None

    async def _open(self) -> AsyncShell:
        if self._shell is None:
            shell = self._make_shell()
            await shell.open()
            self._shell = shell
        return self._shell

    def __aiter__(self) -> AsyncIterator[Outcome[T, R]]:
        return self

    async def __anext__(self) -> Outcome[T, R]:
        shell = self._shell or await self._open()
        outcomes = shell.run.outcomes
        while not outcomes and not shell.closed:
            if await shell.step():
                await self._close(shell)
        if outcomes:
            return outcomes.popleft()
        shell.run.clear_frames()
        error, self._error = self._error, None
        if error is not None:
            raise error
        raise StopAsyncIteration

    async def _close(self, shell: AsyncShell) -> None:
        try:
            await shell.close()
        except Exception as error:
            self._error = error
        except BaseException:
            shell.run.outcomes.clear()
            raise

    async def aclose(self) -> None:
        """End the run: take nothing new, give what runs ``grace`` seconds, and release every worker."""
        shell = self._shell
        if shell is not None:
            if not shell.closed:
                shell.run.end(Ending(reason="The stream was closed.", grace=shell.grace))
                await shell.close()
            shell.run.outcomes.clear()

    async def __aenter__(self) -> AsyncOutcomeStream[T, R]:
        await self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self, warn: Any = warnings.warn) -> None:
        shell: AsyncShell | None = getattr(self, "_shell", None)
        if shell is not None and not shell.closed:
            shell.abort()
            warn(
                "A stream was dropped before its end, and its workers have been stopped. Use 'async with "
                "manager.stream_async(...) as outcomes:', or call its aclose().",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )
