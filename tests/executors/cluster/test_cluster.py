"""What a run over a cluster survives: workers that die, join and leave, time limits, and clusters that fail."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.executors.cluster.village import Village

from celestialflow_core import Backoff, CelestialFlowError, TaskManager, TaskTimeout, WorkerCrashed, WorkerSetupError
from celestialflow_core.executors import Cluster, ClusterExecutor, WorkerLeft, current_worker
from celestialflow_core.testing import wait_until


def manager(func: Callable[[int], Any], village: Cluster, **options: Any) -> TaskManager[int, Any]:
    """A manager over *village*."""
    wait = options.pop("wait_for_workers", 60.0)
    return TaskManager(
        func,
        lambda: ClusterExecutor(village, wait_for_workers=wait),
        enable_success_cache=True,
        enable_error_cache=True,
        log_dir=None,
        **options,
    )


def double(number: int) -> int:
    """What there is to do."""
    return 2 * number


def test_call_that_kills_is_charged_and_no_other() -> None:
    """Of 300 calls four end their process, in four ways; the innocent of their batches have their values."""
    ways: dict[int, Callable[[], Any]] = {
        40: lambda: os._exit(0),
        41: lambda: os.kill(os.getpid(), signal.SIGKILL),
        200: lambda: os.kill(os.getpid(), signal.SIGSEGV),
        299: lambda: os.abort(),
    }

    def work(number: int) -> int:
        if number in ways:
            ways[number]()
        return 2 * number

    one = manager(work, Village(3))
    summary = one.start(range(300))
    assert set(one.get_error_dict()) == set(ways)
    assert all(isinstance(error, WorkerCrashed) for error in one.get_error_dict().values())
    assert one.get_success_dict() == {number: 2 * number for number in range(300) if number not in ways}
    assert summary.crashes == 4
    assert summary.reruns >= 4


def test_call_that_kills_twice_is_not_tried_again(tmp_path: Path) -> None:
    """Where WorkerCrashed is retried, the second death is the last: each charge takes two, in company and alone."""
    trace = tmp_path / "trace"

    def work(number: int) -> int:
        if number == 7:
            with trace.open("a") as file:
                file.write("x")
            os._exit(1)
        return number

    one = manager(work, Village(2), max_retries=9, retry_exceptions=(WorkerCrashed,), backoff=Backoff(initial=0))
    one.start(range(20))
    error = one.get_error_dict()[7]
    assert isinstance(error, WorkerCrashed)
    assert error.crashes == 2
    assert len(trace.read_text()) == 3  # in company, alone, and alone again
    assert len(one.get_success_dict()) == 19


def test_worker_killed_from_outside_costs_no_task() -> None:
    """Nobody is to blame, so nobody is charged; what had to run again is counted."""
    village = Village(2)
    one = manager(nap, village)
    for count, outcome in enumerate(one.stream(range(60)), 1):
        assert outcome.ok
        if count == 20:
            village.residents[0].kill()
    assert one.summary is not None
    assert one.summary.reruns > 0
    assert one.get_success_dict() == {number: number for number in range(60)}


def test_workers_killed_again_and_again_lose_no_task() -> None:
    """Every task has its outcome; charged is only who was lost twice, the second time alone."""
    village = Village(3)
    one = manager(double, village)
    outcomes = []
    for count, outcome in enumerate(one.stream(range(200)), 1):
        outcomes.append(outcome)
        residents = list(village.residents)
        if count % 20 == 0 and residents:
            residents[count % len(residents)].kill()
    assert sorted(outcome.task for outcome in outcomes) == list(range(200))
    assert all(outcome.value == 2 * outcome.task for outcome in outcomes if outcome.ok)
    assert all(isinstance(outcome.error, WorkerCrashed) for outcome in outcomes if not outcome.ok)
    assert len(one.get_success_dict()) >= 180


def test_worker_that_joins_is_used(tmp_path: Path) -> None:
    """Calls that only end when two run at a time end, once there is a second worker."""
    village = Village(1)

    def meet(number: int) -> bool:
        (tmp_path / str(number)).touch()
        return wait_until(lambda: len(list(tmp_path.iterdir())) == 2, 60) is not None

    one = manager(meet, village)
    runner = threading.Thread(target=one.start, args=([0, 1],))
    runner.start()
    wait_until(lambda: len(list(tmp_path.iterdir())) == 1, 60)
    village.join()
    runner.join(60)
    assert one.counts.succeeded == 2


def test_worker_that_leaves_is_forgotten() -> None:
    """What it had runs on the others, and its index goes to who comes next."""
    village = Village(2, renews=False)

    def whoami(number: int) -> tuple[int, int]:
        threading.Event().wait(0.01)
        return current_worker().index, os.getpid()

    seen = []
    for count, outcome in enumerate(manager(whoami, village).stream(range(300))):
        assert outcome.ok
        seen.append(outcome.value)
        if count == 20:
            village.residents[0].kill()
            wait_until(lambda: len(village.residents) == 1, 60)
        if count == 40:
            village.join()
    assert {index for index, _ in seen} == {0, 1}
    assert len({process for _, process in seen}) == 3


def test_worker_that_leaves_in_good_order_blames_nobody() -> None:
    """Neither in company nor alone: what it had runs elsewhere, however often that happens."""
    village = Village(2)
    send, lost = village.send, [0]

    def leaving(worker: Any, parcel: bytes, done: Callable[[bytes | BaseException], None]) -> None:
        if lost[0] < 12:
            lost[0] += 1
            done(WorkerLeft("it was told to"))
            worker.kill()
        else:
            send(worker, parcel, done)

    village.send = leaving  # type: ignore[method-assign]  # a worker that goes whenever it is given something
    one = manager(double, village)
    one.start(range(30))
    assert one.get_success_dict() == {number: 2 * number for number in range(30)}
    assert lost[0] == 12


def test_cluster_without_workers_ends_the_run() -> None:
    """It is given some time, and what to do is said."""
    one = manager(double, Village(0), wait_for_workers=0.2)
    with pytest.raises(WorkerSetupError, match="has had no worker for 0.2 seconds, and 3 tasks wait"):
        one.start([1, 2, 3])
    assert one.counts.cancelled == 3


def test_cluster_at_rest_is_asked_to_grow() -> None:
    """With no worker there are slots; the cluster is told how many calls wait; when one comes, they are done."""
    village = Village(0)
    one = manager(double, village)
    runner = threading.Thread(target=one.start, args=([1, 2, 3],))
    runner.start()
    wait_until(lambda: 3 in village.wanted, 60)
    village.join()
    runner.join(60)
    assert one.get_success_dict() == {1: 2, 2: 4, 3: 6}


def test_hung_call_that_holds_the_interpreter_is_ended() -> None:
    """Its station cannot say a word; the silence tells, and the call that is silent alone is charged."""
    village = Village(2)

    def work(number: int) -> int:
        if number == 5:
            import ctypes

            # PyDLL does not let go of the lock: no other thread of the worker runs meanwhile.
            ctypes.PyDLL(None).sleep(600)
        return number

    one = manager(work, village, task_timeout=0.5, max_retries=0)
    one.start(range(12))
    error = one.get_error_dict()[5]
    assert isinstance(error, TaskTimeout)
    assert sorted(one.get_success_dict()) == [number for number in range(12) if number != 5]


def test_large_arguments_do_not_travel_in_one_parcel() -> None:
    """A hundred calls with a megabyte each, of which any number fits a lease, go a few at a time."""
    village = Village(1)
    parcels: list[int] = []
    send = village.send

    def watched(worker: Any, parcel: bytes, done: Callable[[bytes | BaseException], None]) -> None:
        parcels.append(len(parcel))
        send(worker, parcel, done)

    village.send = watched  # type: ignore[method-assign]  # a look at what passes
    one: TaskManager[Any, int] = TaskManager(len, lambda: ClusterExecutor(village), log_dir=None)
    summary = one.start(bytes([number]) * 2**20 + b"x" for number in range(100))
    assert summary.succeeded == 100
    assert max(parcels) < 7 * 2**20


class Failing(Village):
    """A cluster whose connection breaks at the second look."""

    def __init__(self, verb: str, error: Exception) -> None:
        super().__init__(1)
        self.verb = verb
        self.error = error

    def workers(self) -> Mapping[Any, int]:
        """The verb that may fail for good."""
        if self.verb == "workers" and self.wanted:
            raise self.error
        return super().workers()

    def enlist(self, worker: Any, index: int) -> None:
        """The verb that the author may have got wrong."""
        if self.verb == "enlist":
            raise self.error
        super().enlist(worker, index)

    def send(self, worker: Any, parcel: bytes, done: Callable[[bytes | BaseException], None]) -> None:
        """The verb that finds the worker gone."""
        if self.verb == "send":
            raise self.error
        super().send(worker, parcel, done)


def nap(number: int) -> int:
    """Takes a little."""
    threading.Event().wait(0.05)
    return number


def test_cluster_that_is_gone_ends_the_run_with_its_own_words() -> None:
    """Every task is accounted for: what had come by then, and the rest as cancelled."""
    one = manager(nap, Failing("workers", CelestialFlowError("The scheduler is gone.")))
    with pytest.raises(CelestialFlowError, match="The scheduler is gone"):
        one.start(range(1000))
    assert one.summary is not None
    assert one.summary.total == one.summary.succeeded + one.summary.cancelled
    assert one.summary.cancelled > 0


def test_fault_of_the_adapter_ends_the_run_and_is_named() -> None:
    """An exception that is none of ours is its cause."""
    one = manager(nap, Failing("enlist", KeyError("seat")))
    with pytest.raises(CelestialFlowError, match="The cluster failed with KeyError: 'seat'") as caught:
        one.start(range(10))
    assert isinstance(caught.value.__cause__, KeyError)


def test_cluster_whose_workers_are_all_lost_ends_the_run() -> None:
    """There is an end to it, with the cluster's own words, and no call is blamed."""
    one = manager(double, Failing("send", ConnectionError("no way")))
    with pytest.raises(WorkerSetupError, match="5 workers in a row were lost before .* no way"):
        one.start(range(3))
    assert one.get_error_dict() == {}
    assert one.counts.cancelled == 3


@pytest.mark.parametrize("wait", [0, -1, "long", True, float("nan")])
def test_time_to_wait_for_workers_is_checked(wait: Any) -> None:
    """A number above 0, or None."""
    with pytest.raises(ValueError, match="wait_for_workers must be a number of seconds above 0"):
        ClusterExecutor(Village(), wait_for_workers=wait)
