"""What crosses the boundary, and what happens to what cannot."""

from __future__ import annotations

import threading

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from celestialflow_core._call import Spread
from celestialflow_core.errors import NotPicklable, RemoteError, WorkerSetupError
from celestialflow_core.executors.interface import Work
from celestialflow_core.executors.process import ProcessExecutor, leasing, wire
from celestialflow_core.executors.process._parcels import LARGE, Packed, framed_items, plain_items
from celestialflow_core.executors.process._parcels import results as messages
from celestialflow_core.executors.process.pickling import Outgoing, decode

ATOM = st.one_of(
    st.integers(), st.floats(allow_nan=False), st.text(), st.binary(), st.booleans(), st.none(), st.complex_numbers()
)


def _across(args, limit):
    """The arguments as the worker gets them, and the kind of message that they travelled in."""
    packing = leasing.pack(list(map(Spread, args)), Outgoing())
    data = b"".join(packing.buffers)
    kind, count, size = wire._HEADER.unpack(data[:16])
    body = bytearray(data[16:])
    assert size == len(body)
    if kind == wire.FRAMED_LEASE:
        return kind, list(map(decode, framed_items(count, body)))[:limit]
    items, spread = plain_items(count, body)
    return kind, list(items if spread else zip(items, strict=True))[:limit]


@given(st.integers(0, 3).flatmap(lambda n: st.lists(st.tuples(*[ATOM] * n), min_size=1, max_size=20)))
@settings(max_examples=60, deadline=None)
def test_plain_and_framed_leases_carry_the_same(args):
    """The fast path gives the same arguments, with the same types, as a frame for each call does."""
    kind, plain = _across(args, len(args))
    assert kind == wire.PLAIN_LEASE
    kind, framed = _across([*args, ([],)], len(args))
    assert kind == wire.FRAMED_LEASE
    assert repr(plain) == repr(framed) == repr(args)


@given(st.lists(ATOM, min_size=1, max_size=20))
@settings(max_examples=60, deadline=None)
def test_plain_and_framed_results_carry_the_same(values):
    """Results come back the same whether or not one among them needs a frame of its own."""
    ((kind, _, body),) = messages(values)
    assert kind == wire.PLAIN_RESULTS
    head = bytes(8 * len(values))
    _, plain, _ = leasing.results_of(kind, len(values), bytearray(head + b"".join(body)))
    ((kind, _, body),) = messages([*values, Packed(b"x", False)])
    head = bytes(8 * (len(values) + 1))
    _, _, framed = leasing.results_of(kind, len(values) + 1, bytearray(head + b"".join(body)))
    assert repr(plain) == repr([decode(frame) for _, frame in framed[:-1]]) == repr(values)


@pytest.mark.parametrize("large", [bytes(LARGE + 1), Packed(bytes(LARGE + 1), False)], ids=["plain", "framed"])
def test_large_results_travel_alone(large):
    """So that one for which the other side has no memory takes no other with it."""
    assert [count for _, count, _ in messages([1, 2, 3])] == [3]
    assert [count for _, count, _ in messages([1, large, 3])] == [1, 1, 1]
    assert [count for _, count, _ in messages([large])] == [1]


def test_calls_of_a_lease_share_no_object(run):
    """A list that two calls are given is a list of each call's own."""
    shared = [0]

    def job(box):
        box.append(1)
        return box

    assert [result.value for result in run(job, [(shared,)] * 6, workers=1)] == [[0, 1]] * 6


def test_result_is_what_was_returned_at_that_moment(run):
    """A task that returns one growing list is answered with its states, not six times with the last."""

    def job(x, box=[]):  # noqa: B006  # the trap is the point
        box.append(x)
        return box

    results = run(job, range(6), workers=1)
    assert [result.value for result in results] == [list(range(n + 1)) for n in range(6)]


class FailsToLoad:
    """Pickles, but cannot be rebuilt."""

    def __reduce__(self):
        return eval, ("1 / 0",)


@pytest.mark.parametrize("bad", [threading.Lock(), (n for n in ()), FailsToLoad()], ids=["lock", "generator", "load"])
def test_argument_that_cannot_cross_is_the_calls_own_error(run, bad):
    """The error names the argument; the neighbours are untouched."""
    results = run(lambda x, y: x, [(1, 1), (2, bad), (3, 3)])
    assert [result.value for result in results] == [1, None, 3]
    assert isinstance(results[1].error, NotPicklable)
    assert str(results[1].error).startswith("Argument 2 of task (2, ")


def test_result_that_cannot_cross_is_the_calls_own_error(run):
    """A lock, and an object that cannot be rebuilt here; a lambda crosses."""

    def job(x):
        return [threading.Lock(), FailsToLoad(), lambda: 7, x][x]

    results = run(job, range(4))
    assert isinstance(results[0].error, NotPicklable)
    assert str(results[0].error).startswith("The result of task 0 cannot be pickled: TypeError")
    assert isinstance(results[1].error, NotPicklable)
    assert "ZeroDivisionError" in str(results[1].error)
    assert results[2].value() == 7
    assert results[3].value == 3


class TwoArgumentsError(Exception):
    """An exception of the usual kind that pickles but cannot be rebuilt."""

    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")


class HoldsALockError(Exception):
    """An exception that cannot be pickled."""

    def __init__(self, text):
        super().__init__(text)
        self.lock = threading.Lock()


class CannotSayError(Exception):
    """An exception without a text."""

    def __str__(self):
        raise ValueError("no text")


def test_exceptions_survive_or_are_stood_in_for(run):
    """Every kind of raised error comes back as one error, by type where it can, with the worker's traceback."""

    def job(x):
        if x == 0:
            raise TwoArgumentsError(1, 2)
        if x == 1:
            raise HoldsALockError("held")
        if x == 2:
            raise CannotSayError
        if x == 3:
            raise KeyError("missing")
        error = RuntimeError("first")
        for n in range(3000):
            error = _from(RuntimeError(n), error)
        raise error

    def _from(error, cause):
        error.__cause__ = cause
        return error

    results = run(job, range(5))
    assert isinstance(results[0].error, RemoteError)
    assert results[0].error.type_name.endswith("TwoArgumentsError")
    assert results[0].error.text == "1 and 2"
    assert isinstance(results[1].error, RemoteError)
    assert results[1].error.text == "held"
    assert type(results[2].error).__name__ == "CannotSayError"
    assert type(results[3].error) is KeyError
    assert type(results[4].error) is RuntimeError
    for result in results:
        assert "Traceback (most recent call last)" in result.traceback
        assert len(result.traceback.encode()) <= 32 * 1024


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, RecursionError])
def test_base_exceptions_are_the_calls_own(run, kind):
    """Nothing that a task raises ends its worker."""

    def job(x):
        if x == 1:
            raise kind("on purpose")
        return x

    results = run(job, range(3), workers=1)
    assert [type(result.error) for result in results] == [type(None), kind, type(None)]


def test_large_argument_and_result(run):
    """20 MB there and back."""
    data = bytes(range(256)) * 80_000
    results = run(lambda x: x[::-1], [data, [data]])
    assert results[0].value == data[::-1]
    assert results[1].value == [data]


def test_function_that_cannot_be_pickled_is_refused_by_start():
    """The caller learns it before anything starts, with the function's name."""
    lock = threading.Lock()

    def guarded(x):
        with lock:
            return x

    with pytest.raises(NotPicklable, match=r"The function .*guarded cannot be pickled"):
        ProcessExecutor(1).start(Work(guarded), lambda delivery: None)


def test_function_of_a_module_that_workers_cannot_import(bench, tmp_path, monkeypatch):
    """A module made at run time ends the run with its name; one whose folder has left the path goes by value."""
    import importlib
    import sys
    import types

    made = types.ModuleType("made_at_run_time")
    exec("def job(x): return x", made.__dict__)
    monkeypatch.setitem(sys.modules, "made_at_run_time", made)
    one = bench(made.job)
    one.submit([1])
    assert one.finish() == []
    assert isinstance(one.fatal, WorkerSetupError)
    assert "cannot import 'made_at_run_time'" in str(one.fatal)

    (tmp_path / "left_the_path.py").write_text(
        "class Odd(Exception): pass\nclass Pair:\n    def __init__(self, x): self.x = x\n"
        "def job(pair):\n    if pair.x == 1: raise Odd(pair.x)\n    return Pair(pair.x + 1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    gone = importlib.import_module("left_the_path")
    monkeypatch.undo()
    one = bench(gone.job)
    one.submit([gone.Pair(0), gone.Pair(1)])
    results = one.finish()
    assert one.fatal is None
    assert type(results[0].value) is gone.Pair
    assert type(results[1].error) is gone.Odd
    del sys.modules["left_the_path"]
