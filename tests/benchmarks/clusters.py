"""Who is measured on clusters of this machine: ours, a future a task, and batches that are made by hand."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice
from typing import Any

from contestants import Contestant, Function, Runner, manager

__all__ = ["dask", "manager_on_dask", "manager_on_ray", "ray"]

BATCH = 256


def _all_of(function: Function, batch: list[int]) -> list[int]:
    return [function(task) for task in batch]


def _batches(tasks: Iterable[int]) -> Iterator[list[int]]:
    rest = iter(tasks)
    return iter(lambda: list(islice(rest, BATCH)), [])


@contextmanager
def _dask_client(workers: int) -> Iterator[Any]:
    from distributed import Client, LocalCluster

    options = {"threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": None, "silence_logs": 50}
    with LocalCluster(n_workers=workers, **options) as cluster, Client(cluster) as client:
        yield client


@contextmanager
def _dask(batches: bool, function: Function, workers: int) -> Iterator[Runner]:
    with _dask_client(workers) as client:

        def run(tasks: Iterable[int]) -> Collection[int]:
            if not batches:
                found: list[int] = client.gather(client.map(function, list(tasks), pure=False))
                return found
            futures = client.map(partial(_all_of, function), list(_batches(tasks)), pure=False)
            return list(chain.from_iterable(client.gather(futures)))

        yield run


def dask(*, batches: bool) -> Contestant:
    """``client.map`` over the tasks, or over batches of them."""
    return partial(_dask, batches)


@contextmanager
def manager_on_dask(function: Function, workers: int) -> Iterator[Runner]:
    """A manager on the user's client."""
    with (
        _dask_client(workers) as client,
        manager("dask", executor_options={"client": client})(function, workers) as run,
    ):
        yield run


@contextmanager
def _ray_here(workers: int) -> Iterator[Any]:
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_ENABLE_UV_RUN_RUNTIME_ENV="0")
    import ray

    ray.init(address="local", num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        yield ray
    finally:
        ray.shutdown()


@contextmanager
def _ray(batches: bool, function: Function, workers: int) -> Iterator[Runner]:
    with _ray_here(workers) as ray:
        one, many = ray.remote(function), ray.remote(_all_of)

        def run(tasks: Iterable[int]) -> Collection[int]:
            if not batches:
                found: list[int] = ray.get([one.remote(task) for task in tasks])
                return found
            return list(chain.from_iterable(ray.get([many.remote(function, batch) for batch in _batches(tasks)])))

        yield run


def ray(*, batches: bool) -> Contestant:
    """A Ray task for each task, or for each batch of them."""
    return partial(_ray, batches)


@contextmanager
def manager_on_ray(function: Function, workers: int) -> Iterator[Runner]:
    """A manager on the user's Ray."""
    with _ray_here(workers), manager("ray")(function, workers) as run:
        yield run
