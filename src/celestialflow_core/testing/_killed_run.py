"""A run that is there to be killed, in a process of its own: `main`. Its functions are imported by worker processes.

It works in the current folder, and writes two files there. ``ran`` has the key of each call, from before the call did
anything; ``came`` that of each outcome, from when the run gave it away. Both are written to the kernel at once, so that
whoever kills the process can tell afterwards what it had begun and what it had promised.

When it has come to its end it runs once more, which restores all and runs nothing, and says how many outcomes both runs
had, and how many of them were restored.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from celestialflow_core import TaskGraph, TaskManager
from celestialflow_core._digest import digest

__all__ = ["fails", "main"]

WAIT = 0.001  # seconds that a call takes, so that there is something to interrupt
OPTIONS: dict[str, Any] = {"max_retries": 0, "log_dir": None, "log_level": "ERROR"}


@cache
def _opened(name: str) -> int:
    return os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)


def _note(name: str, line: str) -> None:
    os.write(_opened(name), f"{line}\n".encode())


def fails(task: int) -> bool:
    """Whether the manager's function raises for *task*."""
    return task % 50 == 7


def work(task: int) -> list[Any]:
    """What the manager runs."""
    _note("ran", digest(task))
    time.sleep(WAIT)
    if fails(task):
        raise ValueError(task)
    return [task, "x" * (task % 7)]


def seed(tasks: int) -> list[int]:
    """The first page of the graph's crawl."""
    _note("ran", f"{digest(tasks)}@seed")
    return [0]


def fetch(page: int) -> list[int]:
    """A page, and those that it links to: all pages make a tree."""
    _note("ran", f"{digest(page)}@fetch")
    time.sleep(WAIT)
    return [2 * page + 1, 2 * page + 2]


def links(pages: list[int]) -> list[int]:
    """The pages to go to."""
    _note("ran", f"{digest(pages)}@links")
    return pages


def keep(pages: list[int]) -> int:
    """What is made of a page."""
    _note("ran", f"{digest(pages)}@keep")
    return pages[0]


def gather(family: Any) -> int:
    """What is made of all pages."""
    _note("ran", f"{digest(family)}@gather")
    return sum(leaf.unwrap() for leaf in family.leaves)


def _run_manager(mode: str, url: str, tasks: int) -> Callable[[], Any]:
    manager: Any = TaskManager(  # the options that come from a dict hide its types
        work, mode, worker_limit=2, max_in_flight=200, enable_success_cache=True, enable_error_cache=True,
        sinks=[url], resume="unfinished", **OPTIONS,
    )  # fmt: skip

    def run() -> Any:
        for outcome in manager.stream(range(tasks)):
            _note("came", outcome.key)
        kept = manager.success_dict
        assert kept == {task: [task, "x" * (task % 7)] for task in range(tasks) if not fails(task)}, kept
        assert sorted(manager.error_dict) == [task for task in range(tasks) if fails(task)], manager.error_dict
        return manager.summary

    return run


def _run_graph(mode: str, url: str, tasks: int) -> Callable[[], Any]:
    first, fetcher = TaskManager(seed, **OPTIONS), TaskManager(fetch, mode, worker_limit=2, **OPTIONS)
    linker, keeper = TaskManager(links, **OPTIONS), TaskManager(keep, **OPTIONS)
    gatherer = TaskManager(gather, enable_success_cache=True, **OPTIONS)
    graph = TaskGraph("crawl", sinks=[url], resume=True, log_dir=None, log_level="ERROR")
    graph.connect(first, fetcher, each=True).connect(fetcher, [linker, keeper])
    graph.connect(linker, fetcher, each=True, when=lambda page: page < tasks)
    graph.connect(first, gatherer, gather=True)

    def run() -> Any:
        for outcome in graph.stream({first: [tasks]}):
            _note("came", outcome.key)
        assert list(gatherer.success_dict.values()) == [tasks * tasks], gatherer.success_dict
        return graph.summary

    return run


def main(kind: str, mode: str, url: str, tasks: int) -> None:
    """Run to the end, and then once more."""
    run = (_run_manager if kind == "manager" else _run_graph)(mode, url, tasks)
    print("begins", flush=True)
    first = run()
    size = Path("ran").stat().st_size
    second = run()
    assert Path("ran").stat().st_size == size, "It ran what it had stored."
    assert second.restored == second.total, second
    print(first.total, first.restored, flush=True)
