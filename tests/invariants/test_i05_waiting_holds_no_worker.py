"""I5: a task that waits for its retry holds no worker, and blocks no admitted task that could run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from celestialflow_core import Backoff


def test_others_run_while_a_task_waits(mode: Any, own_folder: Path) -> None:
    """One worker; the first task fails and waits: all others are done before it is tried again."""
    log = own_folder / "log"

    def job(task: int) -> int:
        with log.open("a") as file:
            file.write(f"{task} ")
        if task == 0 and log.read_text().split().count("0") == 1:
            raise TimeoutError
        return task

    manager = mode.manager(
        job, worker_limit=None if mode.name == "futures" else 1, backoff=Backoff(initial=0.6, jitter=0)
    )
    outcomes = list(manager.stream(range(20)))
    calls = [int(word) for word in log.read_text().split()]
    assert sorted(calls) == [0, *range(20)]
    assert calls[-1] == 0
    assert outcomes[-1].task == 0
    assert (outcomes[-1].status, outcomes[-1].attempts) == ("success", 2)


def test_many_waiting_tasks_take_one_delay_together(mode: Any) -> None:
    """Delays run side by side: thirty tasks on two workers that wait 0.3 s each take about one delay, not thirty."""
    manager = mode.manager(always_late, max_retries=1, backoff=Backoff(initial=0.3, jitter=0))
    summary = manager.start(range(30))
    assert (summary.failed, summary.retries) == (30, 30)
    assert 0.3 <= summary.seconds < 4.5  # thirty delays one by one on two workers


def always_late(task: int) -> None:
    """Worth a retry each time."""
    raise TimeoutError(task)


def test_waiting_tasks_show_in_the_counts_as_pending(mode: Any) -> None:
    """Neither running nor settled."""
    seen = []

    def tasks() -> Any:
        yield 0
        yield 1
        seen.append(manager.counts)

    manager = mode.manager(always_late, max_retries=1, max_in_flight=10, backoff=Backoff(initial=0.3, jitter=0))
    manager.start(tasks())
    (counts,) = seen
    assert counts.settled == 0
    assert counts.pending + counts.running == 2
    if mode.name == "serial":
        assert (counts.pending, counts.running) == (2, 0)
