"""I12: an option works in an execution mode, or the constructor refuses it and says why. This walks the table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from celestialflow_core import Backoff, Stop, TaskManager, TaskTimeout, TooManyErrors, current_worker, hookimpl
from celestialflow_core._manager.options import ManagerOptions
from celestialflow_core.testing import RecordingStore, wait_until

Proof = Callable[[Any], None]
PROOFS: dict[str, Proof] = {}


def proof(*options: str) -> Callable[[Proof], Proof]:
    """This function shows that *options* work in the mode that it is given."""

    def add(function: Proof) -> Proof:
        for option in options:
            PROOFS[option] = function
        return function

    return add


@proof("worker_limit")
def worker_limit(mode: Any) -> None:
    """No worker has an index beyond the limit."""
    outcomes = mode.manager(lambda task: task, worker_limit=2).stream(range(40))
    assert {outcome.worker for outcome in outcomes} <= {0, 1}


@proof("max_retries", "retry_exceptions", "backoff")
def retries(mode: Any) -> None:
    """Three calls, for an error that is listed."""
    manager = mode.manager(int, max_retries=2, retry_exceptions=ValueError, backoff=Backoff(initial=0))
    (outcome,) = manager.stream(["x"])
    assert outcome.attempts == 3


@proof("max_info", "log_level", "log_dir")
def log(mode: Any) -> None:
    """A file with a line for the task, cut to max_info; and none of a lower level."""
    from pathlib import Path

    mode.manager(len, max_info=9, log_level="SUCCESS", log_dir="here").start(["x" * 100])
    (file,) = Path("here").iterdir()
    text = file.read_text()
    assert "SUCCESS" in text
    assert "INFO" not in text
    assert "x" * 20 not in text
    assert "xxx" in text


@proof("unpack_task_args")
def unpack(mode: Any) -> None:
    """The items of the task are the arguments."""
    (outcome,) = mode.manager(divmod, unpack_task_args=True).stream([(7, 2)])
    assert outcome.value == (3, 1)


@proof("enable_success_cache", "enable_error_cache")
def caches(mode: Any) -> None:
    """The dicts."""
    manager = mode.manager(int, enable_success_cache=True, enable_error_cache=True)
    manager.start(["1", "x"])
    assert (manager.success_dict, list(manager.error_dict)) == ({"1": 1}, ["x"])


@proof("enable_duplicate_check")
def duplicates(mode: Any) -> None:
    """On and off."""
    assert mode.manager(abs, enable_duplicate_check=True).start([1, 1]).duplicates == 1
    assert mode.manager(abs, enable_duplicate_check=False).start([1, 1]).succeeded == 2


@proof("show_progress", "progress_desc", "name")
def progress(mode: Any) -> None:
    """Accepted with the run whole; what is shown is tested with the bars."""
    manager = mode.manager(abs, show_progress=True, progress_desc="Counting", name="mine")
    assert manager.start(range(5)).name == "mine"


@proof("task_timeout")
def task_timeout(mode: Any) -> None:
    """A task that hangs is ended or abandoned at the limit."""
    import asyncio
    from pathlib import Path

    name, release = mode.name, Path("release").absolute()

    def job(task: int) -> Any:
        if task == 0:
            return asyncio.sleep(60) if name == "async" else wait_until(release.exists)
        return task

    outcomes = {outcome.task: outcome for outcome in mode.manager(job, task_timeout=0.4, max_retries=0).stream([0, 1])}
    release.touch()
    assert isinstance(outcomes[0].error, TaskTimeout)
    assert outcomes[1].value == 1


@proof("stop")
def stop(mode: Any) -> None:
    """The rule ends the run."""
    with pytest.raises(TooManyErrors):
        mode.manager(int, stop=Stop(errors=2)).start(["x", "y", "z", "w"])


@proof("max_in_flight")
def max_in_flight(mode: Any) -> None:
    """The iterable is pulled no further."""
    tasks = iter(range(1000))
    with mode.manager(abs, max_in_flight=3).stream(tasks) as outcomes:
        next(outcomes)
    assert next(tasks) <= 4


@proof("worker_setup")
def worker_setup(mode: Any) -> None:
    """The state of the worker."""
    (outcome,) = mode.manager(lambda task: current_worker().state, worker_setup=lambda: "ready").stream([1])
    assert outcome.value == "ready"


@proof("grace")
def grace(mode: Any) -> None:
    """What runs when the stream is closed has time to finish."""
    import threading
    from pathlib import Path

    started, release = Path("started").absolute(), Path("release").absolute()

    def job(task: int) -> int:
        if task == 1:
            started.touch()
            wait_until(release.exists)
        return task

    manager = mode.manager(job, grace=30.0, enable_success_cache=True)
    stream = manager.stream([0, 1])
    assert next(stream).task == 0
    if mode.name in ("thread", "process", "futures"):
        wait_until(started.exists)
    timer = threading.Timer(0.2, release.touch)
    timer.start()
    stream.close()
    timer.join()
    # In serial and in async nothing ran at that moment, so there was nothing to wait for.
    assert manager.success_dict in ({0: 0}, {0: 0, 1: 1})
    if mode.name in ("thread", "process", "futures"):
        assert manager.success_dict == {0: 0, 1: 1}


@proof("sinks", "resume", "version")
def sinks(mode: Any) -> None:
    """What a store has accepted is not run again."""
    store = RecordingStore()
    assert mode.manager(abs, sinks=[store], version="2").start([1, -2]).succeeded == 2
    assert store.log[0][1].version == "2"
    summary = mode.manager(abs, sinks=[store], resume=True).start([1, -2, 3])
    assert (summary.restored, summary.succeeded) == (2, 1)


@proof("shard")
def shard(mode: Any) -> None:
    """Two halves make a whole."""
    halves = [mode.manager(abs, shard=f"{number}/2").start(range(50)) for number in (1, 2)]
    assert [half.total + half.skipped for half in halves] == [50, 50]
    assert sum(half.total for half in halves) == 50
    assert all(half.skipped for half in halves)


@proof("plugins")
def plugins(mode: Any) -> None:
    """A plugin object has its say."""

    class Plugin:
        @hookimpl
        def process_result(self, task: int, result: int) -> int:
            return result + 1

    (outcome,) = mode.manager(abs, plugins=[Plugin()]).stream([1])
    assert outcome.value == 2


@proof("executor_options")
def executor_options(mode: Any) -> None:
    """Empty ones are right everywhere; what an executor does not take is refused by it."""
    assert mode.manager(abs, executor_options={}).start([1]).succeeded == 1
    with pytest.raises((TypeError, ValueError), match="executor.option"):
        mode.manager(abs, executor_options={"colour": 1}).start([1])


REFUSED = {
    ("serial", "task_timeout"): "it cannot end a running call. Modes that can: thread, process, async",
    ("futures", "task_timeout"): "it cannot end a running call. Modes that can: thread, process, async",
    ("futures", "worker_setup"): "it does not run set-up code in its workers. Modes that do: serial, thread, pro",
}
VALUES: dict[str, Any] = {"task_timeout": 1.0, "worker_setup": lambda: None}


def test_table_has_every_option() -> None:
    """An option that is added without a line here fails this test."""
    positional = {"worker_limit", "max_retries", "max_info", "unpack_task_args"}
    assert set(PROOFS) == set(ManagerOptions.__annotations__) | positional


@pytest.mark.parametrize("option", sorted(PROOFS))
def test_option_works_or_is_refused_with_a_reason(mode: Any, option: str, own_folder: Any) -> None:
    """There is no third way: ignored."""
    reason = REFUSED.get((mode.name, option))
    if reason is None:
        PROOFS[option](mode)
        return
    with pytest.raises(ValueError, match=f"^{option} does not work with execution_mode=") as raised:
        mode.manager(abs, **{option: VALUES[option]})
    assert reason in str(raised.value)


def test_executor_that_is_made_later_is_asked_before_a_task_is_taken() -> None:
    """What a factory makes tells its capabilities only then."""
    from celestialflow_core.testing import ScriptedExecutor

    tasks = iter([1])
    manager: TaskManager[int, int] = TaskManager(abs, lambda: ScriptedExecutor(), task_timeout=1.0, log_dir=None)
    with pytest.raises(ValueError, match="task_timeout does not work with execution_mode="):
        manager.start(tasks)
    assert next(tasks) == 1
