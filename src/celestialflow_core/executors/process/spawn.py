"""How a worker process comes into being: a fresh interpreter, told everything that it needs to be like this one.

Nothing is forked and nothing is imported from ``__main__``, so a script needs no guard, and no lock that another
thread holds here can be held over there.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import attrs

import celestialflow_core.executors.process.descriptors as descriptors
import celestialflow_core.executors.process.wire as wire
from celestialflow_core.executors.process.pickling import Shipped

__all__ = ["Recipe", "Spawned", "spawn"]

_THREAD_COUNTS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@attrs.frozen(kw_only=True)
class Recipe:
    """What every worker of a run is made from."""

    func: Shipped
    setup: Shipped | None
    threads: int
    """How many threads a numerical library may use in one worker."""
    envs: list[dict[str, str]]
    """The variables that the user gives to each worker, by its index."""
    argv: list[str] = attrs.field(factory=lambda: list(sys.argv))
    path: list[str] = attrs.field(factory=lambda: _search_path())
    cwd: str = attrs.field(factory=lambda: _working_folder())

    def env(self, index: int) -> dict[str, str]:
        """The variables that worker *index* has beside the parent's, or in their place."""
        counts = {name: str(self.threads) for name in _THREAD_COUNTS if name not in os.environ}
        return {**counts, **self.envs[index]}

    def preamble(self, index: int, token: str) -> list[wire.Buffer]:
        """The message that makes a fresh interpreter worker *index* of this run.

        Args:
            index: The worker's index.
            token: What marks its output.
        """
        parts = {
            "argv": self.argv,
            "cwd": self.cwd,
            "env": self.env(index),
            "func": self.func.data,
            "setup": self.setup and self.setup.data,
            "token": token,
        }
        return wire.message(wire.PREAMBLE, 0, [pickle.dumps(parts, 5)])


@attrs.frozen(kw_only=True)
class Spawned:
    """A process that was just started, and our ends of what leads to it."""

    process: subprocess.Popen[bytes]
    connection: int
    stdout: int
    stderr: int
    pidfd: int | None
    """Readable when the process has ended; None where the system has no such thing."""
    parent_peak: int
    """The most memory that this process had held, in KiB, which the child's figure starts from."""


def spawn(recipe: Recipe, index: int, slot: int, memory: int) -> Spawned:
    """Start a worker.

    The child is killed by the kernel when the calling thread ends, so this is called in one that lives long enough.

    Args:
        recipe: What it is made from.
        index: The worker's index.
        slot: Its place in the shared memory.
        memory: The descriptor of the shared memory.

    Raises:
        OSError: The system refuses another process or descriptor.
    """
    opened: list[int] = []
    given: list[int] = []
    try:
        near, far = descriptors.pair()
        opened.append(near)
        given.append(far)
        stdout, stdout_far = descriptors.pipe()
        opened.append(stdout)
        given.append(stdout_far)
        stderr, stderr_far = descriptors.pipe()
        opened.append(stderr)
        given.append(stderr_far)
        null = descriptors.above_stdio(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        given.append(null)
        code = (
            f"import sys; sys.path[:] = {recipe.path!a}; "
            f"from {__package__}._worker import main; main({far}, {memory}, {slot}, {index}, {os.getpid()})"
        )
        process = subprocess.Popen(
            [sys.executable, *_interpreter_flags(), "-c", code],
            stdin=null,
            stdout=stdout_far,
            stderr=stderr_far,
            pass_fds=(far, memory),
            env={**os.environ, **recipe.env(index)},
        )
    except BaseException:
        for fd in opened:
            os.close(fd)
        raise
    finally:
        for fd in given:
            os.close(fd)
    return Spawned(
        process=process,
        connection=near,
        stdout=stdout,
        stderr=stderr,
        pidfd=_pidfd(process.pid),
        parent_peak=_peak(),
    )


def _interpreter_flags() -> list[str]:
    """-O, -W, -X, -I and so on, as this interpreter was given them."""
    # Private, but what multiprocessing has used for its own workers since 3.2; there is no public way.
    flags: list[str] = getattr(subprocess, "_args_from_interpreter_flags")()  # noqa: B009  # unknown to type checkers
    return flags


def _pidfd(pid: int) -> int | None:
    try:
        return descriptors.above_stdio(os.pidfd_open(pid))
    except (AttributeError, OSError):
        return None  # the end of the stream tells it then


def _peak() -> int:
    # Not ru_maxrss, which is also that of the program from which this one was started.
    try:
        status = Path("/proc/self/status").read_bytes()
        return int(status[status.index(b"VmHWM:") + 6 :].split(None, 1)[0])
    except (OSError, ValueError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _search_path() -> list[str]:
    path = [entry for entry in sys.path if isinstance(entry, str)]
    # This very package has to be found, also if its folder has left sys.path since it was imported.
    home = str(Path(__file__).resolve().parents[3])
    return path if home in path else [*path, home]


def _working_folder() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""  # it was deleted
