"""What surrounds a run: streams, folders, loops, limits of the system, many runs (faults.md, 12, 13, 36 to 38, 40, 42).

What concerns worker processes alone is in `tests/faults/process`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import celestialflow_core
from celestialflow_core import TaskManager, WorkerSetupError
from celestialflow_core.testing import Resources

MODES = ["serial", "thread", "async", "process"]
ALL = pytest.mark.parametrize("mode", MODES, indirect=True)
MEGABYTE = 1_000_000

HEAD = """
import json, os, sys
from celestialflow_core import TaskManager
mode = sys.argv[1]
def adapted(function):
    async def coroutine(task):
        return function(task)
    return coroutine if mode == "async" else function
def run(function, tasks, **options):
    manager = TaskManager(adapted(function), mode, 2, enable_success_cache=True, enable_error_cache=True, **options)
    return manager, manager.start(tasks)
"""


@pytest.mark.parametrize("name", MODES)
def test_a_megabyte_on_each_stream_comes_through(child: Any, name: str) -> None:
    """12: from one task, with nobody reading until it has ended; neither is anything lost nor does anything block."""
    source = """
def job(task):
    if task == 3:
        for stream, letter in ((sys.stdout, "o"), (sys.stderr, "e")):
            for _ in range(1000):
                stream.write(letter * 999 + "\\n")
            stream.flush()
    return task
manager, summary = run(job, range(8), log_dir=None, log_level="ERROR")
with open("report", "w") as file:
    file.write(str(summary.succeeded))
"""
    with child(HEAD + source, name) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err[-2000:]
    assert Path("report").read_text() == "8"
    assert out.count("o" * 999) == 1000
    assert err.count("e" * 999) == 1000


@pytest.mark.parametrize("name", MODES)
def test_task_that_moves_away_disturbs_neither_results_nor_log(child: Any, own_folder: Path, name: str) -> None:
    """13: chdir and environ; the log stays where it was opened, and of a worker process the parent sees nothing."""
    (own_folder / "elsewhere").mkdir()
    source = """
def job(task):
    if task % 5 == 0:
        os.chdir("/")
        os.environ["MOVED"] = "yes"
        os.environ["HOME"] = "/nowhere"
    return task + 1
manager, summary = run(job, range(40), log_dir="logs")
print(json.dumps([manager.success_dict == {task: task + 1 for task in range(40)}, os.getcwd(), "MOVED" in os.environ]))
"""
    with child(HEAD + source, name) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    right, folder, moved = json.loads(out)
    assert right
    assert (folder, moved) == ((str(own_folder), False) if name == "process" else ("/", True))
    (log,) = (own_folder / "logs").iterdir()
    assert log.read_text().count("SUCCESS") == 40


@pytest.mark.parametrize("name", ["serial", "thread", "async"])
def test_closed_standard_streams_do_no_harm(own_folder: Path, name: str) -> None:
    """36: with descriptors 0 to 2 closed and a bar wanted, the results are right and no file of ours is on them."""
    (own_folder / "job.py").write_text(
        HEAD
        + """
assert sys.stdout is None and sys.stderr is None
def job(task):
    print("text")
    if task == 7:
        raise ValueError(task)
    return task + 1
manager, summary = run(job, range(20), show_progress=True)
with open("out", "w") as file:
    json.dump([sorted(manager.success_dict.values()), [repr(error) for error in manager.error_dict.values()]], file)
"""
    )
    environ = {**os.environ, "PYTHONPATH": str(Path(celestialflow_core.__file__).parents[1])}
    command = f"exec 0<&- 1>&- 2>&-; exec {sys.executable} job.py {name}"
    subprocess.run(["/bin/sh", "-c", command], env=environ, timeout=120, check=True)
    assert json.loads(Path("out").read_text()) == [[n + 1 for n in range(20) if n != 7], ["ValueError(7)"]]


def work(task: int) -> int:
    """Fails for each multiple of seven."""
    if task % 7 == 0:
        raise ValueError(task)
    return task * 2


@ALL
def test_managers_in_two_threads_and_in_a_running_loop_are_independent(mode: Any) -> None:
    """37: start inside a running loop, while another manager runs in another thread."""
    managers = [mode.manager(work, enable_success_cache=True) for _ in range(2)]
    totals: list[Any] = []

    async def main() -> None:
        totals.append(managers[0].start(range(1, 200)))

    other = threading.Thread(target=lambda: totals.append(managers[1].start(range(1, 300))))
    other.start()
    asyncio.run(main())
    other.join()
    assert sorted(summary.total for summary in totals) == [199, 299]
    assert managers[0].success_dict == {task: task * 2 for task in range(1, 200) if task % 7}
    assert managers[1].success_dict == {task: task * 2 for task in range(1, 300) if task % 7}


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@ALL
def test_two_hundred_runs_leave_everything_flat(mode: Any) -> None:
    """38: each with a failing task, a log and both dicts: descriptors, threads, children and memory."""

    def run(times: int) -> bool:
        manager = mode.manager(work, worker_limit=1, log_dir="logs", enable_success_cache=True, enable_error_cache=True)
        summaries = [manager.start([6, 7]) for _ in range(times)]
        return all((summary.succeeded, summary.failed) == (1, 1) for summary in summaries)

    assert run(5)
    gc.collect()
    before, resources = resident(), Resources()
    # Interpreters take their time to start: half of the runs beside the other half.
    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(run, [100, 100]) if mode.name == "process" else [run(200)])
    gc.collect()
    assert resident() - before < 25 * MEGABYTE
    resources.expect_no_leaks()


def no_more_threads(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """From now on this process can start *after* threads, as at the limit of the system."""
    started: list[threading.Thread] = []
    start = threading.Thread.start

    def limited(self: threading.Thread) -> None:
        if len(started) >= after:
            raise RuntimeError("can't start new thread")
        started.append(self)
        start(self)

    monkeypatch.setattr(threading.Thread, "start", limited)


def test_limit_of_threads_costs_workers_and_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """40: from the second on none can be started, not even the one that stops them: the run goes on with one."""
    manager: TaskManager[int, int] = TaskManager(work, "thread", 8, enable_success_cache=True, log_dir=None)
    with monkeypatch.context() as patch:
        no_more_threads(patch, after=1)
        with pytest.warns(RuntimeWarning, match="Only 1 threads could be started") as caught:
            summary = manager.start(range(1, 100))
    assert len(caught) == 1
    assert (summary.total, summary.failed) == (99, 14)
    assert manager.start(range(1, 8)).succeeded == 6


def test_limit_of_threads_in_a_loop_of_the_users_costs_workers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """40: the same under start_async."""
    manager: TaskManager[int, int] = TaskManager(work, "thread", 8, log_dir=None)
    with monkeypatch.context() as patch:
        no_more_threads(patch, after=1)
        with pytest.warns(RuntimeWarning, match="Only 1 threads could be started"):
            summary = asyncio.run(manager.start_async(range(1, 100)))
    assert (summary.total, summary.failed) == (99, 14)


@pytest.mark.parametrize("mode", ["thread", "async"], indirect=True)
def test_no_thread_at_all_is_one_clear_error(mode: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """40: it says so, no task is charged, and the manager can run when there is room again."""
    manager = mode.manager(work, enable_error_cache=True)
    with monkeypatch.context() as patch:
        no_more_threads(patch, after=0)
        with pytest.raises((WorkerSetupError, RuntimeError), match="can't start new thread"):
            manager.start(range(1, 100))
    assert manager.error_dict == {}
    assert manager.start(range(1, 8)).succeeded == 6


LOGGING = """
import resource, signal, warnings
if mode != "process" and not os.path.ismount("logs"):
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def job(task):
    if task % 100 == 7:
        raise ValueError(task)
    return task + 1
manager, summary = run(job, range(2000), log_dir="logs")
sys.stdout.write(json.dumps([summary.succeeded, summary.failed, len(manager.success_dict), len(manager.error_dict)]))
"""


def expect_one_warning(out: str, err: str) -> None:
    """Nothing is lost, and the user has heard of it once."""
    assert json.loads(out) == [1980, 20, 1980, 20], err
    assert err.count("cannot be written, and the run goes on without it") == 1, err
    assert len(err.splitlines()) == 3, err  # with the start and the end


@pytest.mark.parametrize("name", ["serial", "thread", "async"])
def test_log_that_fills_its_quota_costs_one_warning(child: Any, name: str) -> None:
    """42: from some line on nothing can be written."""
    with child(HEAD + LOGGING, name) as process:
        out, err = process.communicate(timeout=60)
    expect_one_warning(out, err)


@pytest.mark.parametrize("name", MODES)
def test_file_in_the_place_of_the_log_folder_costs_one_warning(child: Any, own_folder: Path, name: str) -> None:
    """42: it is left as it is."""
    (own_folder / "logs").write_text("mine")
    with child(HEAD + LOGGING, name) as process:
        out, err = process.communicate(timeout=60)
    expect_one_warning(out, err)
    assert (own_folder / "logs").read_text() == "mine"


@pytest.mark.parametrize("options", ["size=16k", "ro"])
@pytest.mark.parametrize("name", MODES)
def test_full_and_read_only_log_folders_cost_one_warning(own_folder: Path, name: str, options: str) -> None:
    """42: a real file system that is full, or read-only."""
    unshare = shutil.which("unshare")
    prefix = [unshare or "unshare", "--mount", *(() if os.geteuid() == 0 else ("--map-root-user",))]
    (own_folder / "logs").mkdir()
    mount = f"mount -t tmpfs -o {options} none logs"
    if not unshare or subprocess.run([*prefix, "sh", "-c", mount], capture_output=True, check=False).returncode:
        pytest.skip("this system does not let us mount anything")
    (own_folder / "script.py").write_text(HEAD + LOGGING)
    done = subprocess.run(
        [*prefix, "sh", "-c", f"{mount} && exec {sys.executable} script.py {name}"],
        env={**os.environ, "PYTHONPATH": str(Path(celestialflow_core.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    expect_one_warning(done.stdout, done.stderr)


@ALL
def test_every_mode_works_inside_a_task_of_every_mode(mode: Any) -> None:
    """15: four managers of their own in one task; also where one of the inner tasks fails."""

    def outer(inner: str) -> Any:
        def job(task: int) -> float:
            return 10 / task

        async def coroutine(task: int) -> float:
            return 10 / task

        chosen: Any = coroutine if inner == "async" else job
        manager: TaskManager[int, float] = TaskManager(
            chosen, inner, 2, enable_success_cache=True, log_dir=None, log_level="ERROR"
        )
        summary = manager.start([0, 1, 2])
        return summary.failed, sorted(manager.get_success_dict().items())

    manager = mode.manager(outer, enable_success_cache=True)
    manager.start(MODES)
    assert manager.success_dict == {inner: (1, [(1, 10.0), (2, 5.0)]) for inner in MODES}
