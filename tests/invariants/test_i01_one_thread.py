"""I1: the iterable, every hook, log line and progress update run in the thread that called start, one at a time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from celestialflow_core import Backoff, TaskManager, hookimpl
from celestialflow_core._observe.log import RunLog
from celestialflow_core._observe.progress import ProgressManager


class Witness:
    """Notes in which threads it is entered, and whether it ever was while it was entered already."""

    def __init__(self) -> None:
        self.threads: set[int] = set()
        self.places: set[str] = set()
        self.overlapped = False
        self._inside = threading.Lock()

    @contextmanager
    def at(self, place: str) -> Iterator[None]:
        """The caller is at *place*."""
        self.overlapped |= not self._inside.acquire(blocking=False)
        self.threads.add(threading.get_ident())
        self.places.add(place)
        yield
        self._inside.release()


class Everywhere:
    """A plugin with every per-run hook."""

    def __init__(self, witness: Witness) -> None:
        self.witness = witness

    @hookimpl
    def get_args(self, task: Any) -> Any:
        """The task."""
        with self.witness.at("get_args"):
            return (task,)

    @hookimpl
    def task_key(self, task: Any) -> Any:
        """The task."""
        with self.witness.at("task_key"):
            return task

    @hookimpl
    def process_result(self, task: Any, result: Any) -> Any:
        """The result."""
        with self.witness.at("process_result"):
            return result

    @hookimpl
    def should_retry(self, error: BaseException) -> bool:
        """Once."""
        with self.witness.at("should_retry"):
            return True

    @hookimpl
    def retry_delay(self) -> float:
        """At once."""
        with self.witness.at("retry_delay"):
            return 0.0


def _teller(name: str) -> Any:
    def told(self: Any) -> None:
        with self.witness.at(name):
            pass

    return hookimpl(told)


TOLD = ("on_start", "on_finish", "on_success", "on_error", "on_duplicate", "on_retry")
for _name in TOLD:
    setattr(Everywhere, _name, _teller(_name))


def job(task: int) -> int:
    """Some tasks fail."""
    if task % 7 == 3:
        raise ValueError(task)
    return task


@pytest.mark.parametrize("how", ["start", "start_async", "stream"])
def test_everything_of_the_user_runs_in_the_callers_thread(
    mode: Any, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Iterable, overrides, hooks, log, progress: one thread, and never two of them at once."""
    witness = Witness()

    def tasks() -> Iterator[int]:
        for task in [*range(40), 1, 2]:
            with witness.at("iterable"):
                pass
            yield task

    for kind in (RunLog, ProgressManager):
        for name in ("start", "settled", "retried", "finish"):

            def watched(
                self: Any, *args: Any, _real: Any = getattr(kind, name), _place: str = f"{kind.__name__}.{name}"
            ) -> Any:
                with witness.at(_place):
                    return _real(self, *args)

            monkeypatch.setattr(kind, name, watched)

    class Sub(TaskManager[Any, Any]):
        def process_result_dict(self) -> None:
            with witness.at("process_result_dict"):
                pass

    manager = mode.manager(
        job, Sub, plugins=[Everywhere(witness)], log_dir="logs", show_progress=True, backoff=Backoff(initial=0)
    )
    if how == "start":
        manager.start(tasks())
    elif how == "stream":
        assert len(list(manager.stream(tasks()))) == 42
    else:
        asyncio.run(manager.start_async(tasks()))
    assert witness.threads == {threading.get_ident()}
    assert not witness.overlapped
    assert witness.places >= {
        *TOLD,
        "iterable",
        "get_args",
        "task_key",
        "process_result",
        "should_retry",
        "retry_delay",
        "process_result_dict",
        "RunLog.settled",
        "ProgressManager.settled",
    }
    assert (manager.summary.total, manager.summary.failed, manager.summary.retries) == (42, 6, 6)


def test_busy_caller_delays_no_time_limit() -> None:
    """A consumer that takes its time is charged to nobody: limits are kept by threads of the executor."""
    gate = threading.Event()

    def hang(task: int) -> int:
        if task == 0:
            gate.wait(60)
        return task

    manager: TaskManager[int, int] = TaskManager(hang, "thread", 2, task_timeout=0.2, log_dir=None)
    seen: dict[int, Any] = {}
    for outcome in manager.stream(range(4)):
        seen[outcome.task] = outcome
        threading.Event().wait(0.3)  # the consumer is busy, longer than the limit
    gate.set()
    assert [seen[task].status for task in range(4)] == ["error", "success", "success", "success"]
    assert seen[0].seconds < 2
