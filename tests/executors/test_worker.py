"""The worker stub: frames one by one, errors in words, and it travels alone."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from pathlib import Path

import cloudpickle
import pytest

from celestialflow_core.executors import worker
from celestialflow_core.executors._packing import pack_error
from celestialflow_core.executors.tracebacks import TEXT_LIMIT, safe_text, traceback_text
from celestialflow_core.executors.worker import FunctionRef, Returned, Shipment, run_batch

pytestmark = pytest.mark.pure


def over_there(function: FunctionRef, calls: Shipment, budget: float = 60.0) -> Returned:
    """A round trip through pickle, as a pool of processes makes it."""
    there = pickle.loads(pickle.dumps((function, calls)))
    back: Returned = pickle.loads(pickle.dumps(run_batch(there[0], there[1], budget)))
    back.unpack()
    return back


def test_shipment_is_not_copied_in_one_process() -> None:
    """Without pickling, the worker sees the very arguments and gives the very values."""
    thing = threading.Lock()
    returned = run_batch(FunctionRef(lambda value: value), Shipment([7], [(thing,)]))
    assert returned.ids == [7]
    assert returned.values[0] is thing


def test_round_trip_brings_values_and_durations() -> None:
    """Plain values and framed ones keep their places."""
    calls = Shipment([3, 4, 5], [(1,), ([1, 2],), ("x",)])
    returned = over_there(FunctionRef(lambda value: value), calls)
    assert (returned.ids, returned.values) == ([3, 4, 5], [1, [1, 2], "x"])
    assert all(seconds >= 0 for seconds in returned.seconds)
    assert returned.failures == []


def test_parcel_can_be_sent_on() -> None:
    """What has arrived as frames can be pickled again, by a scheduler between the two."""
    calls = pickle.loads(pickle.dumps(Shipment([1, 2], [([1],), (threading.Lock(),)])))
    function = pickle.loads(pickle.dumps(FunctionRef(len)))
    first = pickle.loads(pickle.dumps(run_batch(*pickle.loads(pickle.dumps((function, calls))))))
    returned = pickle.loads(pickle.dumps(first))
    returned.unpack()
    assert (returned.ids, returned.values) == ([1], [1])
    assert [failure[:1] + failure[2:3] for failure in returned.failures] == [(2, worker.ARGUMENT_DUMP)]


def test_function_is_unpickled_once_a_process() -> None:
    """Two references with one digest give one object."""
    blob = pickle.dumps(FunctionRef(lambda: None))
    assert pickle.loads(blob).resolve() is pickle.loads(blob).resolve()


def test_few_functions_are_kept() -> None:
    """The memory of functions is bounded."""
    for number in range(2 * worker.FUNCTIONS_KEPT):
        pickle.loads(pickle.dumps(FunctionRef(lambda number=number: number))).resolve()
    assert len(worker._functions()) == worker.FUNCTIONS_KEPT


def test_batch_over_budget_hands_back_the_rest() -> None:
    """At least one call runs; those behind it are named."""
    returned = run_batch(FunctionRef(abs), Shipment([1, 2, 3], [(-1,), (-2,), (-3,)]), budget=0.0)
    assert (returned.ids, returned.unstarted) == ([1], [2, 3])


def test_unpicklable_function_is_a_problem_of_the_batch() -> None:
    """Pickling the reference does not raise; the worker says why nothing was run."""
    lock = threading.Lock()
    returned = over_there(FunctionRef(lambda: lock), Shipment([1], [()]))
    assert returned.problem is not None
    assert returned.problem[0] == "pickling"
    assert returned.ids == []


def test_stub_is_the_standard_library_and_cloudpickle_alone() -> None:
    """A worker that imports the stub by name loads nothing else of ours, and none of our dependencies."""
    code = (
        "import sys, celestialflow_core.executors.worker;"
        "print(sorted(n for n in sys.modules if n.startswith(('celestialflow', 'attr', 'pluggy', 'loguru', 'tqdm'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    ours = {name for name in eval(done.stdout) if name.startswith("celestialflow")}
    assert ours == {
        "celestialflow_core",
        "celestialflow_core.executors",
        "celestialflow_core.executors._packing",
        "celestialflow_core.executors.tracebacks",
        "celestialflow_core.executors.worker",
    }
    assert set(eval(done.stdout)) == ours


def test_stub_can_be_shipped_by_value(tmp_path: Path) -> None:
    """An interpreter that has cloudpickle and nothing of ours runs a batch."""
    code = f"""
import cloudpickle, sys
from celestialflow_core.executors import worker
worker.ship_by_value()
def task(value):
    if value == 3: raise ValueError("three")
    return [value]
parcel = (worker.run_batch, worker.FunctionRef(task), worker.Shipment([1, 2, 3], [(1,), ([],), (3,)]))
open({str(tmp_path / "parcel")!r}, "wb").write(cloudpickle.dumps(parcel))
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    code = f"""
import sys
sys.path = [entry for entry in sys.path if not entry.endswith("src")]
sys.modules["celestialflow_core"] = None
import pickle, cloudpickle
for _ in range(2):
    run_batch, function, calls = pickle.loads(open({str(tmp_path / "parcel")!r}, "rb").read())
    returned = run_batch(function, calls)
    returned = pickle.loads(cloudpickle.dumps(returned))
    returned.unpack()
    id, seconds, kind, (frame, name, text, reason, traceback) = returned.failures[0]
    assert (returned.ids, returned.values, id, text) == ([1, 2], [[1], [[]]], 3, "three"), returned.values
    assert "in task" in traceback
assert len(sys.modules["_celestialflow_functions"].functions) == 1
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


class Silent(Exception):
    """Has no text."""

    def __str__(self) -> str:
        raise RuntimeError


def _raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


def test_error_text_shows_where_and_why() -> None:
    """Frames, type, text and notes; the cause comes first."""
    error = _raised(ValueError("late"))
    error.__cause__ = _raised(KeyError("early"))
    error.add_note("a note")
    text = traceback_text(error)
    assert text.index("KeyError: 'early'") < text.index("direct cause") < text.index("ValueError: late\na note")
    assert "in _raised" in text


@pytest.mark.parametrize("length", [2, 3000])
def test_error_text_is_bounded_for_chains(length: int) -> None:
    """A cycle and a long chain of causes end."""
    errors = [ValueError(f"number {number}") for number in range(length)]
    for one, other in zip(errors, errors[1:] + errors[:1], strict=True):
        one.__cause__ = other
    text = traceback_text(errors[0])
    assert len(text) <= TEXT_LIMIT
    assert "ValueError: number 0" in text


def _deep(levels: int) -> None:
    if levels:
        _deep(levels - 1)
    raise ValueError("deep")


def test_error_text_is_bounded_for_frames_and_characters() -> None:
    """A thousand frames and a message of five megabytes fit, with both ends."""
    with pytest.raises(ValueError, match="deep") as caught:
        _deep(800)
    text = traceback_text(caught.value)
    assert text.count("in _deep") < 100
    assert "frames are left out)" in text
    text = traceback_text(_raised(ValueError("x" * 5_000_000 + "end")))
    assert len(text) <= TEXT_LIMIT
    assert text.startswith("Traceback")
    assert text.endswith("end\n")


def test_error_text_names_what_is_in_a_group() -> None:
    """Each part of a group has its lines."""
    text = traceback_text(ExceptionGroup("several", [ValueError("one"), _raised(KeyError("two"))]))
    assert "ValueError: one" in text
    assert "KeyError: 'two'" in text


def test_text_that_cannot_be_made_is_replaced() -> None:
    """A __str__ that raises is named, and raises nothing."""
    assert "whose str() raises RuntimeError" in safe_text(Silent())
    assert "whose str() raises RuntimeError" in traceback_text(_raised(Silent()))


def test_packed_error_survives_or_says_why() -> None:
    """An exception that comes back as it was is sent as a frame; any other by its name, its text and the reason."""
    frame, name, text, reason = pack_error(ValueError("fine"))
    assert frame is not None
    assert isinstance(cloudpickle.loads(frame), ValueError)
    assert (name, text, reason) == ("ValueError", "fine", "")
    frame, name, text, reason = pack_error(ValueError(threading.Lock()))
    assert (frame, name) == (None, "ValueError")
    assert "lock" in text
    assert "lock" in reason
