"""The scripted executor: every run over it takes the same course."""

from __future__ import annotations

import subprocess
import sys

import pytest

from celestialflow_core.executors import Call, Executor, Work
from celestialflow_core.testing import ExecutorContract, ScriptedExecutor
from celestialflow_core.testing._bench import Bench

pytestmark = pytest.mark.pure


class TestScriptedContract(ExecutorContract):
    """The fake is an executor like any other."""

    def make_executor(self) -> Executor:
        """One without a script: it runs the function."""
        return ScriptedExecutor()


def test_order_decides_which_waiting_call_is_next() -> None:
    """First, last, or as a function says."""
    cases = [
        (ScriptedExecutor(order="first"), [0, 1, 2]),
        (ScriptedExecutor(order="last"), [2, 1, 0]),
        (ScriptedExecutor(order=lambda calls: len(calls) // 2), [1, 2, 0]),
    ]
    for executor, expected in cases:
        bench = Bench(executor, 10.0).start(abs)
        bench.submit([Call(id, (-id,)) for id in range(3)])
        bench.wait_for_all()
        assert [result.id for result in bench.results] == expected


def test_failures_are_given_for_each_attempt() -> None:
    """An error for all attempts, or one for each; then the function, or the scripted answer."""
    always, once = ValueError("always"), ConnectionError("once")
    bench = Bench(ScriptedExecutor(answers={2: "two"}, failures={1: always, 2: [once, None]}), 10.0).start(abs)
    bench.feed([(1,), (2,), (1,), (2,), (2,), (-3,), ([],)])
    results = bench.by_id()
    assert [results[id].error for id in range(6)] == [always, once, always, None, None, None]
    assert [results[id].value for id in (3, 4, 5)] == ["two", "two", 3]
    assert isinstance(results[6].error, TypeError)


def test_burst_is_answered_at_each_submit() -> None:
    """So many calls, and no more, settle before the driver has the word again."""
    executor = ScriptedExecutor(burst=2)
    bench = Bench(executor, 10.0).start(abs)
    bench.submit([Call(id, (id,)) for id in range(5)])
    assert [call.id for call in executor.waiting] == [2, 3, 4]
    bench.stop()
    assert executor.waiting == []


def test_log_tells_what_happened() -> None:
    """Start, submissions, deliveries and the end, in order."""
    executor = ScriptedExecutor(capabilities=["timeout"])
    work = Work(abs)
    executor.start(work, lambda _: None)
    executor.submit([Call(7, (1,))])
    executor.submit(())
    executor.stop(1.5)
    assert executor.log == [("start", work), ("submit", [7]), ("deliver", 7), ("stop", 1.5)]
    assert executor.capabilities == {"timeout", "inline"}


def test_fakes_do_not_need_pytest() -> None:
    """Fakes and clock can be used where pytest is not installed."""
    code = (
        "import sys; sys.modules['pytest'] = None\n"
        "from celestialflow_core.testing import FakeClock, Resources, ScriptedExecutor, wait_until"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
