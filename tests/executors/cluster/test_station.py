"""What a worker holds: it travels by value, sets up once, and gives up on a call that is stuck."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from celestialflow_core.executors import current_worker
from celestialflow_core.executors.station import Station, collection, pack, parcel, unpack
from celestialflow_core.executors.worker import TIMED_OUT, FunctionRef, Returned, Shipment, freeze

pytestmark = pytest.mark.pure


def station(func: Callable[..., Any], setup: Callable[[], Any] | None = None, limit: float | None = None) -> Station:
    """One that has travelled."""
    made: Station = pickle.loads(pack(FunctionRef(func), setup, limit))(5)
    return made


def run(there: Station, *args: tuple[Any, ...], budget: float = 60.0) -> Returned:
    """What comes of calls with these *args*, numbered from 0."""
    return unpack(there.run(parcel(range(len(args)), [freeze(each) for each in args], budget)))


def test_station_needs_no_installation_where_it_arrives(tmp_path: Path) -> None:
    """A worker with the standard library and cloudpickle, but without this package, runs calls and the set-up."""
    log = tmp_path / "log"

    def setup() -> Iterator[None]:
        log.write_text("up ")
        yield
        log.write_text(log.read_text() + "down")

    (tmp_path / "station").write_bytes(pack(FunctionRef(lambda value: [value * 2]), setup, None))
    (tmp_path / "parcel").write_bytes(parcel([7, 8], [freeze((1,)), freeze(("x",))], 60.0))
    script = """
import pickle, sys

class Hidden:
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in ("celestialflow_core", "attr", "attrs", "pluggy", "loguru"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Hidden())
station = pickle.loads(open("station", "rb").read())(0)
open("returned", "wb").write(station.run(open("parcel", "rb").read()))
assert station.leave() == ""
assert not [name for name in sys.modules if name.startswith("celestialflow_core")]
"""
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    returned = unpack((tmp_path / "returned").read_bytes())
    assert (returned.ids, returned.values, returned.failures) == ([7, 8], [[2], ["xx"]], [])
    assert log.read_text() == "up down"


def test_station_that_arrives_where_it_was_packed_changes_nothing() -> None:
    """A worker may be a thread of this very process, where what is pickled by value would replace methods of classes."""
    before = {name: value for name, value in vars(Shipment).items() if callable(value)}
    there = station(len)
    assert type(there) is Station
    assert {name: value for name, value in vars(Shipment).items() if callable(value)} == before
    assert pickle.loads(pickle.dumps(Shipment([1], [("x",)]))).ids == [1]


def test_worker_with_another_release_gets_the_code_along(tmp_path: Path) -> None:
    """By name it would get the station of that release, which may not understand ours."""
    other = tmp_path / "celestialflow_core" / "executors"
    other.mkdir(parents=True)
    for folder in (other, other.parent):
        (folder / "__init__.py").touch()
    (other / "station.py").write_text("def fingerprint(): return 'of long ago'")
    (tmp_path / "station").write_bytes(pack(FunctionRef(len), None, None))
    (tmp_path / "parcel").write_bytes(parcel([7], [freeze(("xyz",))], 60.0))
    script = """
import pickle
station = pickle.loads(open("station", "rb").read())(0)
open("returned", "wb").write(station.run(open("parcel", "rb").read()))
"""
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    assert unpack((tmp_path / "returned").read_bytes()).values == [3]


def test_packing_leaves_the_registry_of_cloudpickle_as_it_was() -> None:
    """What the user pickles by value, or not, is the user's affair."""
    before = cloudpickle.list_registry_pickle_by_value()
    station(len)
    assert cloudpickle.list_registry_pickle_by_value() == before


def test_each_place_has_an_index_and_a_set_up_of_its_own() -> None:
    """Two batches at a time have two places; the set-up runs once in each, in the thread of its calls."""
    barrier = threading.Barrier(2)
    sys.modules["__main__"].__dict__["celestialflow_barrier"] = barrier

    def work() -> tuple[int, bool]:
        sys.modules["__main__"].__dict__["celestialflow_barrier"].wait(60)
        return current_worker().index, current_worker().state == threading.get_ident()

    try:
        there = station(work, threading.get_ident)
        seen: list[Returned] = []
        data = parcel([0, 1], [freeze(()), freeze(())], 60.0, places=2)
        others = [threading.Thread(target=lambda: seen.append(unpack(there.run(data)))) for _ in range(2)]
        for other in others:
            other.start()
        for other in others:
            other.join(60)
    finally:
        del sys.modules["__main__"].__dict__["celestialflow_barrier"]
    assert sorted(one.values[0] for one in seen) == [(5, True), (6, True)]
    assert all(one.values[0] == one.values[1] for one in seen)


def test_setup_that_fails_is_a_problem_and_no_failure() -> None:
    """No call is run, nor blamed."""
    returned = run(station(len, lambda: 1 / 0), ("x",))
    assert returned.ids == []
    assert returned.failures == []
    assert returned.problem is not None
    assert "ZeroDivisionError" in returned.problem[1]
    assert "worker 5" in returned.problem[1]


def test_tear_down_that_raises_is_told() -> None:
    """Its traceback is what `leave` gives; the next `leave` has nothing to say."""

    def setup() -> Iterator[None]:
        yield
        raise RuntimeError("cannot close")

    there = station(len, setup)
    run(there, ("x",))
    assert "cannot close" in there.leave()
    assert there.leave() == ""


def test_call_that_is_stuck_costs_nobody_else_a_result() -> None:
    """What had finished comes back with it, what had not begun is handed back, and the stack shows where it hangs."""
    release = threading.Event()

    def work(number: int) -> int:
        if number == 2:
            hang()
        return number * 10

    def hang() -> None:
        sys.modules["__main__"].__dict__["celestialflow_release"].wait(60)

    sys.modules["__main__"].__dict__["celestialflow_release"] = release
    try:
        there = station(work, limit=0.2)
        returned = run(there, (0,), (1,), (2,), (3,), (4,))
        assert (returned.ids, returned.values) == ([0, 1], [0, 10])
        ((id, seconds, kind, (limit, stack)),) = returned.failures
        assert (id, kind, limit) == (2, TIMED_OUT, 0.2)
        assert seconds >= 0.2
        assert "in hang" in stack
        assert returned.unstarted == [3, 4]
        assert run(there, (5,), budget=0.01).unstarted == [0], "Nothing runs there any more."
        assert there.leave() == ""
    finally:
        release.set()
        del sys.modules["__main__"].__dict__["celestialflow_release"]


def test_call_that_is_left_running_is_given_up_at_its_limit() -> None:
    """The collection brings its time-out, and nothing that has been given."""
    release = threading.Event()
    sys.modules["__main__"].__dict__["celestialflow_release"] = release

    def work(number: int) -> int:
        if number == 1:
            sys.modules["__main__"].__dict__["celestialflow_release"].wait(60)
        return number

    try:
        there = station(work, limit=0.3)
        assert run(there, (0,), (1,), (2,), budget=0.01).running is not None
        collected = unpack(there.run(collection(1)))
        assert [failure[0] for failure in collected.failures] == [1]
        assert (collected.ids, collected.unstarted, collected.running) == ([], [], None)
    finally:
        release.set()
        del sys.modules["__main__"].__dict__["celestialflow_release"]


def test_limit_is_for_a_call_and_not_for_a_batch() -> None:
    """Ten calls of 50 ms are in time with a limit of 300 ms, and the set-up is in the thread of the calls."""

    def work(seconds: float) -> bool:
        threading.Event().wait(seconds)
        return bool(current_worker().state == threading.get_ident())

    returned = run(station(work, threading.get_ident, limit=0.3), *[(0.05,)] * 10)
    assert returned.values == [True] * 10


def test_batch_stops_at_its_budget() -> None:
    """The calls that have not begun are handed back."""
    returned = run(station(lambda: threading.Event().wait(0.05)), *[()] * 50, budget=0.01)
    assert returned.ids == [0]
    assert returned.unstarted == list(range(1, 50))


def test_slow_call_is_left_running_and_collected() -> None:
    """The batch comes back at its budget with what had finished; the call's own result is collected, once it is there.

    Meanwhile another batch finds no place, and is handed back.
    """
    release = threading.Event()
    sys.modules["__main__"].__dict__["celestialflow_release"] = release

    def work(number: int) -> int:
        if number == 1:
            sys.modules["__main__"].__dict__["celestialflow_release"].wait(60)
        return number * 10

    try:
        there = station(work)
        returned = run(there, (0,), (1,), (2,), budget=0.01)
        assert (returned.ids, returned.values, returned.unstarted) == ([0], [0], [2])
        assert returned.running is not None
        assert returned.running[0] == 1
        assert run(there, (3,), budget=0.01).unstarted == [0]
        release.set()
        collected = unpack(there.run(collection(1)))
        assert (collected.ids, collected.values, collected.unstarted) == ([1], [10], [])
        assert run(there, (4,)).values == [40]
    finally:
        release.set()
        del sys.modules["__main__"].__dict__["celestialflow_release"]


@pytest.mark.parametrize("budget", [0.0005, 0.001, 0.002, 0.004])
def test_no_call_runs_twice_or_not_at_all_where_a_batch_is_broken_off(budget: float, monkeypatch: Any) -> None:
    """Whenever the batch comes back, what it gives, what is collected and what is handed back are all of it, once."""
    monkeypatch.setattr("celestialflow_core.executors.station.SLACK", 0.0)
    ran: list[int] = []

    def work(number: int) -> int:
        ran.append(number)
        threading.Event().wait(0.0004 * (number % 3))
        return number

    there = Station(b"", None, None, 0)
    there._function = FunctionRef(work)  # not pickled, so that it writes to this very list
    todo = list(range(200))
    done: list[int] = []
    while todo:
        returned = unpack(there.run(parcel(todo, [freeze((number,)) for number in todo], budget)))
        done += returned.ids
        handed_back = list(returned.unstarted)
        if returned.running is not None:
            collected = unpack(there.run(collection(returned.running[0])))
            done += collected.ids
            handed_back = collected.unstarted + handed_back
        todo = handed_back
    assert done == list(range(200))
    assert ran == done
