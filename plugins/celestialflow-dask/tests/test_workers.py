"""Workers die, join and leave in the middle of a run, and every task is accounted for."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

from celestialflow_core import TaskManager, current_worker
from celestialflow_core.errors import TaskTimeout, WorkerCrashed
from celestialflow_core.testing import wait_until


def manager_on(address: str, func: Callable[..., Any], *, options: dict[str, Any] | None = None, **given: Any) -> Any:
    """A manager whose tasks run on that cluster."""
    return TaskManager(func, "dask", log_dir=None, executor_options={"address": address, **(options or {})}, **given)


def pids(client: Any) -> dict[str, int]:
    """The process of each worker."""
    found: dict[str, int] = client.run(os.getpid)
    return found


def test_worker_killed_from_outside_loses_no_task(client: Any, address: str, tmp_path: Path) -> None:
    """The call that ran there runs again; nothing else is charged with it."""
    folder = str(tmp_path)

    def touch(task: int) -> int:
        if task == 5:
            with open(f"{folder}/{os.getpid()}", "w"):
                pass
            while not os.path.exists(f"{folder}/go"):
                time.sleep(0.01)
        return task

    def kill() -> None:
        wait_until(lambda: any(path.name.isdigit() for path in tmp_path.iterdir()), 60)
        (victim,) = (int(path.name) for path in tmp_path.iterdir())
        os.kill(victim, signal.SIGKILL)
        (tmp_path / "go").touch()

    killer = threading.Thread(target=kill)
    killer.start()
    summary = manager_on(address, touch).start(range(40))
    killer.join()

    assert (summary.succeeded, summary.failed, summary.crashes) == (40, 0, 0)
    assert summary.reruns > 0


def test_worker_killed_at_random_moments_leaves_every_task_accounted_for(client: Any, address: str) -> None:
    """Five times, whatever is going on there: each task ends once, and what was computed is right."""
    seed = int.from_bytes(os.urandom(4), "little")
    print("seed", seed)
    rng = random.Random(seed)

    def nap(task: int) -> int:
        time.sleep(0.01)
        return -task

    over = threading.Event()

    def kill() -> None:
        for _ in range(5):
            if over.wait(rng.uniform(0.1, 0.8)):
                return
            found = sorted(pids(client).values())
            if found:
                os.kill(rng.choice(found), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    outcomes = list(manager_on(address, nap).stream(range(400)))
    over.set()
    killer.join()

    assert Counter(outcome.task for outcome in outcomes) == Counter(range(400))
    for outcome in outcomes:
        # One that runs alone for the second time may be hit twice: then that is what it says.
        assert outcome.value == -outcome.task if outcome.ok else isinstance(outcome.error, WorkerCrashed)
    assert sum(outcome.ok for outcome in outcomes) >= 395


def test_worker_that_joins_is_used_and_one_that_leaves_is_forgotten(new_cluster: Callable[..., Any]) -> None:
    """One worker, then two, then one: no task is charged, and the run ends with the one that is left."""
    cluster = new_cluster(1)

    def where(task: int) -> int:
        time.sleep(0.02)
        return os.getpid()

    seen: list[int] = []
    made: Any = Client(cluster, set_as_default=False)
    with made as client:
        first = client.scheduler_info()["workers"]
        manager = manager_on(cluster.scheduler_address, where)
        with manager.stream(range(100_000)) as outcomes:
            for outcome in outcomes:
                assert outcome.ok, outcome.error
                seen.append(outcome.value)
                if len(seen) == 10:
                    cluster.scale(2)
                elif len(set(seen)) == 2 and len(seen) > 10:
                    break
            client.retire_workers(list(first))
            last = time.monotonic() + 60
            for outcome in outcomes:
                assert outcome.ok, outcome.error
                if outcome.value != seen[0] and len(client.scheduler_info()["workers"]) == 1:
                    break
                assert time.monotonic() < last


def test_adaptive_cluster_grows_while_tasks_wait_and_shrinks_when_none_do(
    new_cluster: Callable[..., Any],
) -> None:
    """From no worker to as many as it may have, and back."""
    cluster = new_cluster(0)
    cluster.adapt(minimum=0, maximum=2, interval="100ms")

    def where(task: int) -> int:
        time.sleep(0.05)
        return os.getpid()

    made: Any = Client(cluster, set_as_default=False)
    with made as client:
        used = set()
        with manager_on(cluster.scheduler_address, where).stream(range(100_000)) as outcomes:
            for outcome in outcomes:
                used.add(outcome.value)
                if len(used) == 2:
                    break
        wait_until(lambda: not client.scheduler_info()["workers"], 60)


def test_worker_limit_bounds_what_runs_at_a_time(new_cluster: Callable[..., Any]) -> None:
    """Three places of a worker that has four threads: as many indexes, each with a set-up of its own."""
    cluster = new_cluster(1, threads_per_worker=4)

    def where(task: int) -> tuple[int, int, float, float]:
        begun = time.time()
        time.sleep(0.02)
        return current_worker().index, current_worker().state, begun, time.time()

    manager = manager_on(cluster.scheduler_address, where, worker_limit=3, worker_setup=threading.get_ident)
    values = [outcome.unwrap() for outcome in manager.stream(range(120))]

    assert {index for index, *_ in values} == {0, 1, 2}
    assert len({(index, state) for index, state, *_ in values}) == 3
    moments = sorted([(begun, 1) for *_, begun, _ in values] + [(ended, -1) for *_, ended in values])
    running = peak = 0
    for _, change in moments:
        running += change
        peak = max(peak, running)
    assert peak <= 3


def test_resources_choose_the_workers_and_bound_them(new_cluster: Callable[..., Any]) -> None:
    """A worker without them is not used; one that has them for one call runs one at a time."""
    cluster = new_cluster(2, threads_per_worker=2)
    (plain,) = cluster.new_worker_spec().values()
    cluster.worker_spec["gpu"] = {**plain, "options": {**plain["options"], "resources": {"GPU": 1}}}
    cluster.scale(3)

    def where(task: int) -> tuple[int, int]:
        time.sleep(0.01)
        return os.getpid(), current_worker().index

    made: Any = Client(cluster, set_as_default=False)
    with made as client:
        client.wait_for_workers(3, timeout=60)
        manager = manager_on(cluster.scheduler_address, where, options={"resources": {"GPU": 1}})
        values = {outcome.unwrap() for outcome in manager.stream(range(50))}

    assert len(values) == 1
    assert {index for _, index in values} == {0}


def test_resources_that_no_worker_has_are_warned_of(address: str) -> None:
    """The run waits for a worker that has them, and says so at its start."""
    manager = manager_on(address, int, options={"resources": {"GPU": 1}, "wait_for_workers": 0.5})

    with pytest.warns(UserWarning, match=r"No Dask worker has the resources \{'GPU': 1\} yet"), pytest.raises(
        Exception, match="no worker for 0.5 seconds"
    ):  # fmt: skip
        manager.start(["1"])


def test_call_that_takes_too_long_is_ended_with_its_worker_and_no_other(address: str) -> None:
    """The nanny ends the process, which is there again for what waits."""

    def nap(seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    manager = manager_on(address, nap, task_timeout=1.0, max_retries=0, enable_error_cache=True)
    summary = manager.start([600.0, *(task / 1000 for task in range(100))])

    assert (summary.succeeded, summary.failed) == (100, 1)
    (error,) = manager.get_error_dict().values()
    assert isinstance(error, TaskTimeout)
