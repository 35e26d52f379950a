"""The synchronous shell: drives a run in the calling thread, for ``start`` and ``stream``."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, cast

from celestialflow_core._call import Delivery
from celestialflow_core._driver.completion import Completions
from celestialflow_core._driver.interrupt import Guard
from celestialflow_core._driver.plan import Plan
from celestialflow_core._driver.shell import UNRESPONSIVE, Shell
from celestialflow_core._driver.source import Source
from celestialflow_core._outcome import RunSummary
from celestialflow_core.executors.interface import Executor

__all__ = ["SyncShell"]


class SyncShell(Shell):
    """Drives a run in the calling thread; every method is to be called inside ``with guard``, and so is this class."""

    def __init__(self, plan: Plan, guard: Guard) -> None:
        self._completions: Completions[tuple[Any, Delivery]] = Completions()
        super().__init__(plan, self._completions)
        self.guard = guard
        guard.wake = self._completions.wake
        self.inbox = self._completions.items

    def open(self) -> None:
        """Start the executors, then tell everybody that the run begins.

        Raises:
            WorkerSetupError, NotPicklable, TypeError: The run cannot begin; everything is released.
        """
        plan = self._plan
        try:
            for given in plan.inputs:
                self._add_source(given.stage, Source(given.tasks, given.total, given.stage.patience))
            if self.run.storage is not None:
                self.run.storage.open()
            for stage in self.run.stages:
                work = self._route(stage)
                if work is not None:
                    with self.run.blaming(stage):
                        cast(Executor, stage.executor).start(work, stage.workers.deliver)
        except BaseException:
            self.closed = True
            self._drop_workers()
            plan.done()
            self.guard.release()
            raise
        self._announce({stage.name: source.total for stage, source in self._sources})

    def step(self) -> bool:
        """One round; True when the run is over and is to be closed."""
        run = self.run
        try:
            if self.guard.presses:
                run.interrupted(self.guard.reason)
                return True
            wait = run.advance()
            if run.finished:
                return True
            if not self._pull() and wait != 0.0:
                self._completions.wait(wait)
        except BaseException as error:
            run.interrupted(error)
            return True
        return False

    def _pull(self) -> bool:
        """Ask each source for tasks, if its stage wants some; False if none was asked."""
        run, asked = self.run, False
        for _ in range(len(self._sources)):
            stage, source = self._sources[0]
            wanted = run.wants(stage)
            if not wanted:
                self._sources.rotate(-1)
                continue
            asked = True
            if self.guard.presses:  # since the round began: the iterable might keep it from being seen for long
                break
            self._take_over(source.take(wanted))
        return asked

    def close(self) -> RunSummary:
        """Release everything and settle the account.

        Raises:
            BaseException: What ended the run, if something did: a stop rule, the iterable's error, Ctrl-C.
        """
        self.closed = True
        try:
            stages = self._to_stop()
            error = self._stop([cast(Executor, stage.executor) for stage in stages]) if stages else None
            return self._conclude(error)
        finally:
            self.guard.release()

    def _stop(self, executors: Sequence[Executor]) -> BaseException | None:
        """Stop the executors while results still come in; a further Ctrl-C ends the grace."""
        run, grace = self.run, self._grace()
        failures: list[BaseException] = []
        stopped: list[Executor] = []

        def stop(executor: Executor) -> None:
            try:
                executor.stop(grace)
            except BaseException as error:
                failures.append(error)
            finally:
                stopped.append(executor)
                self._completions.wake()

        inline = [executor for executor in executors if "inline" in executor.capabilities]
        for executor in executors:
            if executor not in inline:
                _in_thread(stop, executor)
        for executor in inline:
            stop(executor)
        presses, give_up_at = self.guard.presses, None
        hurries: list[threading.Thread | None] = []
        raised: BaseException | None = None
        while len(stopped) < len(executors) and (give_up_at is None or monotonic() < give_up_at):
            self._completions.wait(None if give_up_at is None else 0.1)
            try:
                run.collect(monotonic())
            except BaseException as error:  # Ctrl-C in a hook
                raised = raised or error
                self.guard.presses += 1
            if self.guard.presses > presses and give_up_at is None:
                give_up_at = monotonic() + UNRESPONSIVE
                hurries = [_in_thread(_stop_now, executor) for executor in executors if executor not in stopped]
                raised = raised or KeyboardInterrupt()
        for hurry in hurries:
            if hurry is not None:
                hurry.join(1.0)
        return raised or (failures[0] if failures else None)

    def _drop_workers(self) -> None:
        for stage in self._dropped():
            cast(Executor, stage.executor).stop(0)

    def abort(self) -> None:
        """Stop the workers at once and call nobody: for a stream that nobody will close."""
        self.closed = True
        try:
            self._drop_workers()
            self.run.drop()
            self._plan.summarise()
            self._plan.finish_observers()
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
