"""How a run ends when something that is no ordinary error comes: from a task, from a hook, from the keyboard."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError as FutureCancelledError
from pathlib import Path
from typing import Any

import pytest

from celestialflow_core import Backoff, RunInProgress, TaskGraph, TaskManager, TooManyErrors, WorkerSetupError, hookimpl
from celestialflow_core._driver import interrupt
from celestialflow_core._driver.run import Run
from celestialflow_core.testing import wait_until


class Mine(BaseException):
    """An error that is no Exception."""


def raiser(error: type[BaseException]) -> Callable[[int], int]:
    """A function whose task 3 raises *error*."""

    def job(task: int) -> int:
        if task == 3:
            raise error("from the task")
        return task

    return job


@pytest.mark.parametrize(
    "error",
    [SystemExit, GeneratorExit, Mine, StopIteration, asyncio.CancelledError, FutureCancelledError, MemoryError],
    ids=lambda error: f"{error.__module__}.{error.__name__}",
)
def test_whatever_a_task_raises_is_its_own_error(mode: Any, error: type[BaseException]) -> None:
    """One error outcome, and every other task has its value."""
    manager = mode.manager(raiser(error), enable_success_cache=True, enable_error_cache=True)
    summary = manager.start(range(8))
    assert manager.success_dict == {task: task for task in range(8) if task != 3}
    raised = manager.error_dict[3]
    if mode.name == "async" and error is StopIteration:
        raised = raised.__cause__  # what Python makes of one that leaves a coroutine
    assert type(raised).__name__ == error.__name__
    assert "from the task" in str(raised)
    assert (summary.succeeded, summary.failed, summary.stopped) == (7, 1, None)


@pytest.mark.parametrize("mode", ["thread", "process", "futures"], indirect=True)
def test_keyboard_interrupt_of_a_task_elsewhere_is_its_own_error(mode: Any) -> None:
    """On threads and processes nobody pressed anything."""
    manager = mode.manager(raiser(KeyboardInterrupt), enable_error_cache=True)
    summary = manager.start(range(8))
    assert list(manager.error_dict) == [3]
    assert type(manager.error_dict[3]) is KeyboardInterrupt
    assert summary.succeeded == 7


@pytest.mark.parametrize("mode", ["serial", "async"], indirect=True)
@pytest.mark.parametrize("how", ["start", "stream"])
def test_keyboard_interrupt_of_a_task_here_ends_the_run_orderly(mode: Any, how: str) -> None:
    """It cannot be told from Ctrl-C: what finished is in the dicts, the rest is cancelled, and then it is raised."""
    finished: list[str] = []

    class Plugin:
        @hookimpl
        def on_finish(self, summary: Any) -> None:
            finished.append(summary.stopped)

    manager = mode.manager(raiser(KeyboardInterrupt), worker_limit=1, enable_success_cache=True, plugins=[Plugin()])
    with pytest.raises(KeyboardInterrupt):
        if how == "start":
            manager.start(range(1000))
        else:
            list(manager.stream(range(1000)))
    summary = manager.summary
    assert manager.success_dict.items() >= {0: 0, 1: 1, 2: 2}.items()
    assert 3 not in manager.success_dict
    assert summary.total == summary.succeeded + summary.cancelled < 1000
    assert summary.cancelled >= 1
    assert finished == [summary.stopped]
    assert summary.stopped.startswith("KeyboardInterrupt")
    assert manager.start([1]).succeeded == 1


@pytest.mark.parametrize("hook", ["on_success", "process_result", "get_args", "on_start"])
def test_keyboard_interrupt_in_a_hook_ends_the_run_with_an_account(mode: Any, hook: str) -> None:
    """Hooks run in the caller's thread, so it is Ctrl-C there; no task is lost from the counts."""
    pressed: list[int] = []

    def press(task: Any = None) -> Any:
        pressed.append(1)
        if len(pressed) == 1:
            raise KeyboardInterrupt
        return (task,) if hook == "get_args" else None

    plugin: Any
    if hook == "process_result":

        def process_result(task: int, result: int) -> int:
            press()
            return result

        plugin = type("Plugin", (), {hook: staticmethod(hookimpl(process_result))})()
    elif hook == "get_args":

        def get_args(task: int) -> Any:
            return press(task)

        plugin = type("Plugin", (), {hook: staticmethod(hookimpl(get_args))})()
    else:

        def on_something() -> None:
            press()

        plugin = type("Plugin", (), {hook: staticmethod(hookimpl(on_something))})()
    manager = mode.manager(abs, plugins=[plugin])
    with pytest.raises(KeyboardInterrupt):
        manager.start(range(50))
    summary = manager.summary
    assert summary.total == summary.succeeded + summary.failed + summary.cancelled
    assert manager.counts.running == manager.counts.pending == 0


def broken_source() -> Iterator[int]:
    """Two tasks, and then an error."""
    yield 1
    yield 2
    raise LookupError("no more tasks")


def broken_setup() -> None:
    """The set-up of a worker that never works."""
    raise LookupError("no model")


class BrokenAtTheEnd(TaskManager[Any, Any]):
    """Its runs end with an error of its own."""

    def process_result_dict(self) -> Any:
        """Fails."""
        raise LookupError("no place for results")


@pytest.mark.parametrize(
    ("kind", "tasks", "options", "expected"),
    [
        (TaskManager, lambda: range(3), {}, None),
        (TaskManager, lambda: [3], {}, None),
        (TaskManager, lambda: [3], {"stop": 1}, TooManyErrors),
        (TaskManager, broken_source, {}, LookupError),
        (BrokenAtTheEnd, lambda: range(3), {}, LookupError),
    ],
    ids=["whole", "failed task", "stop rule", "iterable", "override"],
)
def test_plugin_learns_what_the_run_raises(mode: Any, kind: Any, tasks: Any, options: Any, expected: Any) -> None:
    """on_finish is given the error that ``start`` raises, and None where it raises none."""
    given: list[BaseException | None] = []

    class Plugin:
        @hookimpl
        def on_finish(self, error: BaseException | None) -> None:
            given.append(error)

    manager = mode.manager(raiser(LookupError), kind, plugins=[Plugin()], **options)
    if expected is None:
        manager.start(tasks())
        assert given == [None]
        return
    with pytest.raises(expected):
        manager.start(tasks())
    (error,) = given
    assert type(error) is expected


@pytest.mark.parametrize("mode", ["thread", "process"], indirect=True)
def test_plugin_learns_that_workers_could_not_be_set_up(mode: Any) -> None:
    """A run that had begun, and whose workers fail then, ends for plugins too."""
    given: list[BaseException | None] = []

    class Plugin:
        @hookimpl
        def on_finish(self, error: BaseException | None) -> None:
            given.append(error)

    with pytest.raises(WorkerSetupError):
        mode.manager(abs, plugins=[Plugin()], worker_setup=broken_setup).start(range(3))
    assert [type(error) for error in given] == [WorkerSetupError]


def test_plugins_of_a_graph_learn_what_the_graph_raises() -> None:
    """Every manager of the graph is told of the same error, also the one whose tasks were all well."""
    given: list[BaseException | None] = []

    class Plugin:
        @hookimpl
        def on_finish(self, error: BaseException | None) -> None:
            given.append(error)

    first: TaskManager[int, int]
    second: TaskManager[int, int]
    first, second = (TaskManager(abs, name=name, plugins=[Plugin()], log_dir=None) for name in ("first", "second"))
    with pytest.raises(LookupError) as caught:
        TaskGraph(log_dir=None).connect(first, second).start({first: broken_source()})
    assert given == [caught.value, caught.value]


@pytest.mark.parametrize("hook", ["on_start", "on_finish", "on_success", "on_error", "on_duplicate", "on_retry"])
def test_hook_that_raises_is_counted_and_disturbs_nobody(hook: str) -> None:
    """The other plugins are told all the same."""
    told: list[str] = []

    def raising() -> None:
        raise LookupError("broken hook")

    def noting() -> None:
        told.append(hook)

    broken = type("Broken", (), {hook: staticmethod(hookimpl(raising))})()
    whole = type("Whole", (), {hook: staticmethod(hookimpl(noting))})()

    def job(task: int) -> int:
        if task == 1:
            raise TimeoutError
        return task

    manager: TaskManager[int, int] = TaskManager(
        job, plugins=[broken, whole], backoff=Backoff(initial=0), log_dir=None, log_level="ERROR"
    )
    summary = manager.start([0, 1, 0])
    assert (summary.succeeded, summary.failed, summary.duplicates) == (1, 1, 1)
    assert told
    if hook != "on_finish":
        assert summary.hook_errors == len(told)


def test_broken_override_at_the_end_is_raised_when_all_is_released(mode: Any) -> None:
    """process_result_dict raises: the run is whole, its workers are gone, and the error comes out."""

    class Sub(TaskManager[Any, Any]):
        def process_result_dict(self) -> Any:
            raise LookupError("in process_result_dict")

    manager = mode.manager(abs, Sub, enable_success_cache=True)
    with pytest.raises(LookupError, match="in process_result_dict"):
        manager.start(range(5))
    assert manager.summary.succeeded == 5
    assert len(manager.success_dict) == 5


SCRIPT = """
import json, os, sys, time, threading, signal
from celestialflow_core import Backoff, RunInProgress, TaskGraph, TaskManager, TooManyErrors, WorkerSetupError, hookimpl

mode, seconds, grace, how = sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
if mode == "async":
    import asyncio
    async def job(task):
        open("begun", "w").close()
        await asyncio.sleep(seconds)
        return task
else:
    def job(task):
        open("begun", "w").close()
        time.sleep(seconds)
        return task

def tell_when_begun():
    while not os.path.exists("begun"):
        time.sleep(0.01)
    print("ready", flush=True)

class Ready:
    told = 0
    @hookimpl
    def on_success(self):
        Ready.told += 1
        if Ready.told == 3:
            print("ready", flush=True)
    @hookimpl
    def on_start(self):
        if seconds > 10:
            threading.Thread(target=tell_when_begun).start()

manager = TaskManager(job, mode, 4, enable_success_cache=True, log_dir=None, grace=grace, plugins=[Ready()])
caught = None
try:
    if how == "start":
        manager.start(range(10_000))
    else:
        with manager.stream(range(10_000)) as outcomes:
            for outcome in outcomes:
                pass
except KeyboardInterrupt as error:
    caught = type(error).__name__
summary = manager.summary
print(json.dumps({
    "caught": caught, "kept": len(manager.success_dict), "succeeded": summary.succeeded, "total": summary.total,
    "cancelled": summary.cancelled, "failed": summary.failed, "stopped": summary.stopped,
    "handler": signal.getsignal(signal.SIGINT) is signal.default_int_handler, "abandoned": summary.abandoned,
}), flush=True)
"""


def press_ctrl_c(process: subprocess.Popen[str], group: bool = False) -> float:
    """Wait until the child is in the middle of its run, then interrupt it; gives the moment."""
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    if group:
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGINT)
    return time.monotonic()


def account_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What the child printed at its end."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    account: dict[str, Any] = json.loads(out.splitlines()[-1])
    return account


@pytest.mark.parametrize("how", ["start", "stream"])
@pytest.mark.parametrize("name", ["serial", "thread", "async", "process"])
def test_ctrl_c_ends_the_run_with_all_that_finished(child: Any, name: str, how: str) -> None:
    """KeyboardInterrupt reaches the caller soon; dicts and summary hold what finished, and the handler is Python's."""
    with child(SCRIPT, name, "0.1", "5", how, start_new_session=True) as process:
        pressed = press_ctrl_c(process, group=how == "start")
        account = account_of(process)
        assert time.monotonic() - pressed < 5
    assert account["caught"] == "KeyboardInterrupt"
    assert account["kept"] == account["succeeded"] >= 3
    assert account["total"] == account["succeeded"] + account["failed"] + account["cancelled"] < 10_000
    assert account["failed"] == 0
    # In the loop of a stream it may be raised in the caller's own code; leaving the block then ends the run.
    assert account["stopped"].startswith("KeyboardInterrupt") or how == "stream"
    assert account["handler"] is True


@pytest.mark.parametrize("name", ["serial", "thread", "async", "process"])
def test_ctrl_c_does_not_wait_for_long_tasks_beyond_the_grace(child: Any, name: str) -> None:
    """With tasks of a minute and half a second of grace the caller has its KeyboardInterrupt within seconds."""
    with child(SCRIPT, name, "60", "0.5", "start") as process:
        pressed = press_ctrl_c(process)
        account = account_of(process)
        assert time.monotonic() - pressed < 8
    assert account["caught"] == "KeyboardInterrupt"
    assert account["total"] == account["cancelled"] >= 1


@pytest.mark.parametrize("name", ["thread", "async", "process"])
def test_second_ctrl_c_ends_the_grace(child: Any, name: str) -> None:
    """The first one gives a minute; the second one does not."""
    with child(SCRIPT, name, "60", "60", "start") as process:
        press_ctrl_c(process)
        time.sleep(0.5)  # there is nothing to see of a grace that has begun
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        pressed = time.monotonic()
        account = account_of(process)
        assert time.monotonic() - pressed < 8
    assert account["caught"] == "KeyboardInterrupt"


def test_ctrl_c_in_a_blocking_iterable_is_raised_there(child: Any) -> None:
    """A source that waits is interrupted like any other code of the user."""
    source = textwrap.dedent(
        """
        import time
        from celestialflow_core import TaskManager

        def tasks():
            yield 1
            print("ready", flush=True)
            time.sleep(60)

        manager = TaskManager(abs, "thread", 2, enable_success_cache=True, log_dir=None)
        try:
            manager.start(tasks())
        except KeyboardInterrupt:
            print("caught", manager.success_dict, manager.summary.total)
        """
    )
    with child(source) as process:
        pressed = press_ctrl_c(process)
        out, err = process.communicate(timeout=30)
        assert time.monotonic() - pressed < 8
    assert out == "caught {1: 1} 1\n", err


def test_foreign_sigint_handler_is_left_alone(own_folder: Path) -> None:
    """A handler of the application is neither replaced nor called less often."""
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda *_: pressed.append(1))
    try:

        def job(task: int) -> int:
            if task == 2:
                os.kill(os.getpid(), signal.SIGINT)
                wait_until(lambda: pressed)
            return task

        manager: TaskManager[int, int] = TaskManager(job, log_dir=None)
        mine = signal.getsignal(signal.SIGINT)
        assert manager.start(range(5)).succeeded == 5
        assert signal.getsignal(signal.SIGINT) is mine
        assert pressed == [1]
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("how", ["start", "stream"])
@pytest.mark.parametrize(("tasks", "retried"), [(7, ()), ([1], ["no class"])], ids=["tasks", "attribute"])
def test_run_that_is_refused_gives_ctrl_c_back(how: str, tasks: Any, retried: Any) -> None:
    """A call that raises before there is a run leaves SIGINT to Python, as it found it."""
    manager: TaskManager[int, int] = TaskManager(abs, log_dir=None)
    manager.retry_exceptions = retried
    with pytest.raises(TypeError):
        getattr(manager, how)(tasks)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_refused_second_run_leaves_ctrl_c_to_the_first() -> None:
    """RunInProgress changes nothing for the run that goes on, at whose end SIGINT is Python's again."""
    manager: TaskManager[int, int] = TaskManager(abs, log_dir=None)
    with manager.stream(range(3)) as outcomes:
        ours = signal.getsignal(signal.SIGINT)
        with pytest.raises(RunInProgress):
            manager.start([1])
        assert signal.getsignal(signal.SIGINT) is ours is not signal.default_int_handler
        assert sum(outcome.unwrap() for outcome in outcomes) == 3
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_run_off_the_main_thread_leaves_signals_alone() -> None:
    """Python lets only the main thread set handlers; a run elsewhere works without."""
    results: list[Any] = []
    manager: TaskManager[int, int] = TaskManager(abs, "thread", 2, log_dir=None)
    thread = threading.Thread(target=lambda: results.append(manager.start(range(10))))
    thread.start()
    thread.join()
    assert results[0].succeeded == 10


def test_press_in_the_midst_of_a_round_is_seen_before_the_iterable_is_pulled(monkeypatch: pytest.MonkeyPatch) -> None:
    """An iterable that blocks would keep a Ctrl-C that came since the round began from being seen for as long."""
    pulled: list[int] = []
    advance = Run.advance

    def pressed_after_it(run: Run) -> float | None:
        wait = advance(run)
        if len(pulled) == 3:
            interrupt._active[-1].press(KeyboardInterrupt())
        return wait

    def tasks() -> Iterator[int]:
        for task in range(10):
            pulled.append(task)
            yield task

    monkeypatch.setattr(Run, "advance", pressed_after_it)
    with pytest.raises(KeyboardInterrupt):
        TaskManager(abs, log_dir=None).start(tasks())
    assert pulled == [0, 1, 2]
