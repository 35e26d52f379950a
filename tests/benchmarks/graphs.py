"""Who is measured with graphs: ours, generators that pull from one another, and the peers that people use."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from contestants import Contestant, Function, Runner

__all__ = ["dask_bag", "generator_chain", "graph", "pypeln_threads"]


def same(x: int) -> int:
    """A stage that changes nothing: what is measured is the way to it."""
    return x


def _functions(function: Function, depth: int) -> list[Function]:
    return [function, *[same] * (depth - 1)]


@contextmanager
def _graph(mode: str, depth: int, function: Function, workers: int) -> Iterator[Runner]:
    from celestialflow_core import TaskGraph, TaskManager  # here: a peer is measured without it

    def run(tasks: Iterable[int]) -> Collection[int]:
        stages: list[Any] = [
            TaskManager(stage, mode, workers, name=str(at), log_dir=None, enable_success_cache=at == depth - 1)
            for at, stage in enumerate(_functions(function, depth))
        ]
        TaskGraph(log_dir=None).chain(*stages).start({stages[0]: tasks})
        results: dict[int, int] = stages[-1].get_success_dict()
        return results.values()

    yield run


def graph(mode: str, depth: int = 3) -> Contestant:
    """A chain of managers, made anew for each run, with the results of the last in a dict."""
    return partial(_graph, mode, depth)


@contextmanager
def generator_chain(function: Function, workers: int) -> Iterator[Runner]:
    """Three generators, each with a ``try`` around its function."""

    def stage(call: Function, items: Iterable[int], failed: list[Any]) -> Iterator[int]:
        for item in items:
            try:
                value = call(item)
            except Exception as error:
                failed.append((item, error))
            else:
                yield value

    def run(tasks: Iterable[int]) -> Collection[int]:
        failed: list[Any] = []
        items: Iterable[int] = tasks
        for call in _functions(function, 3):
            items = stage(call, items, failed)
        return list(items)

    yield run


@contextmanager
def pypeln_threads(function: Function, workers: int) -> Iterator[Runner]:
    """A thread and a queue for each of three stages."""
    from pypeln import thread

    def run(tasks: Iterable[int]) -> Collection[int]:
        items: Any = tasks
        for call in _functions(function, 3):
            items = thread.map(call, items)
        return list(items)

    yield run


@contextmanager
def dask_bag(function: Function, workers: int) -> Iterator[Runner]:
    """Eight partitions on threads."""
    from dask import bag

    def run(tasks: Iterable[int]) -> Collection[int]:
        items: Any = bag.from_sequence(tasks, npartitions=8)
        for call in _functions(function, 3):
            items = items.map(call)
        found: list[int] = items.compute(scheduler="threads")
        return found

    yield run
