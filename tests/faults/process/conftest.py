"""What the tests of dying processes share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from celestialflow_core.executors.process import ProcessExecutor
from celestialflow_core.testing._bench import Bench


@pytest.fixture
def bench() -> Iterator[Callable[..., Bench]]:
    """Makes a process executor with some options; what a failing test has left running is stopped."""
    made: list[Bench] = []

    def make(workers: int = 2, **options: Any) -> Bench:
        made.append(Bench(ProcessExecutor(workers, **options), patience=60.0))
        return made[-1]

    yield make
    for each in made:
        each.executor.stop(0)


@pytest.fixture
def children() -> Callable[[], set[int]]:
    """Gives the processes that were started since the test began and are not reaped."""

    def now() -> set[int]:
        found: set[int] = set()
        for task in Path("/proc/self/task").iterdir():
            try:
                found |= {int(pid) for pid in (task / "children").read_text().split()}
            except OSError:
                continue  # the thread has just ended
        return found

    before = now()
    return lambda: now() - before


@pytest.fixture
def gone() -> Callable[[int], bool]:
    """Whether a process, which need not be a child, has ended."""

    def gone(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
        except OSError:
            return True

    return gone
