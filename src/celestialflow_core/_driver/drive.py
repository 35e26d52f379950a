"""Drives a run to its end, or hands it out as a stream: what managers and graphs do with a plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from celestialflow_core._driver.interrupt import Guard
from celestialflow_core._driver.plan import Plan
from celestialflow_core._driver.stream import OutcomeStream
from celestialflow_core._driver.sync import SyncShell
from celestialflow_core._outcome import RunSummary

if TYPE_CHECKING:
    from celestialflow_core._driver.aio.stream import AsyncOutcomeStream

__all__ = ["start", "start_async", "stream", "stream_async"]


def start(make_plan: Callable[[], Plan]) -> RunSummary:
    """Carry out the plan in the calling thread. It is made where a Ctrl-C cannot get in between."""
    with Guard() as guard:
        shell = _shell(make_plan, guard)
        shell.open()
        while not shell.step():
            pass
        return shell.close()


def stream(make_plan: Callable[[], Plan]) -> OutcomeStream[Any, Any]:
    """Begin with the plan in the calling thread, and give its outcomes."""
    with Guard() as guard:
        shell = _shell(make_plan, guard)
        shell.open()
        outcomes: OutcomeStream[Any, Any] = OutcomeStream(shell)
        outcomes.answer()
    return outcomes


def _shell(make_plan: Callable[[], Plan], guard: Guard) -> SyncShell:
    try:
        return SyncShell(make_plan(), guard)
    except BaseException:
        guard.release()  # there is no run that would do it at its end
        raise


async def start_async(make_plan: Callable[[], Plan]) -> RunSummary:
    """Carry out the plan in the running event loop."""
    from celestialflow_core._driver.aio.shell import AsyncShell

    shell = AsyncShell(make_plan())
    await shell.open()
    while not await shell.step():
        pass
    return await shell.close()


def stream_async(make_plan: Callable[[], Plan]) -> AsyncOutcomeStream[Any, Any]:
    """Give the outcomes of the plan, which begins with the first one that is asked for."""
    from celestialflow_core._driver.aio.shell import AsyncShell
    from celestialflow_core._driver.aio.stream import AsyncOutcomeStream

    return AsyncOutcomeStream(lambda: AsyncShell(make_plan()))
