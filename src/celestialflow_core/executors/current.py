"""Which worker runs the calling code. Needs nothing but the standard library: every worker process imports it."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

__all__ = ["CURRENT_WORKER", "Worker", "current_worker"]


class Worker:
    """The worker that runs the current call.

    Attributes:
        index: From 0; a replaced worker passes its index on.
        env: The environment variables that were set for it alone.
        state: What ``worker_setup`` returned or yielded.
    """

    __slots__ = ("env", "index", "state")

    def __init__(self, index: int, env: dict[str, str] | None = None, state: Any = None) -> None:
        self.index = index
        self.env = env or {}
        self.state = state

    def __repr__(self) -> str:
        return f"Worker(index={self.index})"


CURRENT_WORKER: ContextVar[Worker] = ContextVar("celestialflow_current_worker")


def current_worker() -> Worker:
    """The worker that is running the caller: its ``index``, ``env``, and the ``state`` from ``worker_setup``.

    Raises:
        RuntimeError: Called outside of a task or of its set-up.
    """
    try:
        return CURRENT_WORKER.get()
    except LookupError:
        raise RuntimeError("current_worker() works only inside a task, or in worker_setup.") from None
