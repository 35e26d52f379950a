"""Runs ``worker_setup``: a function or a generator function, once in each worker."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any

from celestialflow_core.errors import WorkerSetupError
from celestialflow_core.executors.interface import CURRENT_WORKER, Worker

__all__ = ["Setup", "YieldedNothing", "setup_error"]


_NO_STATE = object()


class YieldedNothing(Exception):
    """A generator function that is used as a set-up did not yield."""


class Setup:
    """The set-up of one worker: ``enter`` runs it and sets ``worker.state``, ``leave`` runs its tear-down.

    Both run in *context*, in which `current_worker` gives the worker.
    """

    __slots__ = ("_context", "_function", "_rest", "worker")

    def __init__(self, function: Callable[[], Any] | None, worker: Worker, context: Context) -> None:
        self.worker = worker
        self._function = function
        self._context = context
        self._rest: Generator[Any, Any, Any] | None = None

    def enter(self) -> None:
        """Run the set-up.

        Raises:
            WorkerSetupError: It raised, or yielded nothing.
        """
        self._context.run(CURRENT_WORKER.set, self.worker)
        if self._function is None:
            return
        try:
            state = self._context.run(self._function)
            if isinstance(state, Generator):
                self._rest = state
                state = self._context.run(next, state, _NO_STATE)
                if state is _NO_STATE:
                    raise YieldedNothing
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise setup_error(self.worker.index, error) from error
        self.worker.state = state

    def leave(self) -> None:
        """Run what a generator has after its yield; an error there is reported as a warning by the caller.

        Raises:
            Exception: What the tear-down raises.
        """
        rest, self._rest = self._rest, None
        if rest is not None:
            try:
                self._context.run(next, rest)
            except StopIteration:
                return
            finally:
                rest.close()


def setup_error(index: int, error: BaseException) -> WorkerSetupError:
    """What ends a run whose ``worker_setup`` raised *error* in worker *index*."""
    what = "yielded nothing" if isinstance(error, YieldedNothing) else f"raised {type(error).__name__}"
    text = "".join(traceback.format_exception(error, limit=-20))[-32_768:]
    return WorkerSetupError(f"worker_setup {what} in worker {index}; no task was run there.", text)
