"""One run of very many tasks: memory does not grow, and descriptors, threads and children are in the end as before.

The plain test command runs 300,000 tasks in each mode, ``pytest -m soak tests/soak -s`` ten million, and prints what
the table in docs/explanation/reliability.md shows.
"""

from __future__ import annotations

import gc
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest

from celestialflow_core import TaskManager
from celestialflow_core.testing import Resources

SLACK = 25_000_000  # bytes
MANY = 10_000_000
WARM_UP = 50_000
MODES = ["serial", "thread", "process", "async"]


def odd(number: int) -> int:
    """The task: hardly any work, so that all that grows is ours."""
    return number & 1


async def odd_awaited(number: int) -> int:
    """The same, as a coroutine."""
    return number & 1


def resident() -> int:
    """Bytes of this process that are in memory, from where the highest level is measured anew."""
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def status(name: str) -> int:
    """A line of this process's status, in bytes."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def manager_of(mode: str) -> TaskManager[Any, Any]:
    """A manager that keeps nothing: no dict, no memory of the tasks that were seen, no log file."""
    func: Any = odd_awaited if mode == "async" else odd
    workers = None if mode == "serial" else 2
    return TaskManager(func, mode, workers, enable_duplicate_check=False, log_dir=None, log_level="WARNING")


def run_flat(mode: str, number: int) -> tuple[float, int]:
    """Run *number* tasks in *mode*; give the seconds and the most bytes that this process grew by in it."""
    manager = manager_of(mode)
    with manager:
        assert manager.start(range(WARM_UP)).succeeded == WARM_UP
        gc.collect()
        before, resources = resident(), Resources()
        begin = perf_counter()
        summary = manager.start(range(number))
        seconds = perf_counter() - begin
        grown = status("VmHWM") - before
        assert (summary.total, summary.succeeded) == (number, number)
        resources.expect_no_leaks()
    assert grown < SLACK, f"{grown / 1e6:.1f} MB more while {number:,} tasks ran than before."
    return seconds, grown


@pytest.mark.parametrize("mode", MODES)
def test_run_of_many_tasks_leaves_everything_flat(mode: str) -> None:
    """300,000 tasks need no more memory than the 50,000 before them did, and leave nothing."""
    run_flat(mode, 300_000)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("mode", MODES)
def test_run_of_ten_million_tasks_leaves_everything_flat(mode: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The same for ten million; what it took is printed as a row of the documentation's table."""
    seconds, grown = run_flat(mode, MANY)
    with capsys.disabled():
        print(f'\n| `"{mode}"` | {seconds:.0f} | {seconds / MANY * 1e6:.2f} | {grown / 1e6:+.1f} |')
