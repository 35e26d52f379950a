"""The summary of a long run with many failures can be read at a glance."""

from __future__ import annotations

import re

from celestialflow_core import TaskManager

MILLION = 1_000_000


def job(number: int) -> float:
    """Fails three hundred times in a million, in three ways."""
    if number % 10_000 == 17:
        raise ValueError(f"row {number} has no price")
    if number % 10_000 == 4000:
        return 1 / (number % 10_000 - 4000)
    if number % 10_000 == 9999:
        return float({}["currency"])
    return 0.0


def test_summary_of_a_million_tasks_fits_on_a_screen() -> None:
    """At most 25 lines: the counts, each kind of failure with where and an example, the five slowest tasks."""
    manager: TaskManager[int, float] = TaskManager(job, "serial", enable_duplicate_check=False, log_dir=None)
    summary = manager.start(range(MILLION))
    lines = str(summary).splitlines()
    assert len(lines) <= 25
    assert re.fullmatch(r"job: 1000000 tasks in \d+\.\d\d s: 999700 ok, 300 failed\.", lines[0])
    groups = lines[lines.index("Errors:") + 1 : lines.index("Slowest:")]
    patterns = {
        r"  100 x ValueError at \S*test_summary\.py:\d+: row (\d+) has no price, as for \1",
        r"  100 x ZeroDivisionError at \S*test_summary\.py:\d+: division by zero, as for \d*4000",
        r"  100 x KeyError at \S*test_summary\.py:\d+: 'currency', as for \d*9999",
    }
    assert len(groups) == len(patterns)
    assert all(any(re.fullmatch(pattern, line) for line in groups) for pattern in patterns), groups
    slowest = lines[lines.index("Slowest:") + 1 :]
    assert len(slowest) == 5
    assert all(re.fullmatch(r"  \d+\.\d{3} s \d+", line) for line in slowest)
    assert [slow.seconds for slow in summary.slowest] == sorted(
        (slow.seconds for slow in summary.slowest), reverse=True
    )
