"""`FuturesExecutor`: whatever goes wrong in a foreign pool is said of the right call, and the rest goes on."""

from __future__ import annotations

import importlib
import multiprocessing
import multiprocessing.resource_tracker
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor as Pool
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import loky
import pytest
from loky.backend import resource_tracker

from celestialflow_core.errors import (
    CelestialFlowError,
    NotPicklable,
    RemoteError,
    WorkerCrashed,
    WorkerSetupError,
)
from celestialflow_core.executors import Call, FuturesExecutor, Work
from celestialflow_core.testing import Resources, wait_until
from celestialflow_core.testing._bench import Bench
from celestialflow_core.testing._tasks import hold

SPAWN = multiprocessing.get_context("spawn")


def spawned_pool() -> Pool:
    return ProcessPoolExecutor(2, mp_context=SPAWN)


def loky_pool() -> Pool:
    pool: Pool = loky.ProcessPoolExecutor(2)
    return pool


POOLS = {"processes": spawned_pool, "loky": loky_pool}


@pytest.fixture(scope="module", autouse=True)
def _trackers() -> None:
    """Starts what multiprocessing and loky keep for the life of the program, before anybody looks for leaks."""
    multiprocessing.resource_tracker.ensure_running()
    resource_tracker.ensure_running()


@pytest.fixture
def on() -> Iterator[Callable[..., Bench]]:
    """Puts a FuturesExecutor on a bench; nothing of it is left at the end of the test."""
    before = Resources()
    benches: list[Bench] = []

    def make(pool: Any, worker_limit: int | None = None) -> Bench:
        benches.append(Bench(FuturesExecutor(pool, worker_limit), patience=60.0))
        return benches[-1]

    yield make
    while benches:
        benches.pop().close()
    before.expect_no_leaks(lambda leak: "ThreadPoolExecutor" in leak)


def act(what: str, number: int) -> Any:
    """A task that does what it is told."""
    if what == "exit":
        os._exit(3)
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "lambda":
        return lambda: number
    if what == "lock":
        return threading.Lock()
    if what == "no return":
        return Unloadable()
    if what == "two":
        raise TwoParts("one", "other")
    if what == "fork":
        if child := os.fork():
            os.waitpid(child, 0)
        return number
    return number


class TwoParts(Exception):
    """Pickles, and cannot be rebuilt."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


def _refuse() -> None:
    raise OSError("not here")


class Unloadable:
    """Pickles, and raises when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _refuse, ()


class TestArguments:
    """What the constructor takes."""

    def test_pool_is_a_pool_or_makes_one(self) -> None:
        """Anything else is refused, with what was given."""
        wrong: Any = "pool"
        with pytest.raises(TypeError, match="or a function that makes one, got 'pool'"):
            FuturesExecutor(wrong)

    @pytest.mark.parametrize("limit", [0, -1, 1.5])
    def test_worker_limit_is_a_positive_int(self, limit: Any) -> None:
        """Zero workers, or half a one, are refused."""
        with pytest.raises(ValueError, match="positive int"):
            FuturesExecutor(ThreadPoolExecutor, worker_limit=limit)

    def test_slots_follow_the_pool_or_the_limit(self, on: Callable[..., Bench]) -> None:
        """Two batches a worker; the limit counts where it is given."""
        assert on(lambda: ThreadPoolExecutor(3)).start(abs).executor.slots == 6
        assert on(lambda: ThreadPoolExecutor(3), worker_limit=5).start(abs).executor.slots == 10

    @pytest.mark.parametrize(("make", "text"), [(lambda: 1 / 0, "ZeroDivisionError"), (lambda: 7, "gave 7")])
    def test_factory_without_a_pool_is_a_setup_error(self, on: Callable[..., Bench], make: Any, text: str) -> None:
        """A factory that raises, or gives something else, ends the run before it begins."""
        with pytest.raises(WorkerSetupError, match=text):
            on(make).start(abs)


class TestThreads:
    """Nothing is copied where nothing has to be."""

    def test_objects_keep_their_identity(self, on: Callable[..., Bench]) -> None:
        """An argument, a result and an error are the very objects; they need not be picklable."""
        lock, error = threading.Lock(), ValueError("mine")
        seen: list[object] = []

        def task(thing: Any) -> Any:
            seen.append(thing)
            if thing is error:
                raise error
            return thing

        bench = on(lambda: ThreadPoolExecutor(2)).start(task)
        bench.feed([(lock,), (error,)])
        results = bench.by_id()
        assert results[0].value is lock
        assert results[1].error is error
        assert {id(thing) for thing in seen} == {id(lock), id(error)}

    def test_error_does_not_hold_the_batch(self, on: Callable[..., Bench]) -> None:
        """The traceback begins in the user's function, not in ours."""

        def task() -> None:
            raise ValueError

        bench = on(lambda: ThreadPoolExecutor(2)).start(task)
        bench.feed([()])
        error = bench.results[0].error
        assert error is not None
        assert error.__traceback__ is not None
        assert error.__traceback__.tb_frame.f_code is task.__code__

    def test_pool_of_the_user_stays_open(self, on: Callable[..., Bench]) -> None:
        """After stop, the user goes on with the pool."""
        with ThreadPoolExecutor(2) as pool:
            bench = on(pool).start(abs)
            bench.feed([(-1,)])
            bench.stop()
            assert pool.submit(abs, -2).result() == 2

    def test_calls_that_turn_slow_are_handed_back(self, on: Callable[..., Bench]) -> None:
        """A large batch does not keep its calls from an idle worker once they take long."""
        slow = threading.Event()

        def task(number: int) -> int:
            if slow.is_set():
                threading.Event().wait(0.02)
            return number

        bench = on(lambda: ThreadPoolExecutor(2)).start(task)
        batches_of_forty = 4 * 40
        for _ in range(100):
            bench.feed([(number,) for number in range(500)])
            if bench.executor.slots >= batches_of_forty:
                break
        assert bench.executor.slots >= batches_of_forty
        bench.results.clear()
        bench.submitted = 0
        slow.set()
        bench.feed([(number,) for number in range(40)])
        assert bench.executor.slots < batches_of_forty
        assert {id: result.value for id, result in bench.by_id().items()} == {id: id for id in range(40)}
        assert len({result.worker for result in bench.results}) == 2

    def test_pool_that_was_shut_down_gives_errors(self, on: Callable[..., Bench]) -> None:
        """submit never raises: each call is told what the pool said, and what would help."""
        pool = ThreadPoolExecutor(2)
        bench = on(pool).start(abs)
        pool.shutdown()
        bench.feed([(1,), (2,)])
        assert len(bench.by_id()) == 2
        for result in bench.results:
            assert isinstance(result.error, CelestialFlowError)
            assert "cannot schedule new futures after shutdown" in str(result.error)
            assert "give a function that makes the pool" in str(result.error)

    def test_running_call_is_dropped_at_the_end(self, on: Callable[..., Bench]) -> None:
        """A thread that runs a call cannot be ended; stop does not wait for it beyond its grace."""
        started, release = threading.Event(), threading.Event()

        def task() -> None:
            started.set()
            release.wait(60)

        bench = on(lambda: ThreadPoolExecutor(2)).start(task)
        bench.submit([Call(0, ())])
        bench.wait(started.is_set)
        assert bench.stop(grace=0.0) < 10.0
        release.set()
        assert bench.results == []


@pytest.mark.parametrize("make", POOLS.values(), ids=POOLS)
class TestProcesses:
    """What cannot cross is the matter of its own call."""

    def test_lambda_runs(self, on: Callable[..., Bench], make: Any) -> None:
        """Function, argument and result may be lambdas and closures."""
        offset = 5
        bench = on(make).start(lambda function: lambda: function(offset))
        bench.feed([(lambda number: number + 1,)])
        assert bench.results[0].value() == 6

    def test_argument_that_cannot_be_pickled_is_its_own_error(self, on: Callable[..., Bench], make: Any) -> None:
        """It is named, with its position and the reason; its neighbours run."""
        bench = on(make).start(act)
        bench.feed([("", 0), ("", threading.Lock()), ("", 2), ("", Unloadable()), ("", 4)])
        results = bench.by_id()
        assert [results[id].value for id in (0, 2, 4)] == [0, 2, 4]
        for id in (1, 3):
            assert isinstance(results[id].error, NotPicklable)
        assert "Argument 2 of task" in str(results[1].error)
        assert "lock" in str(results[1].error)
        assert "OSError: not here" in str(results[3].error)

    def test_result_that_cannot_be_pickled_is_its_own_error(self, on: Callable[..., Bench], make: Any) -> None:
        """Also one that comes apart only where it arrives."""
        bench = on(make).start(act)
        bench.feed([("", 0), ("lock", 1), ("", 2), ("no return", 3), ("lambda", 4)])
        results = bench.by_id()
        assert [results[id].value for id in (0, 2)] == [0, 2]
        assert results[4].value() == 4
        for id in (1, 3):
            assert isinstance(results[id].error, NotPicklable)
            assert "The result of task" in str(results[id].error)

    def test_exception_that_cannot_be_rebuilt_is_named(self, on: Callable[..., Bench], make: Any) -> None:
        """Its type, its text and its traceback arrive."""
        bench = on(make).start(act)
        bench.feed([("", 0), ("two", 1), ("", 2)])
        result = bench.by_id()[1]
        assert isinstance(result.error, RemoteError)
        assert result.error.type_name.endswith("TwoParts")
        assert result.error.text == "one and other"
        assert result.traceback is not None
        assert "in act" in result.traceback

    def test_function_that_cannot_be_pickled_is_refused_at_the_start(self, on: Callable[..., Bench], make: Any) -> None:
        """Before any call, and without leaving the pool behind."""
        lock = threading.Lock()
        with pytest.raises(NotPicklable, match="The function"):
            on(make).start(lambda number: (lock, number))

    def test_forked_child_that_returns_is_not_heard(self, on: Callable[..., Bench], make: Any) -> None:
        """A task that forks ends once."""
        bench = on(make).start(act)
        bench.feed([("fork", 1), ("", 2)])
        assert [bench.by_id()[id].value for id in (0, 1)] == [1, 2]

    @pytest.mark.parametrize("what", ["exit", "kill"])
    def test_crashing_calls_alone_are_charged(self, on: Callable[..., Bench], make: Any, what: str) -> None:
        """First, last and in the middle: each a WorkerCrashed, and the innocent get their values in a new pool."""
        bad = {0, 9, 10, 19}
        bench = on(make).start(act)
        bench.feed([(what if number in bad else "", number) for number in range(20)])
        results = bench.by_id()
        for number, result in results.items():
            if number in bad:
                assert isinstance(result.error, WorkerCrashed)
                assert result.error.exitcode == (3 if what == "exit" else -signal.SIGKILL)
                assert repr((what, number)) in str(result.error)
            else:
                assert (result.value, result.error) == (number, None)
        assert len(results) == 20
        assert any(result.reruns for result in results.values() if result.error is None)
        bench.feed([("", 7)])
        assert bench.by_id()[20].value == 7

    def test_broken_pool_of_the_user_gives_honest_errors(self, on: Callable[..., Bench], make: Any) -> None:
        """Given as an object it is not replaced: what it lost, and what comes later, becomes errors."""
        pool = make()
        bench = on(pool).start(act)
        try:
            bench.feed([("", 0), ("", 1)])
            bench.feed([("exit", 2)])
            bench.feed([("", 3), ("", 4)])
            results = bench.by_id()
            assert [results[id].value for id in (0, 1)] == [0, 1]
            assert isinstance(results[2].error, WorkerCrashed)
            for id in (2, 3, 4):
                assert isinstance(results[id].error, CelestialFlowError)
                assert "give a function that makes the pool" in str(results[id].error)
        finally:
            pool.shutdown()
            multiprocessing.active_children()  # collects the worker that died; loky with psutil leaves that to others
            bench.close()

    def test_running_process_is_killed_at_the_end(self, on: Callable[..., Bench], make: Any, tmp_path: Path) -> None:
        """stop(grace=0) leaves no process of its own pool, whatever it runs."""
        started = tmp_path / "started"
        bench = on(make).start(hold)
        for id in range(4):
            bench.submit([Call(id, (str(started), str(tmp_path / "never")))])
        bench.wait(started.exists)
        assert bench.stop(grace=0.0) < 20.0
        assert bench.results == []

    def test_stop_during_an_inquiry_leaves_nothing(self, on: Callable[..., Bench], make: Any) -> None:
        """The pool may be broken, half made or under test when the end comes."""
        bench = on(make).start(act)
        bench.submit([Call(0, ("exit", 0)), Call(1, ("", 1))])
        bench.stop(grace=0.0)
        assert len(bench.by_id()) <= 2


class CarelessPool(ProcessPoolExecutor):
    """Says that it is shut down while its processes go on, as one does whose own thread has died."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Nothing."""


def test_processes_of_a_pool_that_does_not_end_them_are_ended(on: Callable[..., Bench]) -> None:
    """What a pool leaves behind at its shutdown is killed."""
    made: list[CarelessPool] = []

    def make() -> Pool:
        made.append(CarelessPool(2, mp_context=SPAWN))
        return made[-1]

    bench = on(make).start(act)
    bench.feed([("", 1)])
    processes = list(made[0]._processes.values())
    assert processes
    bench.stop()
    wait_until(lambda: all(process.exitcode is not None for process in processes))


def _fail_to_start() -> None:
    os._exit(4)


class TestWorkersThatCannotStart:
    """A pool that breaks before its first call ends the run, and is not made for ever."""

    def test_run_ends_with_a_setup_error(self, on: Callable[..., Bench]) -> None:
        """Three pools, then the reason."""
        made: list[Pool] = []

        def make() -> Pool:
            made.append(ProcessPoolExecutor(1, mp_context=SPAWN, initializer=_fail_to_start))
            return made[-1]

        bench = on(make).start(act)
        bench.submit([Call(0, ("", 0))])
        error = bench.wait(lambda: bench.ended_by)
        assert isinstance(error, WorkerSetupError)
        assert "broke each time before it had run a call" in str(error)
        assert len(made) == 4
        bench.stop()
        made.clear()

    def test_function_that_workers_cannot_load_ends_the_run(self, on: Callable[..., Bench]) -> None:
        """With the module that is missing there."""
        bench = on(spawned_pool).start(Elsewhere())
        bench.submit([Call(0, ())])
        error = bench.wait(lambda: bench.ended_by)
        assert isinstance(error, WorkerSetupError)
        assert "No module named 'elsewhere'" in str(error)
        assert bench.results == []


def _import_elsewhere() -> Any:
    return importlib.import_module("elsewhere")


class Elsewhere:
    """A function of a module that only this process has."""

    def __call__(self) -> None:
        """Never reached."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _import_elsewhere, ()


class StubbornFuture(Future[Any]):
    """Like parsl's: it cannot be cancelled, and says so."""

    def cancel(self) -> bool:
        raise NotImplementedError


class MoodyPool(Pool):
    """Runs in one thread; a batch with a call of "lost" fails as a whole, while the pool lives on."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(1)

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future = StubbornFuture()

        def run() -> None:
            future.set_running_or_notify_cancel()
            _, shipment, _ = args
            if any(call[0] == "lost" for call in shipment.args):
                future.set_exception(ConnectionError("the worker is gone"))
            else:
                future.set_result(function(*args, **kwargs))

        self._threads.submit(run)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._threads.shutdown(wait, cancel_futures=cancel_futures)


class TestForeignSystems:
    """Pools that break in other ways than the standard library's."""

    def test_batch_lost_by_a_living_pool_is_looked_into(self, on: Callable[..., Bench]) -> None:
        """The pool is kept, the suspects run alone, and the guilty one is charged with what the pool said."""
        made: list[Pool] = []

        def make() -> Pool:
            made.append(MoodyPool())
            return made[-1]

        bench = on(make, worker_limit=2).start(act)
        bench.feed([("", number) for number in range(200)])
        bench.feed([("lost" if number == 5 else "", number) for number in range(40)])
        results = bench.by_id()
        assert [id for id, result in results.items() if result.error is not None] == [205]
        assert isinstance(results[205].error, WorkerCrashed)
        assert "the worker is gone" in str(results[205].error)
        assert len(made) == 1

    def test_running_call_that_cannot_be_cancelled_is_waited_for(self, on: Callable[..., Bench]) -> None:
        """A cancel that raises is a request that was not granted: what has begun gets the grace, the rest is gone."""
        pool = MoodyPool()
        started, release = threading.Event(), threading.Event()

        def task(number: int) -> int:
            started.set()
            release.wait(60)
            return number

        bench = on(pool).start(task)
        for id in range(4):
            bench.submit([Call(id, (id,))])
        bench.wait(started.is_set)
        threading.Timer(0.1, release.set).start()
        bench.stop(grace=60.0)
        assert [result.value for result in bench.results] == [0]
        pool.shutdown()

    @pytest.mark.parametrize("given", ["factory", "object"])
    def test_batch_that_cannot_be_cancelled_runs_no_call_after_a_stop(
        self, on: Callable[..., Bench], given: str
    ) -> None:
        """A pool that cannot cancel starts it none the less, once the call in front has ended; its calls are gone."""
        pool = MoodyPool()
        started, release = threading.Event(), threading.Event()
        ran: list[int] = []

        def task(number: int) -> None:
            ran.append(number)
            if number == 0:
                started.set()
                release.wait(60)

        bench = on(pool if given == "object" else lambda: pool).start(task)
        for id in range(3):
            bench.submit([Call(id, (id,))])
        bench.wait(started.is_set)
        bench.stop(grace=0.0)
        release.set()
        pool.shutdown()
        assert ran == [0]

    @pytest.mark.parametrize("idle", [True, False])
    def test_pool_that_refuses_to_cancel_is_shut_down(self, on: Callable[..., Bench], idle: bool) -> None:
        """Nobody asks it to, where it has nothing to do; where it has, the refusal is not the last word."""

        class Refusing(MoodyPool):
            asked = False

            def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
                if cancel_futures:
                    self.asked = True
                    raise UserWarning("cancelling is not supported")
                super().shutdown(wait)

        pool = Refusing()
        bench = on(lambda: pool).start(act)
        bench.feed([("", 1)])
        release = threading.Event()
        if not idle:
            pool._threads.submit(release.wait, 60)
            bench.submit([Call(1, ("", 1))])
            threading.Timer(0.2, release.set).start()
        bench.stop(grace=60.0)
        assert pool.asked is not idle
        with pytest.raises(RuntimeError, match="after shutdown"):
            pool._threads.submit(abs, 1)


def test_result_that_is_on_its_way_at_a_stop_is_not_heard_by_the_next_run() -> None:
    """Taken up by the old run, delivered when the new one has begun: the new one numbers its calls from 0, too."""
    listened, taken_up, go_on = threading.Event(), threading.Event(), threading.Event()

    class Late(Future[Any]):
        def add_done_callback(self, fn: Any) -> None:
            super().add_done_callback(fn)
            listened.set()  # had it ended before, its result would be taken up in the thread that submits

        def result(self, timeout: float | None = None) -> Any:
            taken_up.set()
            go_on.wait(30)
            return super().result(timeout)

    class OneThreadEach(Pool):
        future: type[Future[Any]] = Late

        def __init__(self) -> None:
            self.threads: list[threading.Thread] = []

        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            future = self.future()

            def run() -> None:
                listened.wait(30)
                future.set_result(fn(*args, **kwargs))

            self.threads.append(threading.Thread(target=run))
            self.threads[-1].start()
            return future

    pool = OneThreadEach()
    executor = FuturesExecutor(pool, 1)
    first: list[Any] = []
    second: list[Any] = []
    executor.start(Work(lambda task: ("first", task)), first.append)
    executor.submit([Call(0, (7,))])
    assert taken_up.wait(30)
    executor.stop(0)
    executor.start(Work(lambda task: ("second", task)), second.append)
    go_on.set()
    pool.threads[0].join()
    assert (first, second) == ([], [])
    pool.future = Future
    executor.submit([Call(0, (8,))])
    pool.threads[1].join()
    assert [value for successes in second for value in successes.values] == [("second", 8)]
    executor.stop(1)
