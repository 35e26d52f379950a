"""Which worker gets how many calls, and who has to give some back. Decisions only; the pool carries them out."""

from __future__ import annotations

from collections.abc import Sequence

from celestialflow_core.executors.process.handle import Handle

__all__ = ["next_lease", "share_of", "victim_of"]


def next_lease(handles: Sequence[Handle], size: int, waiting: int) -> tuple[Handle, int] | None:
    """The worker that the next lease goes to, and its size; None if the calls should wait.

    An idle worker comes first, and idle workers share what there is. A busy one gets a second lease while the first is
    worked on, so that it never waits for us. A lease that is not full goes to a busy worker only when it is about to
    run dry: else a driver that submits in small pieces would be answered in small pieces, for ever.
    """
    best: Handle | None = None
    idle = 0
    for handle in handles:
        if handle.free:
            if not handle.calls.ids:
                idle += 1
            if best is None or len(handle.calls) < len(best.calls):
                best = handle
    if best is None:
        return None
    if idle:
        return best, min(size, -(-waiting // idle), best.room)
    has = len(best.calls)
    if has > size or (waiting < size and has > size // 2):
        return None
    return best, min(size, waiting, best.room)


def victim_of(handles: Sequence[Handle]) -> tuple[Handle, int] | None:
    """The worker with the most calls, if another one has none, and how many it should give back."""
    idle = sum(1 for handle in handles if handle.free and not handle.calls.ids)
    if not idle:
        return None
    busy = max((handle for handle in handles if handle.settled), key=lambda handle: len(handle.calls))
    waiting = len(busy.calls) - 1
    return (busy, share_of(waiting, idle)) if waiting > 0 else None


def share_of(waiting: int, idle: int) -> int:
    """How many of *waiting* calls should go to *idle* other workers."""
    return max(1, waiting * idle // (idle + 1))
