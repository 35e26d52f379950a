"""What holds on each pool, in words and as checks: the one source of the table in docs/how-to/bring-your-own-pool.md.

`TABLE` has the answer of each pool to each question, and `CHECKS` the function that shows an answer to be true. As a
program, it runs one check for one pool in an interpreter of its own (see `main`): MPI takes hold of a whole process.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor as Pool
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from celestialflow_core import TaskManager
from celestialflow_core.errors import CelestialFlowError, NotPicklable, WorkerCrashed
from celestialflow_core.executors import Call, FuturesExecutor, Work
from celestialflow_core.testing import wait_until

ROOT = Path(__file__).parents[2]

# -- the pools -------------------------------------------------------------------------------------------------------


def threads() -> Pool:
    """The standard library's threads."""
    return ThreadPoolExecutor(2)


def processes() -> Pool:
    """The standard library's processes; spawned, since a test run has threads."""
    return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))


def loky_processes() -> Pool:
    """Loky's processes."""
    import loky

    pool: Pool = loky.ProcessPoolExecutor(2)
    return pool


def mpi_processes() -> Pool:
    """Processes of MPI, started by mpi4py through mpiexec."""
    from mpi4py.futures import MPIPoolExecutor

    pool: Pool = MPIPoolExecutor(2)
    return pool


def parsl_threads() -> Pool:
    """Parsl's threads. One configuration is loaded at a time; a pool that still ends is waited for."""
    from parsl.concurrent import ParslPoolExecutor
    from parsl.config import Config
    from parsl.dataflow.dflow import DataFlowKernelLoader
    from parsl.executors.threads import ThreadPoolExecutor as ParslThreads

    wait_until(lambda: DataFlowKernelLoader._dfk is None)
    pool: Pool = ParslPoolExecutor(Config(executors=[ParslThreads(max_threads=2)], initialize_logging=False))
    return pool


POOLS: dict[str, Callable[[], Pool]] = {
    "ThreadPoolExecutor": threads,
    "ProcessPoolExecutor": processes,
    "loky": loky_processes,
    "mpi4py": mpi_processes,
    "Parsl threads": parsl_threads,
}

# -- the table -------------------------------------------------------------------------------------------------------

LAMBDA = "A lambda or closure as the function"
ARGUMENT = "An argument or a result that cannot be pickled"
EXCEPTION = "An exception"
DEATH_MADE = "A task ends its worker: pool from a function"
DEATH_GIVEN = "A task ends its worker: pool as an object"
CTRL_C = "Ctrl-C in a terminal, which every process hears"
RUNNING_MADE = "A task runs on when the grace is over: pool from a function"
RUNNING_GIVEN = "A task runs on when the grace is over: pool as an object"
END_MADE = "The end of the run: pool from a function"
END_GIVEN = "The end of the run: pool as an object"
COST = "10,000 fast tasks"

WORKS = "works"
AS_IT_IS = "passes as it is"
OWN_ERROR = "is the error of its task"
ITSELF = "arrives itself"
COPY = "arrives as a copy"
CHARGED = "is charged alone, the others run again"
LOST = "it and all after it are errors"
PROGRAM_ENDS = "ends the program; `resume` goes on"
IN_ORDER = "ends the run, what runs has the grace"
BROKEN_OFF = "ends the run, what runs is a KeyboardInterrupt"
DIES = "ends the program"
KILLED = "is killed"
UNHEARD = "goes on unheard"
SHUT_DOWN = "shut down"
STAYS_OPEN = "stays yours"
BATCHES = "less than 1,000 futures"

QUESTIONS = (
    LAMBDA,
    ARGUMENT,
    EXCEPTION,
    DEATH_MADE,
    DEATH_GIVEN,
    CTRL_C,
    RUNNING_MADE,
    RUNNING_GIVEN,
    END_MADE,
    END_GIVEN,
    COST,
)

_threads = (
    WORKS, AS_IT_IS, ITSELF, PROGRAM_ENDS, PROGRAM_ENDS, IN_ORDER, UNHEARD, UNHEARD, SHUT_DOWN, STAYS_OPEN, BATCHES
)  # fmt: skip
_processes = (
    WORKS, OWN_ERROR, COPY, CHARGED, LOST, BROKEN_OFF, KILLED, UNHEARD, SHUT_DOWN, STAYS_OPEN, BATCHES
)  # fmt: skip
_mpi = (
    WORKS, OWN_ERROR, COPY, PROGRAM_ENDS, PROGRAM_ENDS, DIES, UNHEARD, UNHEARD, SHUT_DOWN, STAYS_OPEN, BATCHES
)  # fmt: skip

TABLE: dict[str, dict[str, str]] = {
    "ThreadPoolExecutor": dict(zip(QUESTIONS, _threads, strict=True)),
    "ProcessPoolExecutor": dict(zip(QUESTIONS, _processes, strict=True)),
    "loky": dict(zip(QUESTIONS, _processes, strict=True)),
    "mpi4py": dict(zip(QUESTIONS, _mpi, strict=True)),
    "Parsl threads": dict(zip(QUESTIONS, _threads, strict=True)),
}

# -- the checks ------------------------------------------------------------------------------------------------------


def run(pool: Any, func: Callable[..., Any], tasks: Any, **options: Any) -> TaskManager[Any, Any]:
    """A manager that has run *func* over *tasks* on *pool*, with all that came of them in its dicts."""
    chosen = {"worker_limit": 2, "log_dir": None, "log_level": "ERROR", **options}
    manager = TaskManager(func, pool, enable_success_cache=True, enable_error_cache=True, **chosen)
    manager.start(tasks)
    return manager


class Missing(Exception):
    """An error that can cross."""


def keep(thing: Any) -> Any:
    """A task that gives back what it got, or something that is made of no bytes."""
    if thing == "lock":
        return threading.Lock()
    if thing == "fail":
        raise Missing(thing)
    return thing


def check_lambda(make: Callable[[], Pool]) -> None:
    """A lambda with a closure, that gives one."""
    offset = 5
    manager = run(make, lambda number: lambda: number + offset, [1, 2])
    assert [manager.success_dict[number]() for number in (1, 2)] == [6, 7]


def check_passes(make: Callable[[], Pool]) -> None:
    """A lock comes and goes as the same object."""
    lock = threading.Lock()
    assert run(make, keep, [lock, 1]).success_dict == {lock: lock, 1: 1}


def check_own_error(make: Callable[[], Pool]) -> None:
    """A lock as an argument and one as a result are each a NotPicklable; the rest has its values."""
    lock = threading.Lock()
    manager = run(make, keep, [1, lock, 2, "lock", 3])
    assert manager.success_dict == {1: 1, 2: 2, 3: 3}
    assert {type(error) for error in manager.error_dict.values()} == {NotPicklable}
    assert set(manager.error_dict) == {lock, "lock"}


def check_exception(make: Callable[[], Pool], *, itself: bool) -> None:
    """Its type, text and traceback arrive; with the frames that raised it where it is the object itself."""
    manager: TaskManager[Any, Any] = TaskManager(keep, make, worker_limit=2, log_dir=None, log_level="ERROR")
    (outcome,) = manager.stream(["fail"])
    assert isinstance(outcome.error, Missing)
    assert outcome.error.args == ("fail",)
    assert "in keep" in str(outcome.traceback)
    assert (outcome.error.__traceback__ is not None) is itself


def deadly(number: int) -> int:
    """A task of which number 3 ends the process in which it runs, unless a file is there."""
    if number == 3 and not Path("harmless").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def check_charged(make: Callable[[], Pool]) -> None:
    """The guilty one is a WorkerCrashed, and the others have their values."""
    manager = run(make, deadly, range(20))
    assert set(manager.success_dict) == {*range(20)} - {3}
    assert isinstance(manager.error_dict[3], WorkerCrashed)


def check_lost(make: Callable[[], Pool]) -> None:
    """The guilty one is a WorkerCrashed; what comes later is told that the pool is broken, and what would help."""
    pool = make()
    try:
        errors = [run(pool, deadly, [number]).error_dict[number] for number in (3, 4)]
    finally:
        pool.shutdown()
        multiprocessing.active_children()  # collects the worker that died; loky with psutil leaves that to others
    assert isinstance(errors[0], WorkerCrashed)
    for error in errors:
        assert isinstance(error, CelestialFlowError)
        assert "give a function that makes the pool" in str(error)


def live_and_die(make: Callable[[], Pool], given: str) -> None:
    """What `check_program_ends` runs: a resumable run with a deadly task, printing at its end what was restored."""
    pool = make() if given == "object" else make
    manager = run(pool, deadly, range(20), sinks=["sqlite:work.db"], resume=True, name="deadly")
    assert manager.summary is not None
    print("ended", manager.summary.restored + manager.summary.succeeded, flush=True)
    if isinstance(pool, Pool):
        pool.shutdown()


def check_program_ends(make: Callable[[], Pool], *, given: str) -> None:
    """The interpreter is gone in the middle, soon; run again without the deadly task, it does what was left."""
    died = in_own_interpreter(make, f"die {given}")
    assert died.returncode != 0, died.stdout
    assert "ended" not in died.stdout
    Path("harmless").touch()
    went_on = in_own_interpreter(make, f"die {given}")
    assert went_on.returncode == 0, went_on.stderr
    assert "ended 20" in went_on.stdout


def linger(started: str, release: str, ended: str) -> None:
    """A task that says that it runs, with the id of its process, until it is released, and then that it has ended."""
    Path(started).with_suffix(".new").write_text(str(os.getpid()))
    Path(started).with_suffix(".new").rename(started)
    wait_until(Path(release).exists)
    Path(ended).touch()


def linger_deaf(started: str, release: str, ended: str) -> None:
    """`linger`, in a process that a Ctrl-C does not end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    linger(started, release, ended)


def be_interrupted(make: Callable[[], Pool], func: Callable[..., None]) -> None:
    """What `check_ctrl_c` runs: two tasks that go on until they are released, and what became of them."""
    manager: TaskManager[Any, Any] = TaskManager(
        func, make, worker_limit=2, unpack_task_args=True, grace=60.0, log_dir=None, log_level="ERROR"
    )
    tasks = [[str(Path(name + number).absolute()) for name in ("started", "release", "ended")] for number in "01"]
    with pytest.raises(KeyboardInterrupt):
        manager.start(map(tuple, tasks))
    summary = manager.summary
    assert summary is not None
    print("ended", summary.succeeded, [group.type for group in summary.errors], flush=True)


def check_ctrl_c(make: Callable[[], Pool], *, said: str | None) -> None:
    """Two tasks run when the signal comes, and are released after it; *said* at the end of the run, None: never."""
    func = "linger_deaf" if said is None else "linger"  # so that nothing but the end of the program ends the tasks
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "tests.executors.pool_checks", name_of(make), func],
        env=environ(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as child:
        try:
            wait_until(lambda: Path("started0").exists() and Path("started1").exists())
            os.killpg(child.pid, signal.SIGINT)
            for number in "01" if said else "":
                Path(f"release{number}").touch()
            out, problem = child.communicate(timeout=60)
        finally:
            child.kill()
    assert (child.returncode == 0) is (said is not None), problem
    assert said is None or out.strip() == said
    assert said is not None or "ended" not in out


def check_stop(make: Callable[[], Pool], *, given: str, killed: bool) -> None:
    """After ``stop(0)``: the worker is dead; or its task ends when it ends, and what it gave is not delivered."""
    pool = make()
    delivered: list[object] = []
    executor = FuturesExecutor(pool if given == "object" else lambda: pool, 2)
    started, release, ended = Path("started").absolute(), Path("release").absolute(), Path("ended").absolute()
    executor.start(Work(linger), delivered.append)
    try:
        executor.submit([Call(0, (str(started), str(release), str(ended)))])
        wait_until(started.exists)
        executor.stop(0.0)
        if killed:
            wait_until(lambda: not Path(f"/proc/{started.read_text()}").exists())
            assert not ended.exists()
        else:
            assert not ended.exists()
            release.touch()
            wait_until(ended.exists)
    finally:
        release.touch()
        if given == "object":
            pool.shutdown()
    assert delivered == []


def check_shut_down(make: Callable[[], Pool]) -> None:
    """A pool that was made for the run takes nothing more."""
    made: list[Pool] = []

    def making() -> Pool:
        made.append(make())
        return made[-1]

    assert run(making, abs, [-1]).success_dict == {-1: 1}
    (pool,) = made
    with pytest.raises(RuntimeError, match="shut"):
        pool.submit(abs, -2)


def check_stays_open(make: Callable[[], Pool]) -> None:
    """After the run, the user goes on with the pool."""
    with make() as pool:
        assert run(pool, abs, [-1]).success_dict == {-1: 1}
        assert pool.submit(abs, -2).result() == 2


def check_batches(make: Callable[[], Pool]) -> None:
    """The pool is asked for less than 1,000 futures by 10,000 tasks that take no time."""
    with make() as pool:
        submit, futures = pool.submit, 0

        def counted(*args: Any) -> Future[Any]:
            nonlocal futures
            futures += 1
            return submit(*args)

        pool.submit = counted  # type: ignore[assignment,method-assign]  # a look at what passes
        assert len(run(pool, abs, range(10_000)).success_dict) == 10_000
    assert 0 < futures < 1_000


CHECKS: dict[tuple[str, str], Callable[[Callable[[], Pool]], None]] = {
    (LAMBDA, WORKS): check_lambda,
    (ARGUMENT, AS_IT_IS): check_passes,
    (ARGUMENT, OWN_ERROR): check_own_error,
    (EXCEPTION, ITSELF): partial(check_exception, itself=True),
    (EXCEPTION, COPY): partial(check_exception, itself=False),
    (DEATH_MADE, CHARGED): check_charged,
    (DEATH_MADE, PROGRAM_ENDS): partial(check_program_ends, given="function"),
    (DEATH_GIVEN, LOST): check_lost,
    (DEATH_GIVEN, PROGRAM_ENDS): partial(check_program_ends, given="object"),
    (CTRL_C, IN_ORDER): partial(check_ctrl_c, said="ended 2 []"),
    (CTRL_C, BROKEN_OFF): partial(check_ctrl_c, said="ended 0 ['KeyboardInterrupt']"),
    (CTRL_C, DIES): partial(check_ctrl_c, said=None),
    (RUNNING_MADE, KILLED): partial(check_stop, given="function", killed=True),
    (RUNNING_MADE, UNHEARD): partial(check_stop, given="function", killed=False),
    (RUNNING_GIVEN, UNHEARD): partial(check_stop, given="object", killed=False),
    (END_MADE, SHUT_DOWN): check_shut_down,
    (END_GIVEN, STAYS_OPEN): check_stays_open,
    (COST, BATCHES): check_batches,
}

# -- in an interpreter of its own ------------------------------------------------------------------------------------


def environ() -> dict[str, str]:
    """This environment, so that a child and its workers find these modules and this environment's mpiexec."""
    import celestialflow_core

    source = Path(celestialflow_core.__file__).parents[1]
    scripts = os.path.dirname(sys.executable)
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(source), str(ROOT)]),
        "PATH": os.pathsep.join([scripts, os.environ.get("PATH", os.defpath)]),
    }


def name_of(make: Callable[[], Pool]) -> str:
    """What the table calls the pool that *make* makes."""
    (name,) = (name for name, maker in POOLS.items() if maker is make)
    return name


def in_own_interpreter(make: Callable[[], Pool], what: str) -> subprocess.CompletedProcess[str]:
    """Run *what* (see `main`) for a pool in a child, in the present folder; a child that hangs is a TimeoutExpired."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.executors.pool_checks", name_of(make), what],
        env=environ(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        start_new_session=True,  # MPI ends the whole process group of a program that it ends
    )


def main(pool: str, what: str) -> None:
    """Check what the table answers for *pool* to the question *what*; the rest is for such checks."""
    if what.startswith("die "):
        live_and_die(POOLS[pool], what.removeprefix("die "))
    elif what in ("linger", "linger_deaf"):
        be_interrupted(POOLS[pool], {"linger": linger, "linger_deaf": linger_deaf}[what])
    else:
        CHECKS[what, TABLE[pool][what]](POOLS[pool])


if __name__ == "__main__":
    # Under its own name, as workers know it.
    from tests.executors import pool_checks

    pool_checks.main(*sys.argv[1:])
