"""The contract fails executors that break it: each fault below is found by the test that is named for it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest

from celestialflow_core.executors import Call, Result, Work

pytest_plugins = ["pytester"]


class Honest:
    """Inline and minimal, with hooks for faults."""

    capabilities: frozenset[str] = frozenset({"inline"})
    slots = 4
    func: Any = None
    deliver: Any = None

    def start(self, work: Work, deliver: Any) -> None:
        self.func, self.deliver = work.func, deliver

    def submit(self, calls: Sequence[Call]) -> None:
        for call in calls:
            self.deliver([self.run(call)])

    def run(self, call: Call) -> Result:
        begin = perf_counter()
        try:
            return Result(call.id, self.func(*call.args), None, perf_counter() - begin)
        except BaseException as error:
            return Result(call.id, None, error, perf_counter() - begin)

    def stop(self, grace: float) -> None:
        pass


class DeliversTwice(Honest):
    def submit(self, calls: Sequence[Call]) -> None:
        super().submit(calls)
        super().submit(calls)


class LosesOne(Honest):
    def submit(self, calls: Sequence[Call]) -> None:
        super().submit([call for call in calls if call.id != 1])


class SwapsValues(Honest):
    def run(self, call: Call) -> Result:
        result = super().run(call)
        return Result(result.id ^ 1, result.value, result.error, result.seconds)


class KeepsNoTime(Honest):
    def run(self, call: Call) -> Result:
        result = super().run(call)
        return Result(result.id, result.value, result.error)


class LetsSystemExitThrough(Honest):
    def run(self, call: Call) -> Result:
        result = super().run(call)
        if isinstance(result.error, SystemExit):
            raise RuntimeError("the worker is gone")
        return result


class HasNoSlots(Honest):
    slots = 0


class InventsCapabilities(Honest):
    capabilities = frozenset({"inline", "telepathy"})


class LeavesAThread(Honest):
    def start(self, work: Work, deliver: Any) -> None:
        super().start(work, deliver)
        threading.Thread(target=RELEASE.wait, args=(60,), name="left behind", daemon=True).start()


class BlocksInSubmit(Honest):
    capabilities = frozenset()


class FailsBeforeStart(Honest):
    def stop(self, grace: float) -> None:
        self.deliver([])


class IgnoresSetup(Honest):
    capabilities = frozenset({"inline", "setup"})


RELEASE = threading.Event()

FAULTS = {
    DeliversTwice: "test_every_call_is_delivered_exactly_once",
    LosesOne: "test_every_call_is_delivered_exactly_once",
    SwapsValues: "test_every_call_is_delivered_exactly_once",
    KeepsNoTime: "test_every_call_is_delivered_exactly_once",
    LetsSystemExitThrough: "test_failing_call_gets_its_own_error",
    HasNoSlots: "test_executor_declares_slots_and_capabilities",
    InventsCapabilities: "test_executor_declares_slots_and_capabilities",
    LeavesAThread: "test_stop_works_without_calls_and_twice",
    BlocksInSubmit: "test_submit_does_not_wait_for_calls",
    FailsBeforeStart: "test_stop_works_before_start",
    IgnoresSetup: "test_setup_that_fails_ends_the_run",
}


def _run(pytester: pytest.Pytester, name: str, test: str) -> pytest.RunResult:
    pytester.makepyfile(
        f"""
        import importlib.util
        import celestialflow_core.testing._tasks as tasks
        import celestialflow_core.testing.leaks as leaks
        from celestialflow_core.testing import ExecutorContract

        spec = importlib.util.spec_from_file_location("faulty_executors", {str(Path(__file__))!r})
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        tasks.LONGEST_HOLD = 0.2
        leaks.Resources.expect_no_leaks.__defaults__ = (None, 0.5)

        class TestIt(ExecutorContract):
            patience = 0.5

            def make_executor(self):
                return module.{name}()
        """
    )
    return pytester.runpytest_subprocess("-q", "-k", test, "-p", "no:cacheprovider")


@pytest.mark.parametrize(("executor", "test"), FAULTS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_contract_finds_the_fault(pytester: pytest.Pytester, executor: type[Honest], test: str) -> None:
    """The test that is meant to see it fails (in an interpreter of its own: it shortens the contract's patience)."""
    outcomes = _run(pytester, executor.__name__, test).parseoutcomes()
    assert outcomes.get("failed", 0) + outcomes.get("errors", 0) > 0


def test_contract_passes_the_honest_one(pytester: pytest.Pytester) -> None:
    """The same executor without a fault passes everything."""
    outcomes = _run(pytester, "Honest", "test_").parseoutcomes()
    assert set(outcomes) <= {"passed", "skipped"}
    assert outcomes["passed"] > 25


def test_contract_without_a_factory_says_what_is_missing(pytester: pytest.Pytester) -> None:
    """A subclass that forgets make_executor is told."""
    pytester.makepyfile(
        """
        from celestialflow_core.testing import ExecutorContract

        class TestIt(ExecutorContract):
            pass
        """
    )
    result = pytester.runpytest_subprocess("-q", "-k", "declares", "-p", "no:cacheprovider")
    result.stdout.fnmatch_lines(["*TestIt must define make_executor*"])


def test_fixtures_for_authors_find_a_leak(pytester: pytest.Pytester) -> None:
    """no_leaks fails the test that leaves something, and fake_clock stands still."""
    pytester.makepyfile(
        """
        import os
        import celestialflow_core.testing.leaks as leaks

        pytest_plugins = ["celestialflow_core.testing.fixtures"]
        leaks.Resources.expect_no_leaks.__defaults__ = (None, 0.2)

        def test_that_leaks(no_leaks):
            os.open(os.devnull, os.O_RDONLY)

        def test_that_does_not(no_leaks, fake_clock):
            assert fake_clock() == fake_clock()
        """
    )
    result = pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*Left behind: descriptor*/dev/null*"])
