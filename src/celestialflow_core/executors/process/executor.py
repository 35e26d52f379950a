"""`ProcessExecutor`: what the driver calls. The work is done by the pool, on a thread of its own."""

from __future__ import annotations

import sys
import threading
import time
import warnings
from collections.abc import Sequence

import celestialflow_core.executors.process.failures as failures
from celestialflow_core._call import Call, Calls
from celestialflow_core.errors import NotPicklable, WorkerSetupError
from celestialflow_core.executors.interface import Deliver, Work
from celestialflow_core.executors.process.cgroup import usable_cpus
from celestialflow_core.executors.process.environments import Env, checked, environments
from celestialflow_core.executors.process.importing import module_being_imported
from celestialflow_core.executors.process.output import Emit
from celestialflow_core.executors.process.pickling import Shipped, ship
from celestialflow_core.executors.process.pool import Pool
from celestialflow_core.executors.process.recycling import Recycling
from celestialflow_core.executors.process.spawn import Recipe

__all__ = ["ProcessExecutor"]


class ProcessExecutor:
    """Runs calls on worker processes, each a fresh interpreter.

    Workers are started as calls come in, and never more than there are calls. What ends the whole run (a set-up that
    raises, a function that workers cannot import, workers that keep dying before they are ready) is delivered as one
    `Result` whose id is -1 and whose error is a `WorkerSetupError`; nothing is delivered after it, and ``stop`` is
    still to be called. Warnings (a system limit leaves fewer workers than wanted) are given in the caller's thread.

    Args:
        worker_limit: The most workers; None for the cpus that this process may use.
        max_tasks_per_worker: A worker that has run so many calls is replaced; its successor is started before.
        max_worker_memory: A worker that holds more than so many bytes (its resident set) after a lease is replaced.
        env: Environment variables of the workers, set before anything is imported: a dict, or a function that gives
            one for a worker's index. It is called once for each index, by ``start``.

    Attributes:
        on_output: Takes what workers write (their standard output and error, whoever writes to it): the worker's
            index, "stdout" or "stderr", and whole lines as bytes. Set before ``start``; called in a thread of the
            executor, so it should only pass them on. None writes them to the program's own streams, each line marked
            with the worker. What a call wrote is also in its `Result` if it failed.
    """

    on_output: Emit | None = None

    capabilities = frozenset({"timeout", "setup"})

    def __init__(
        self,
        worker_limit: int | None = None,
        *,
        max_tasks_per_worker: int | None = None,
        max_worker_memory: int | None = None,
        env: Env | None = None,
    ) -> None:
        _check_positive("worker_limit", worker_limit, "None lets the executor choose.")
        _check_positive("max_tasks_per_worker", max_tasks_per_worker, "None keeps workers for the whole run.")
        _check_positive("max_worker_memory", max_worker_memory, "It is in bytes; None is no limit.")
        if env is not None and not callable(env):
            env = checked(env, "env")
        self.worker_limit = usable_cpus() if worker_limit is None else worker_limit
        self._max_tasks = max_tasks_per_worker
        self._max_memory = max_worker_memory
        self._env = env
        self.slots = 2 * self.worker_limit
        self._work: Work | None = None
        self._pool: Pool | None = None
        self._thread: threading.Thread | None = None

    def start(self, work: Work, deliver: Deliver) -> None:
        """Make ready; workers start with the first calls.

        Called again with the same *work* while started, it keeps the workers and only takes the new *deliver*.

        Raises:
            NotPicklable: The function, or ``worker_setup``, cannot be sent to a worker.
            WorkerSetupError: The system refuses even the thread and the memory that the executor itself needs, the
                function *env* fails, or the run is started by the import of a module.
        """
        if self._pool is not None:
            if work is not self._work:
                raise RuntimeError("The executor is running other work. Stop it first, or use a second one.")
            self._pool.begin_run(deliver, self.on_output)
            return
        module = module_being_imported()
        if module is not None:
            raise WorkerSetupError(
                f"Importing the module {module!r} starts a run on processes. Each worker would import it again and "
                f"start workers of its own, without end. Start the run in a function, or under: "
                f"if __name__ == '__main__':"
            )
        if not sys.executable:
            raise WorkerSetupError("Worker processes need the path of the Python interpreter; sys.executable is empty.")
        recipe = Recipe(
            func=_shipped(work.func, "The function"),
            setup=None if work.setup is None else _shipped(work.setup, "worker_setup"),
            threads=max(1, usable_cpus() // self.worker_limit),
            envs=environments(self._env, self.worker_limit),
        )
        recycling = Recycling(self._max_tasks, self._max_memory)
        try:
            pool = Pool(recipe, self.worker_limit, work.timeout, recycling, deliver, self.on_output, self._set_slots)
        except OSError as error:
            raise WorkerSetupError(f"The process executor cannot start: {error}.") from error
        # A daemon, so that a program which ends without stop() is not held up; its workers end with it.
        thread = threading.Thread(target=pool.run, name="celestialflow-processes", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            pool.close()
            pool.release()
            raise WorkerSetupError(
                f"The process executor cannot start its thread: {error}. The limit on processes and threads "
                f"(ulimit -u, or the container's pids limit) is reached."
            ) from error
        self._work, self._pool, self._thread = work, pool, thread

    def submit(self, calls: Sequence[Call]) -> None:
        """Take *calls*."""
        pool = self._pool
        if pool is None:
            raise RuntimeError("submit() needs a started executor. Call start() first.")
        pool.submit(Calls.of(calls))
        if pool.warnings:
            self._warn(pool)

    def stop(self, grace: float) -> None:
        """Drop what has not started, give what runs *grace* seconds, and leave no process, thread or descriptor."""
        pool, thread = self._pool, self._thread
        if pool is None or thread is None:
            return
        pool.stop(time.monotonic() + max(0.0, grace))
        thread.join()
        pool.release()
        self._work = self._pool = self._thread = None
        self.slots = 2 * self.worker_limit
        self._warn(pool)

    def _set_slots(self, slots: int) -> None:
        self.slots = slots

    @staticmethod
    def _warn(pool: Pool) -> None:
        while pool.warnings:
            warnings.warn(pool.warnings.popleft(), RuntimeWarning, stacklevel=3)


def _check_positive(name: str, value: object, advice: str) -> None:
    if value is None:
        return
    text = f"{name} must be a positive int or None, got {value!r}. {advice}"
    if not isinstance(value, int):
        raise TypeError(text)
    if isinstance(value, bool) or value < 1:
        raise ValueError(text)


def _shipped(thing: object, what: str) -> Shipped:
    try:
        return ship(thing)
    except Exception as error:
        name = getattr(thing, "__qualname__", None) or type(thing).__qualname__
        advice = "What cannot leave this process (a lock, an open file, a connection) can be made in worker_setup."
        raise NotPicklable(f"{what} {name}", failures.reason_of(error), advice) from error
