"""Starting workers: set-up, environment, limits of the system, what is written, closed standard streams."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from celestialflow_core.errors import WorkerSetupError
from celestialflow_core.executors.interface import current_worker
from celestialflow_core.executors.process import ProcessExecutor
from celestialflow_core.executors.process._worker import NO_THREAD
from celestialflow_core.executors.process.cgroup import cpus_of_quota, oom_kills, usable_cpus
from celestialflow_core.executors.process.staffing import Staffing


@pytest.mark.parametrize("limit", [0, -1, True])
def test_worker_limit_is_validated(limit):
    """A limit that is not a positive int is refused by the constructor."""
    with pytest.raises(ValueError, match="worker_limit must be a positive int or None"):
        ProcessExecutor(limit)


def test_setup_runs_once_in_each_worker_and_its_rest_at_the_end(run, tmp_path):
    """A generator's value is the state; what follows the yield runs when the worker ends."""

    def setup():
        (tmp_path / f"up-{os.getpid()}").touch()
        yield {"index": current_worker().index}
        (tmp_path / f"down-{os.getpid()}").touch()

    def job(x):
        worker = current_worker()
        assert worker.state["index"] == worker.index
        return worker.index, os.getpid(), dict(worker.env)

    results = run(job, range(20), setup=setup)
    assert [result.error for result in results] == [None] * 20
    pids = {result.value[1] for result in results}
    assert {result.value[0] for result in results} <= {0, 1}
    assert pids <= {int(path.name[3:]) for path in tmp_path.glob("up-*")}
    assert pids <= {int(path.name[5:]) for path in tmp_path.glob("down-*")}


def test_setup_that_raises_ends_the_run(bench):
    """One fatal result, with the traceback of the set-up, and no task is charged."""

    def setup():
        raise LookupError("no model here")

    one = bench(lambda x: x, setup=setup)
    one.submit(range(5))
    assert one.finish() == []
    assert isinstance(one.fatal, WorkerSetupError)
    assert str(one.fatal).startswith("worker_setup raised LookupError: no model here in worker ")
    assert "; no task was run there.\nTraceback" in str(one.fatal)


def test_workers_that_cannot_start_end_the_run(bench):
    """A worker that dies in its set-up, again and again, ends the run with what it wrote to stderr."""

    def setup():
        os.write(2, b"the licence has expired\n")
        os._exit(7)

    one = bench(lambda x: x, setup=setup, workers=1)
    one.submit(range(5))
    assert one.finish() == []
    assert isinstance(one.fatal, WorkerSetupError)
    assert "exit status 7" in str(one.fatal)
    assert "the licence has expired" in str(one.fatal)


def children() -> set[str]:
    """The process ids of this process's children."""
    return {pid for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()}


def test_one_call_starts_one_worker(bench):
    """Workers are started for calls that wait, not for the limit."""
    before = children()
    one = bench(lambda x: os.getpid(), workers=8)
    one.submit([1])
    one.take()
    assert children() - before == {str(one.results[0].value)}
    one.finish()


def test_worker_has_the_parents_path_arguments_and_folder(run, tmp_path, monkeypatch):
    """sys.path, sys.argv and the working folder are the parent's; numerical libraries do not multiply threads."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["prog", "--option"])
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    job = lambda x: (sys.path, sys.argv, os.getcwd(), os.environ["OMP_NUM_THREADS"])  # noqa: E731
    (result,) = run(job, [1], workers=1)
    path, argv, folder, threads = result.value
    assert path[: len(sys.path)] == sys.path
    assert argv == ["prog", "--option"]
    assert folder == str(tmp_path)
    assert threads == str(usable_cpus())


def test_what_tasks_write_reaches_the_user(script):
    """A megabyte on either stream, from a task, arrives whole and marked; stdin is empty."""
    done = script(
        DRIVER
        + """
def job(x):
    sys.stdout.write("O" * 1_000_000)
    sys.stderr.write("E" * 1_000_000)
    return sys.stdin.read()
print("|", everything(job, [1], 1)[0].value)
"""
    )
    assert done.stdout == f"[worker 0] {'O' * 1_000_000}\n| \n"
    assert done.stderr == f"[worker 0] {'E' * 1_000_000}\n"


DRIVER = """
import os, resource, sys, warnings
from queue import SimpleQueue
from celestialflow_core._call import parts, Result
from celestialflow_core.executors.interface import Call, Work
from celestialflow_core.executors.process import ProcessExecutor

def everything(job, tasks, workers):
    queue, results, executor = SimpleQueue(), {}, ProcessExecutor(workers)
    executor.start(Work(job), queue.put)
    executor.submit([Call(n, (task,)) for n, task in enumerate(tasks)])
    while len(results) < len(tasks):
        for part in parts(queue.get(timeout=30)):
            for result in [part] if isinstance(part, Result) else part:
                if result.id == -1:
                    raise result.error
                results[result.id] = result
    executor.stop(5)
    return [results[n] for n in range(len(tasks))]
"""


def test_closed_standard_streams_do_no_harm(tmp_path):
    """With descriptors 0 to 2 closed the results are right, though tasks print."""
    file = tmp_path / "job.py"
    file.write_text(
        DRIVER
        + f"""
def job(x):
    print("text")
    print("text", file=sys.stderr)
    return x + 1
assert sys.stdout is None
values = [result.value for result in everything(job, range(50), 2)]
open({str(tmp_path / "out")!r}, "w").write(repr(values))
"""
    )
    import celestialflow_core

    home = str(Path(celestialflow_core.__file__).parents[1])
    command = f"exec 0<&- 1>&- 2>&-; exec {sys.executable} {file}"
    subprocess.run(["/bin/sh", "-c", command], env={**os.environ, "PYTHONPATH": home}, timeout=60, check=True)
    assert (tmp_path / "out").read_text() == repr(list(range(1, 51)))


@pytest.mark.parametrize(("workers", "warns"), [(8, False), (40, True)])
def test_few_descriptors(script, workers, warns):
    """With 64 descriptors 8 workers work; of 40 as many start as can, and one warning says so."""
    done = script(
        DRIVER
        + f"""
import time
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    values = [result.value for result in everything(lambda x: time.sleep(0.01) or x, range(100), {workers})]
assert values == list(range(100))
assert len(open("/dev/null").read()) == 0
print([str(each.message) for each in caught])
"""
    )
    assert done.returncode == 0, done.stderr
    if warns:
        assert "of 40 worker processes" in done.stdout
        assert "ulimit -n" in done.stdout
    else:
        assert done.stdout == "[]\n"


def test_deaths_at_the_start_end_the_run_only_if_nobody_works():
    """Three in a row do; a call that runs in between is a sign of health; others at work go on without the dead."""

    class Dead:
        exitcode = -9

        class output:  # noqa: N801
            of = staticmethod(lambda number: "no licence\n")

    staff = Staffing(8)
    for _ in range(5):
        staff.died_at_start(Dead, 0, 0)
        staff.died_at_start(Dead, 0, 0)
        staff.worked(first=False)
    staff.died_at_start(Dead, 2, 3)
    assert staff.limit == 2
    staff.tell()
    assert "others end before they can run a call (signal 9: no licence)" in staff.warnings[0]
    staff.died_at_start(Dead, 0, 0)
    with pytest.raises(WorkerSetupError, match="3 worker processes in a row") as caught:
        staff.died_at_start(Dead, 0, 0)
    assert caught.value.details == "no licence\n"


def test_refused_processes_shrink_the_staff_or_end_the_run():
    """With workers at work a refusal is one warning; without any it is the end, and names the limit."""
    refusal = OSError(errno.EAGAIN, "Resource temporarily unavailable")
    staff = Staffing(8)
    staff.refused(refusal, 3)
    staff.refused(refusal, 2)
    assert staff.limit == 2
    staff.tell()
    staff.refused(refusal, 1)
    staff.tell()
    assert len(staff.warnings) == 1
    assert staff.warnings[0].startswith("Running with 2 of 8 worker processes: [Errno 11]")
    with pytest.raises(WorkerSetupError, match="ulimit -u"):
        staff.refused(refusal, 0)


def test_workers_without_room_for_a_thread_make_room_for_one_another():
    """Each death leaves as many as are there; the last one tries three times, and then it is the end."""

    class Cramped:
        exitcode = NO_THREAD

    staff = Staffing(8)
    for present in (4, 3, 2, 1, 0, 0):
        staff.died_at_start(Cramped, 0, present)
        assert staff.limit == max(1, present)
    with pytest.raises(WorkerSetupError, match="second thread.*ulimit -u"):
        staff.died_at_start(Cramped, 0, 0)


def test_worker_loads_only_what_it_needs(run):
    """A fresh worker has neither the engine nor plugins nor the parent's side in memory."""
    (result,) = run(lambda x: sorted(name for name in sys.modules if name.startswith("celestialflow_core.")), [1])
    allowed = ("celestialflow_core.errors", "celestialflow_core._call", "celestialflow_core.executors")
    assert [name for name in result.value if not name.startswith(allowed)] == []
    assert "celestialflow_core.executors.process.pool" not in result.value


def test_stop_is_quick_while_nothing_runs(bench):
    """Idle workers end at once, not after the grace."""
    one = bench(lambda x: x)
    one.submit(range(10))
    while len(one.results) < 10:
        one.take()
    begin = time.monotonic()
    one.executor.stop(60)
    assert time.monotonic() - begin < 5


def test_cpu_quota_is_read_from_either_version(tmp_path):
    """The quota of the innermost group that has one counts, rounded up; without any there is none."""
    membership = tmp_path / "cgroup"
    membership.write_text("0::/a/b\n")
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/cpu.max").write_text("150000 100000\n")
    (tmp_path / "a/b/cpu.max").write_text("max 100000\n")
    assert cpus_of_quota(tmp_path, membership) == 2
    (tmp_path / "a/b/memory.events").write_text("low 0\noom 3\noom_kill 2\n")
    assert oom_kills(tmp_path, membership) == 2

    membership.write_text("4:cpu,cpuacct:/c\n3:memory:/m\n")
    assert cpus_of_quota(tmp_path, membership) is None
    (tmp_path / "cpu,cpuacct/c").mkdir(parents=True)
    (tmp_path / "cpu,cpuacct/c/cpu.cfs_quota_us").write_text("300000\n")
    (tmp_path / "cpu,cpuacct/c/cpu.cfs_period_us").write_text("100000\n")
    assert cpus_of_quota(tmp_path, membership) == 3
    (tmp_path / "memory/m").mkdir(parents=True)
    (tmp_path / "memory/m/memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 5\n")
    assert oom_kills(tmp_path, membership) == 5
