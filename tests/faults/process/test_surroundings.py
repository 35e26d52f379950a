"""Process mode where the system gives little: descriptors, streams, temporary folders, memory; and inside of itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import celestialflow_core

HEAD = """
import json, logging, os, resource, subprocess, sys, threading, time, warnings
from celestialflow_core import TaskManager

def run(job, tasks, workers=2, **options):
    manager = TaskManager(job, "process", workers, log_dir=None, enable_success_cache=True, enable_error_cache=True,
                          **options)
    return manager, manager.start(tasks)
"""


def finish(program):
    """What the program printed, as (exit code, stdout, stderr)."""
    stdout, stderr = program.communicate(timeout=120)
    return program.returncode, stdout, stderr


def test_eight_workers_work_with_64_descriptors(child):
    """All eight, without a warning."""
    code, stdout, stderr = finish(
        child(
            HEAD
            + """
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
warnings.simplefilter("error")
def job(x):
    time.sleep(0.05)
    return os.getpid()
manager, summary = run(job, range(100), 8)
print(summary.succeeded, len(set(manager.get_success_dict().values())))
"""
        )
    )
    assert (code, stdout) == (0, "100 8\n"), stderr


def test_forty_workers_with_64_descriptors_are_fewer(child):
    """As many as there can be, one warning that names the limit, every result, and the end of the program."""
    code, stdout, stderr = finish(
        child(
            HEAD
            + """
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
def job(x):
    time.sleep(0.01)
    return x
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    manager, summary = run(job, range(200), 40)
print(summary.succeeded, [str(each.message) for each in caught])
"""
        )
    )
    assert code == 0, stderr
    assert stdout.startswith("200 ['Running with "), stdout
    assert stdout.count("of 40 worker processes") == 1
    assert "ulimit -n" in stdout


def test_closed_standard_streams_do_no_harm(tmp_path):
    """With descriptors 0 to 2 closed, a bar wanted and tasks that print, the results are right."""
    script = tmp_path / "job.py"
    script.write_text(
        HEAD
        + """
assert sys.stdout is None and sys.stderr is None
def job(x):
    print("text")
    print("text", file=sys.stderr)
    assert sys.stdin.read() == ""
    if x == 7:
        raise ValueError(x)
    return x + 1
manager, summary = run(job, range(20), show_progress=True)
with open("out", "w") as file:
    json.dump([sorted(manager.get_success_dict().values()), [repr(e) for e in manager.get_error_dict().values()]], file)
"""
    )
    environ = {**os.environ, "PYTHONPATH": str(Path(celestialflow_core.__file__).parents[1])}
    command = f"exec 0<&- 1>&- 2>&-; exec {sys.executable} {script}"
    subprocess.run(["/bin/sh", "-c", command], env=environ, timeout=120, check=True)
    assert json.loads(Path("out").read_text()) == [[n + 1 for n in range(20) if n != 7], ["ValueError(7)"]]


def test_full_and_read_only_temporary_folders_are_not_needed(child, tmp_path):
    """TMPDIR full, /dev/shm read-only: nothing of ours is kept there."""
    unshare = shutil.which("unshare")
    prefix = [unshare or "unshare", "--mount", *(() if os.geteuid() == 0 else ("--map-root-user",))]
    mounts = "mount -t tmpfs -o size=16k none full && mount -t tmpfs -o ro none /dev/shm"
    (tmp_path / "full").mkdir()
    if not unshare or subprocess.run([*prefix, "sh", "-c", mounts], capture_output=True, check=False).returncode:
        pytest.skip("this system does not let us mount anything")
    (tmp_path / "script.py").write_text(
        HEAD
        + """
import tempfile
try:
    with open("full/filler", "wb") as file:
        while True:
            file.write(bytes(4096))
            file.flush()
except OSError:
    pass
try:
    open("/dev/shm/file", "w")
except OSError as error:
    print(error.strerror)
manager, summary = run(lambda x: x + 1, range(1000))
print(summary.succeeded)
"""
    )
    home = str(Path(celestialflow_core.__file__).parents[1])
    done = subprocess.run(
        [*prefix, "sh", "-c", f"{mounts} && exec {sys.executable} script.py"],
        env={**os.environ, "PYTHONPATH": home, "TMPDIR": str(tmp_path / "full")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "Read-only file system\n1000\n"), done.stderr


def test_locks_that_the_program_holds_are_not_inherited(child):
    """Another thread holds the locks of logging, of its handler and of stdout's buffer: workers log and print."""
    code, stdout, stderr = finish(
        child(
            HEAD
            + """
handler = logging.StreamHandler(sys.stderr)
logging.getLogger().addHandler(handler)
held, release = threading.Event(), threading.Event()
def hold():
    handler.acquire()
    held.set()
    release.wait()
    handler.release()
thread = threading.Thread(target=hold)
thread.start()
held.wait()
def job(x):
    logging.warning("task %d", x)
    print("task", x)
    return x
manager, summary = run(job, range(50))
release.set()
thread.join()
print(summary.succeeded)
"""
        )
    )
    assert code == 0, stderr
    assert stdout.endswith("50\n")
    assert stderr.count("WARNING:root:task ") == 50


def test_process_mode_inside_a_process_task(child):
    """A task may run a manager of its own; what its workers print comes through both."""
    code, stdout, stderr = finish(
        child(
            HEAD
            + """
def inner(x):
    if x == 3:
        os.kill(os.getpid(), 9)
    print("inner", x)
    return x * x
def outer(x):
    manager, summary = run(inner, range(x))
    return sum(manager.get_success_dict().values()), summary.failed
manager, summary = run(outer, [3, 5])
print(sorted(manager.get_success_dict().items()))
"""
        )
    )
    assert code == 0, stderr
    assert "[(3, (5, 0)), (5, (21, 1))]\n" in stdout
    assert stdout.count("inner 2\n") >= 2  # more where its result was lost with the worker
    assert "] [worker " in stdout


def memory_group():
    """A control group of our own with a limit on memory; None where we may not make one."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            for parent in (Path(f"/sys/fs/cgroup/memory{path}"), Path("/sys/fs/cgroup/memory")):
                group = parent / f"celestialflow-test-{os.getpid()}"
                try:
                    group.mkdir()
                    (group / "memory.limit_in_bytes").write_text("300000000")
                except OSError:
                    continue
                return group
        elif controllers == "":
            group = Path(f"/sys/fs/cgroup{path}") / f"celestialflow-test-{os.getpid()}"
            try:
                group.mkdir()
            except OSError:
                continue
            try:
                (group / "memory.max").write_text("300000000")
                (group / "memory.swap.max").write_text("0")
            except OSError:
                group.rmdir()
                continue
            return group
    return None


def test_kill_for_want_of_memory_is_named(child):
    """The kernel kills a worker of a group that holds too much: the error says that this is likely why."""
    group = memory_group()
    if group is None:
        pytest.skip("this system does not let us make a control group with a limit on memory")
    try:
        code, stdout, stderr = finish(
            child(
                f"open({str(group / 'cgroup.procs')!r}, 'w').write('0')\n"
                + HEAD
                + """
def job(x):
    return len(bytearray(b"x" * 600_000_000)) if x == 2 else x
manager, summary = run(job, range(5))
print(summary.succeeded)
for error in manager.get_error_dict().values():
    print(error)
"""
            )
        )
    finally:
        group.rmdir()
    assert code == 0, stderr
    first, second = stdout.splitlines()
    assert first == "4"
    assert "got SIGKILL while running task 2, attempt 1 of 2. It had held up to 2" in second
    assert "It is likely out of memory" in second


SMALL = (
    HEAD
    + """
from dataclasses import dataclass

@dataclass(frozen=True)
class Point:
    x: int

def double(x):
    return 2 * x

"""
)


@pytest.mark.parametrize("line", ["run(double, [1, 2])", "run(repr, [Point(1)])"], ids=["function", "class of a task"])
def test_import_that_starts_a_run_is_refused(child, tmp_path, line):
    """Workers would import the module, too, and start workers: an error that names it, and no worker, ends the run."""
    (tmp_path / "small.py").write_text(f"{SMALL}{line}\n")
    code, stdout, stderr = finish(
        child(
            f"""
import subprocess, sys
sys.path.insert(0, {str(tmp_path)!r})
subprocess.Popen = None  # nothing is started
import small
"""
        )
    )
    assert (code, stdout) == (1, "")
    assert "WorkerSetupError: Importing the module 'small' starts a run on processes. " in stderr
    assert stderr.endswith("Start the run in a function, or under: if __name__ == '__main__':\n")


def test_import_inside_a_task_is_refused_there(child, tmp_path):
    """What a worker imports starts no workers of its own: that is the error of the task."""
    (tmp_path / "small.py").write_text(f"{SMALL}run(double, [1, 2])\n")
    code, stdout, stderr = finish(
        child(
            HEAD
            + f"""
sys.path.insert(0, {str(tmp_path)!r})
def job(x):
    import small
manager, summary = run(job, [1])
print(summary.errors[0].type)
"""
        )
    )
    assert (code, stdout) == (0, "celestialflow_core.errors.WorkerSetupError\n"), stderr


def test_run_with_the_globals_of_an_imported_module_is_no_import(child, tmp_path):
    """A doctest and its like run at the top level of a module that was imported before."""
    (tmp_path / "small.py").write_text(SMALL)
    code, stdout, stderr = finish(
        child(
            f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
import small
exec("print(sorted(run(double, [1, 2])[0].get_success_dict().values()))", dict(vars(small)))
"""
        )
    )
    assert (code, stdout) == (0, "[2, 4]\n"), stderr
