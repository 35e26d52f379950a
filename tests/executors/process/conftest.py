"""A small driver for the process executor alone, and the check that nothing of it outlives a test."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

import celestialflow_core
from celestialflow_core._call import Call, Delivery, Result, parts
from celestialflow_core.executors.interface import Work
from celestialflow_core.executors.process import ProcessExecutor

SECONDS = 30.0


def wait_until(condition: Callable[[], object], seconds: float = SECONDS) -> None:
    """Wait until *condition* is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        time.sleep(0.005)


class Bench:
    """Runs calls on one executor and keeps what it delivers."""

    def __init__(self, workers: int = 2, work: Work | None = None, **options: Any) -> None:
        self.executor = ProcessExecutor(workers, **options)
        self.queue: SimpleQueue[Delivery] = SimpleQueue()
        self.results: dict[int, Result] = {}
        self.fatal: BaseException | None = None
        self._next = 0
        if work is not None:
            self.executor.start(work, self.queue.put)

    def submit(self, tasks: Sequence[Any]) -> None:
        """Submit one call for each of *tasks*; a tuple is a tuple of arguments."""
        calls = [Call(self._next + n, task if isinstance(task, tuple) else (task,)) for n, task in enumerate(tasks)]
        self._next += len(calls)
        self.executor.submit(calls)

    def take(self, seconds: float = SECONDS) -> None:
        """Wait for one delivery."""
        for part in parts(self.queue.get(timeout=seconds)):
            for result in [part] if isinstance(part, Result) else part:
                if result.id == -1:
                    self.fatal = result.error
                else:
                    assert result.id not in self.results, f"call {result.id} was delivered twice"
                    self.results[result.id] = result

    def finish(self, grace: float = 5.0) -> list[Result]:
        """Wait for everything, stop, and give the results in the order of submission."""
        try:
            while len(self.results) < self._next and self.fatal is None:
                self.take()
        finally:
            self.executor.stop(grace)
        return [self.results[n] for n in sorted(self.results)]


@pytest.fixture
def until() -> Callable[..., None]:
    """Waits for a condition."""
    return wait_until


@pytest.fixture
def bench() -> Iterator[Callable[..., Bench]]:
    """Makes benches, and stops what a failing test has left running."""
    made: list[Bench] = []

    def make(
        func: Callable[..., Any], *, workers: int = 2, setup: Any = None, timeout: float | None = None, **options: Any
    ) -> Bench:
        made.append(Bench(workers, Work(func, setup, timeout), **options))
        return made[-1]

    yield make
    for each in made:
        each.executor.stop(0)


@pytest.fixture
def run(bench: Callable[..., Bench]) -> Callable[..., list[Result]]:
    """Runs a function over tasks and gives the results in their order."""

    def run(func: Callable[..., Any], tasks: Sequence[Any], **options: Any) -> list[Result]:
        one = bench(func, **options)
        one.submit(tasks)
        results = one.finish()
        if one.fatal is not None:
            raise one.fatal
        return results

    return run


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs source text as a script, in an interpreter of its own, with the package on the path."""

    def run(source: str, **options: Any) -> subprocess.CompletedProcess[str]:
        file = tmp_path / "job.py"
        file.write_text(source)
        home = str(Path(celestialflow_core.__file__).parents[1])
        env = {**os.environ, "PYTHONPATH": home}
        return subprocess.run(
            [sys.executable, str(file)], env=env, capture_output=True, text=True, timeout=60, check=False, **options
        )

    return run


def _children() -> set[int]:
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        try:
            found |= {int(pid) for pid in (task / "children").read_text().split()}
        except FileNotFoundError:
            continue
    return found


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    before = set(os.listdir("/proc/self/fd")), _children(), set(threading.enumerate())
    yield
    after = set(os.listdir("/proc/self/fd")), _children(), set(threading.enumerate())
    assert after[0] - before[0] == set()
    assert after[1] - before[1] == set()
    assert after[2] - before[2] == set()
