"""Who is measured: celestialflow_core, and what people use in its place or would write by hand.

A contestant is a context manager factory. What it does before its ``yield`` is set-up and after it tear-down; what it
yields runs tasks and gives the results, in any order, or their sum where it is made to keep none of them.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from importlib import import_module
from itertools import islice
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from typing import Any

__all__ = [
    "Contestant",
    "Function",
    "Runner",
    "bare_coroutines",
    "bare_loop",
    "bare_threads",
    "gather_with_semaphore",
    "manager",
    "manager_stream",
    "pebble_chunks",
    "process_pool_executor",
    "raw_pipes",
    "thread_pool_executor",
]

Function = Callable[[int], Any]
Runner = Callable[[Iterable[int]], "Collection[int] | int"]
Contestant = Callable[[Function, int], AbstractContextManager[Runner]]
"""Takes the function and how many workers it may use."""


# ---------------------------------------------------------------------- ours


def _make_manager(*arguments: Any, **options: Any) -> Any:
    from celestialflow_core import TaskManager  # here: a peer is measured without it

    return TaskManager(*arguments, **options)


@contextmanager
def _manager(mode: str, function: Function, workers: int, **options: Any) -> Iterator[Runner]:
    keep = {"enable_success_cache": True, "enable_error_cache": True, "log_dir": None, **options}
    with _make_manager(function, mode, workers, **keep) as ours:

        def run(tasks: Iterable[int]) -> Collection[int]:
            ours.start(tasks)
            results: dict[int, int] = ours.get_success_dict()
            return results.values()

        yield run


def manager(mode: str, **options: Any) -> Contestant:
    """``start()`` and the dict of results, on workers that are warm, as those of the pools are."""
    return partial(_manager, mode, **options)


@contextmanager
def _manager_stream(mode: str, function: Function, workers: int, **options: Any) -> Iterator[Runner]:
    chosen = {"enable_duplicate_check": False, "log_dir": None, **options}
    with _make_manager(function, mode, workers, **chosen) as ours:
        yield lambda tasks: sum(outcome.unwrap() for outcome in ours.stream(tasks))


def manager_stream(mode: str, **options: Any) -> Contestant:
    """``stream()`` with nothing kept: no cache, and unless *options* say so no memory of the tasks seen."""
    return partial(_manager_stream, mode, **options)


# ---------------------------------------------------------------------- one thread


@contextmanager
def bare_loop(function: Function, workers: int) -> Iterator[Runner]:
    """A for loop that keeps results and errors in two dicts."""

    def run(tasks: Iterable[int]) -> Collection[int]:
        results: dict[int, int] = {}
        errors: dict[int, Exception] = {}
        for task in tasks:
            try:
                results[task] = function(task)
            except Exception as error:
                errors[task] = error
        return results.values()

    yield run


# ---------------------------------------------------------------------- threads


@contextmanager
def bare_threads(function: Function, workers: int) -> Iterator[Runner]:
    """Threads that take tasks one by one from an iterator under a lock, and append what they have to lists."""

    def run(tasks: Iterable[int]) -> Collection[int]:
        source, lock = iter(tasks), threading.Lock()
        results: list[tuple[int, int]] = []
        errors: list[tuple[int, Exception]] = []

        def work() -> None:
            while True:
                with lock:
                    task = next(source, None)
                if task is None:
                    return
                try:
                    results.append((task, function(task)))
                except Exception as error:
                    errors.append((task, error))

        threads = [threading.Thread(target=work) for _ in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [value for _, value in results]

    yield run


def _submit_all(pool: Executor, function: Function, tasks: Iterable[int]) -> Collection[int]:
    results: dict[int, int] = {}
    errors: dict[int, Exception] = {}
    futures = {pool.submit(function, task): task for task in tasks}
    for future in as_completed(futures):
        try:
            results[futures[future]] = future.result()
        except Exception as error:
            errors[futures[future]] = error
    return results.values()


@contextmanager
def thread_pool_executor(function: Function, workers: int) -> Iterator[Runner]:
    """``submit`` and ``as_completed``, as the standard library's documentation shows it."""
    with ThreadPoolExecutor(workers) as pool:
        yield lambda tasks: _submit_all(pool, function, tasks)


# ---------------------------------------------------------------------- processes


@contextmanager
def process_pool_executor(function: Function, workers: int) -> Iterator[Runner]:
    """The same with processes."""
    with ProcessPoolExecutor(workers) as pool:
        yield lambda tasks: _submit_all(pool, function, tasks)


def _serve(connection: Connection, function: Function) -> None:
    while (batch := connection.recv()) is not None:
        rows: list[tuple[int, bool, Any]] = []
        for task in batch:
            try:
                rows.append((task, True, function(task)))
            except Exception as error:
                rows.append((task, False, error))
        connection.send(rows)


@contextmanager
def _raw_pipes(batch: int, ahead: int, function: Function, workers: int) -> Iterator[Runner]:
    context = multiprocessing.get_context("fork")
    pipes: list[Any] = []
    processes: list[Any] = []
    for _ in range(workers):
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, function), daemon=True)
        process.start()
        theirs.close()
        pipes.append(ours)
        processes.append(process)

    def run(tasks: Iterable[int]) -> int:
        source, total = iter(tasks), 0
        unanswered = dict.fromkeys(pipes, 0)

        def feed(pipe: Any) -> None:
            if tasks_of_batch := list(islice(source, batch)):
                pipe.send(tasks_of_batch)
                unanswered[pipe] += 1

        for _ in range(ahead):
            for pipe in pipes:
                feed(pipe)
        while busy := [pipe for pipe in pipes if unanswered[pipe]]:
            answered: list[Any] = wait_for(busy)
            for pipe in answered:
                rows = pipe.recv()
                unanswered[pipe] -= 1
                feed(pipe)
                total += sum(value for _, succeeded, value in rows if succeeded)
        return total

    yield run
    for pipe, process in zip(pipes, processes, strict=True):
        pipe.send(None)
        process.join()
        pipe.close()


def raw_pipes(batch: int, ahead: int = 2) -> Contestant:
    """Processes with a duplex pipe each, and up to *ahead* batches of *batch* tasks in each pipe."""
    return partial(_raw_pipes, batch, ahead)


@contextmanager
def _pebble_chunks(chunk: int, function: Function, workers: int) -> Iterator[Runner]:
    with import_module("pebble").ProcessPool(max_workers=workers) as pool:
        yield lambda tasks: list(pool.map(function, tasks, chunksize=chunk).result())


def pebble_chunks(chunk: int) -> Contestant:
    """pebble's ``ProcessPool.map`` in chunks, the fastest peer that keeps an error beside its task."""
    return partial(_pebble_chunks, chunk)


# ---------------------------------------------------------------------- asyncio


@contextmanager
def _in_loop(gather: Callable[[Iterable[int]], Any]) -> Iterator[Runner]:
    with asyncio.Runner() as runner:  # one loop for warm-up and run, as a server has
        yield lambda tasks: runner.run(gather(tasks))


def bare_coroutines(function: Function, workers: int) -> AbstractContextManager[Runner]:
    """As many coroutines as may run at a time, that take tasks from one iterator."""

    async def gather(tasks: Iterable[int]) -> Collection[int]:
        source = iter(tasks)
        results: list[tuple[int, int]] = []
        errors: list[tuple[int, Exception]] = []

        async def work() -> None:
            for task in source:
                try:
                    results.append((task, await function(task)))
                except Exception as error:
                    errors.append((task, error))

        await asyncio.gather(*[work() for _ in range(workers)])
        return [value for _, value in results]

    return _in_loop(gather)


def gather_with_semaphore(function: Function, workers: int) -> AbstractContextManager[Runner]:
    """A coroutine a task, a semaphore around each, and ``gather(..., return_exceptions=True)``."""

    async def gather(tasks: Iterable[int]) -> Collection[int]:
        semaphore = asyncio.Semaphore(workers)

        async def one(task: int) -> int:
            async with semaphore:
                value: int = await function(task)
                return value

        results = await asyncio.gather(*[one(task) for task in tasks], return_exceptions=True)
        return [value for value in results if not isinstance(value, BaseException)]

    return _in_loop(gather)
