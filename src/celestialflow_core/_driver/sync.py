"""The synchronous shell: drives a run in the calling thread, for ``start`` and ``stream``."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from time import monotonic
from typing import Any, cast

from celestialflow_core._call import Delivery
from celestialflow_core._driver.completion import Completions
from celestialflow_core._driver.interrupt import Guard
from celestialflow_core._driver.plan import Plan
from celestialflow_core._driver.shell import UNRESPONSIVE, Shell
from celestialflow_core._driver.source import Source
from celestialflow_core._outcome import RunSummary
from celestialflow_core.executors.interface import Executor, Work

__all__ = ["SyncShell"]


class SyncShell(Shell):
    """Drives a run in the calling thread; every method is to be called inside ``with guard``, and so is this class."""

    def __init__(self, plan: Plan, make_work: Callable[[], Work], guard: Guard) -> None:
        self._completions: Completions[Delivery] = Completions()
        super().__init__(plan, self._completions, make_work)
        self._executor = cast(Executor, plan.executor)
        self._source: Source | None = None
        self.guard = guard
        guard.wake = self._completions.wake
        self.inbox = self._completions.items

    def open(self) -> None:
        """Start the executor, then tell everybody that the run begins.

        Raises:
            WorkerSetupError, NotPicklable, TypeError: The run cannot begin; everything is released.
        """
        plan = self._plan
        plan.run.inbox = self.inbox
        try:
            self._source = Source(plan.tasks, plan.total)
            work = self._route()
            if work is not None:
                plan.workers.started = True
                self._executor.start(work, plan.workers.deliver)
        except BaseException:
            self.closed = True
            self._drop_workers()
            plan.done()
            self.guard.release()
            raise
        self._announce(self._source.total)

    def step(self) -> bool:
        """One round; True when the run is over and is to be closed."""
        run, source = self.run, self._source
        assert source is not None
        try:
            if self.guard.presses:
                run.interrupted(self.guard.reason)
                return True
            wait = run.advance()
            if run.finished:
                return True
            wanted = run.wants()
            if wanted:
                tasks = source.take(wanted)
                if source.exhausted:
                    run.open = False
                if source.interrupt is not None:
                    run.keep(tasks)
                    raise source.interrupt
                if tasks:
                    run.take(tasks)
            elif wait != 0.0:
                self._completions.wait(wait)
        except BaseException as error:
            run.interrupted(error)
            return True
        return False

    def close(self) -> RunSummary:
        """Release everything and settle the account.

        Raises:
            BaseException: What ended the run, if something did: a stop rule, the iterable's error, Ctrl-C.
        """
        self.closed = True
        try:
            error = self._stop() if self._must_stop() else None
            return self._conclude(error, self._source.error if self._source is not None else None)
        finally:
            self.guard.release()

    def _stop(self) -> BaseException | None:
        """Stop the executor while results still come in; a further Ctrl-C ends the grace."""
        run, executor, grace = self.run, self._executor, self._grace()
        self._plan.workers.stopped = True
        failure: list[BaseException] = []
        finished = threading.Event()

        def stop(grace: float) -> None:
            try:
                executor.stop(grace)
            except BaseException as error:
                failure.append(error)
            finally:
                finished.set()
                self._completions.wake()

        if "inline" in executor.capabilities:
            stop(grace)
        else:
            _in_thread(stop, grace)
        presses, give_up_at, hurry = self.guard.presses, None, None
        raised: BaseException | None = None
        while not finished.is_set() and (give_up_at is None or monotonic() < give_up_at):
            self._completions.wait(None if give_up_at is None else 0.1)
            try:
                run.collect(monotonic())
            except BaseException as error:  # Ctrl-C in a hook
                raised = raised or error
                self.guard.presses += 1
            if self.guard.presses > presses and give_up_at is None:
                give_up_at = monotonic() + UNRESPONSIVE
                hurry = _in_thread(_stop_now, executor)
                raised = raised or KeyboardInterrupt()
        if hurry is not None:
            hurry.join(1.0)
        return raised or (failure[0] if failure else None)

    def _drop_workers(self) -> None:
        workers = self._plan.workers
        workers.route(None)
        workers.stopped = True
        if workers.started:
            self._executor.stop(0)

    def abort(self) -> None:
        """Stop the workers at once and call nobody: for a stream that nobody will close."""
        self.closed = True
        try:
            self._drop_workers()
            self.run.drop()
            self._plan.finish_observers(self._plan.summarise())
        finally:
            self._plan.done()
            self.guard.release()


def _in_thread(function: Callable[[Any], None], argument: Any) -> threading.Thread | None:
    """Call *function* beside the driver; or before it goes on, where the system has no thread left."""
    thread = threading.Thread(target=function, args=(argument,), name="celestialflow-stop", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        function(argument)
        return None
    return thread


def _stop_now(executor: Executor) -> None:
    try:
        executor.stop(0)
    except Exception as error:
        warnings.warn(f"The executor's stop(0) raised {error!r}.", RuntimeWarning, stacklevel=1)
