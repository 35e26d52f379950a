"""Runs a program for a task: its output is the result, another exit code than 0 the task's error.

Every program leads a process group of its own, which is ended as a whole: at its time limit, and when the run ends
before the program does. A Ctrl-C at the terminal does not reach it, so that the run can give it its grace.
"""

from __future__ import annotations

import os
import selectors
import shlex
import signal
import subprocess
import threading
from time import monotonic
from typing import Any

from celestialflow_core._cli.template import Template
from celestialflow_core._text import cut
from celestialflow_core.errors import CommandFailed, TaskTimeout

__all__ = ["Program"]

STDERR_BYTES = 16 * 1024
PATIENCE = 1.0  # seconds from SIGTERM to SIGKILL


class Program:
    """A function that runs *template* for a task, and gives what it wrote on stdout, without the last line feeds.

    Args:
        template: What to run.
        timeout: The longest that it may run, in seconds.
    """

    def __init__(self, template: Template, timeout: float | None = None) -> None:
        self.template = template
        self.timeout = timeout
        self._numbers: dict[Any, int] = {}
        self._count = 0
        self._running: set[_Process] = set()
        self._changed = threading.Condition()
        self._ended = False

    def number(self, task: Any) -> Any:
        """Give *task*, the next one of the source, its number."""
        self._count += 1
        self._numbers.setdefault(_key(task), self._count)
        return task

    def forget(self, task: Any) -> None:
        """*task* has its outcome: its number is not needed any more."""
        self._numbers.pop(_key(task), None)

    def __call__(self, task: Any) -> str:
        argv = self.template.argv(task, self._numbers.get(_key(task)))
        process = _Process(argv)
        with self._changed:
            self._running.add(process)
            if self._ended:
                process.end()
        try:
            late = process.wait(self.timeout)
        finally:
            process.release()
            with self._changed:
                self._running.discard(process)
                self._changed.notify_all()
        if late:
            raise TaskTimeout(f"task {cut(task)}", self.timeout or 0.0)
        if process.exitcode:
            raise CommandFailed(shlex.join(argv), process.exitcode, process.stderr)
        return process.stdout

    def end(self) -> None:
        """End what still runs: SIGTERM, and a second later SIGKILL. Starts nothing from now on."""
        with self._changed:
            self._ended = True
            for process in self._running:
                process.end()
            try:
                self._changed.wait_for(lambda: not self._running, 2 * PATIENCE + 1)
            finally:
                for process in self._running:
                    process.kill(signal.SIGKILL)


class _Process:
    """One program that runs, followed by the thread that has started it."""

    def __init__(self, argv: list[str]) -> None:
        self._wakes, self._wake = os.pipe()
        try:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
            )
        except BaseException:
            os.close(self._wakes)
            os.close(self._wake)
            raise
        self._lock = threading.Lock()
        self._over = False
        self._stdout = bytearray()
        self._stderr = bytearray()

    @property
    def exitcode(self) -> int:
        """As in ``subprocess``."""
        return self._process.returncode

    @property
    def stdout(self) -> str:
        """What it wrote, without the last line feeds, as ``$(...)`` in a shell; printed, it is the same bytes again."""
        return self._stdout.decode("utf-8", "surrogateescape").rstrip("\n")

    @property
    def stderr(self) -> str:
        """The end of what it wrote on stderr."""
        return self._stderr.decode("utf-8", "replace")

    def wait(self, timeout: float | None) -> bool:
        """Follow the program to its end; True if it was too late and has been ended."""
        deadline = None if timeout is None else monotonic() + timeout
        finished = self._follow(deadline)
        late = not finished and deadline is not None and monotonic() >= deadline
        if not finished:
            # The whole group. Its leader is not waited for in between, so its number stays its own.
            self.kill(signal.SIGTERM)
            self._follow(monotonic() + PATIENCE, may_wake=False)
            self.kill(signal.SIGKILL)
        with self._lock:
            self._over = True
            self._process.wait()
        return late

    def _follow(self, deadline: float | None, may_wake: bool = True) -> bool:
        """Read what it writes until it has ended and nobody can write any more; False if that was not waited for."""
        process = self._process
        sinks: dict[Any, bytearray] = {process.stdout: self._stdout, process.stderr: self._stderr}
        with selectors.PollSelector() as selector:
            for stream in sinks:
                selector.register(stream, selectors.EVENT_READ)
            if may_wake:
                selector.register(self._wakes, selectors.EVENT_READ)
            delay = 0.001
            while True:
                reading = len(selector.get_map()) > may_wake
                if not reading and self._has_exited():
                    return True
                left = None if deadline is None else deadline - monotonic()
                if left is not None and left <= 0:
                    return False
                if not reading:  # it has closed its output, but lives on: there is nothing that tells of its end
                    left = delay if left is None else min(left, delay)
                    delay = min(2 * delay, 0.05)
                for key, _ in selector.select(left):
                    if key.fileobj == self._wakes:
                        return False
                    data = os.read(key.fd, 65536)
                    if not data:
                        selector.unregister(key.fileobj)
                    sinks[key.fileobj] += data
                    del self._stderr[:-STDERR_BYTES]

    def _has_exited(self) -> bool:
        try:
            return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
        except ChildProcessError:
            return True

    def end(self) -> None:
        """Ask the thread that follows the program to end it."""
        with self._lock:
            if not self._over:
                os.write(self._wake, b"!")

    def kill(self, number: int) -> None:
        """Send a signal to the group, unless the program has ended."""
        with self._lock:
            if not self._over:
                try:
                    os.killpg(self._process.pid, number)
                except ProcessLookupError:
                    pass

    def release(self) -> None:
        """Close what is ours of it; a program that is still there is killed."""
        self.kill(signal.SIGKILL)
        with self._lock:
            self._over = True
            self._process.wait()
            for stream in (self._process.stdout, self._process.stderr):
                if stream is not None:
                    stream.close()
            os.close(self._wakes)
            os.close(self._wake)


def _key(task: Any) -> Any:
    from celestialflow_core._keys import key_of

    return key_of(task)
