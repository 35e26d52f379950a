"""The contract fails executors that break it: each fault below is found by the test that is named for it."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import textwrap
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest

from celestialflow_core.errors import TaskTimeout, WorkerCrashed, WorkerSetupError
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


class ChangesAnError(Honest):
    def run(self, call: Call) -> Result:
        result = super().run(call)
        return result if type(result.error) is not ZeroDivisionError else Result(call.id, None, ArithmeticError(), 0.0)


class PicklesABatch(Honest):
    def submit(self, calls: Sequence[Call]) -> None:
        try:
            pickle.dumps([call.args for call in calls])
        except BaseException as error:
            self.deliver([Result(call.id, None, error, 0.0) for call in calls])
        else:
            super().submit(calls)


class PicklesResults(Honest):
    def run(self, call: Call) -> Result:
        result = super().run(call)
        pickle.loads(pickle.dumps(result.value))
        return result


class KeepsOnlyShortResults(Honest):
    def run(self, call: Call) -> Result:
        result = super().run(call)
        value = result.value[:1_000_000] if isinstance(result.value, bytes) else result.value
        return Result(call.id, value, result.error, result.seconds)


class StartsOnce(Honest):
    def start(self, work: Work, deliver: Any) -> None:
        if self.func is None:
            super().start(work, deliver)


class StopsLate(Honest):
    """On a thread that a stop without grace leaves to itself, and that goes on to deliver."""

    capabilities = frozenset()
    slots = 4

    def submit(self, calls: Sequence[Call]) -> None:
        threading.Thread(target=super().submit, args=(calls,), daemon=True).start()


class CountsFromSubmit(Honest):
    """A batch has one limit, from its arrival; and nothing is ended."""

    capabilities = frozenset({"inline", "timeout"})

    def start(self, work: Work, deliver: Any) -> None:
        super().start(work, deliver)
        self.timeout = work.timeout

    def submit(self, calls: Sequence[Call]) -> None:
        begin = perf_counter()
        for call in calls:
            result = self.run(call)
            late = perf_counter() - begin > (self.timeout or 1e9)
            error = TaskTimeout("somebody", self.timeout or 0.0) if late else result.error
            self.deliver([Result(call.id, None if late else result.value, error, result.seconds)])


class WantsAnException(Honest):
    capabilities = frozenset({"inline", "setup"})

    def start(self, work: Work, deliver: Any) -> None:
        super().start(work, deliver)
        try:
            state = work.setup() if work.setup else None
            next(state) if hasattr(state, "send") else None
        except Exception as error:
            raise WorkerSetupError(f"{type(error).__name__}: no worker") from error


class WaitsOutTheGrace(Honest):
    capabilities = frozenset({"timeout"})

    def submit(self, calls: Sequence[Call]) -> None:
        self.threads = [threading.Thread(target=super().submit, args=(calls,), daemon=True)]
        self.threads[0].start()

    def stop(self, grace: float) -> None:
        for thread in getattr(self, "threads", ()):
            thread.join(min(grace, 2.0) or 2.0)


class DiesWithItsCall(Honest):
    """Says that its calls run apart, and charges them all when one dies."""

    def submit(self, calls: Sequence[Call]) -> None:
        if any("exit" in call.args or "SIGKILL" in call.args or "SIGSEGV" in call.args for call in calls):
            self.deliver([Result(call.id, None, WorkerCrashed(None), 0.0) for call in calls])
        else:
            super().submit(calls)


class RunsInThisProcess(Honest):
    """Says that its calls run apart, and runs them here."""


RELEASE = threading.Event()

APART = {"DiesWithItsCall", "RunsInThisProcess"}
PATIENCE = {"CountsFromSubmit": 20.0, "WaitsOutTheGrace": 4.0}

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
    ChangesAnError: "test_every_builtin_exception_is_the_error_of_its_call",
    PicklesABatch: "test_hostile_arguments_cost_at_most_their_calls",
    PicklesResults: "test_hostile_results_cost_at_most_their_calls",
    KeepsOnlyShortResults: "test_large_results_arrive_whole",
    StartsOnce: "test_started_again_after_a_stop_it_works",
    StopsLate: "test_stop_that_races_with_results_delivers_each_at_most_once",
    CountsFromSubmit: "test_limit_counts_from_the_start_of_a_call",
    WantsAnException: "test_setup_that_fails_in_any_way_ends_the_run",
    WaitsOutTheGrace: "test_second_stop_shortens_the_grace_of_the_first",
    DiesWithItsCall: "test_call_that_ends_its_process_is_charged_alone",
    RunsInThisProcess: "test_call_changes_nothing_outside_of_its_process",
}


HONEST = (Honest, "test_")


def _judge(folder: Path, executor: type[Honest], test: str) -> list[str]:
    """What pytest prints of the contract for *executor*, in an interpreter of its own: patience is shortened there."""
    name = executor.__name__
    script = folder / f"test_{name}.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import importlib.util
            import celestialflow_core.testing._tasks as tasks
            import celestialflow_core.testing.leaks as leaks
            from celestialflow_core.testing import ExecutorContract

            spec = importlib.util.spec_from_file_location("faulty_executors", {str(Path(__file__))!r})
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            tasks.LONGEST_HOLD = {3.0 if name == "WaitsOutTheGrace" else 0.2}
            leaks.Resources.expect_no_leaks.__defaults__ = (None, 0.5)

            class TestIt(ExecutorContract):
                patience = {PATIENCE.get(name, 0.5)}
                isolated = {name in APART}

                def make_executor(self):
                    return module.{name}()
            """
        )
    )
    command = [sys.executable, "-m", "pytest", "-q", "-k", test, "-p", "no:cacheprovider", script.name]
    # In CI pytest cuts nothing of what it shows; without its plugins it starts in half the time.
    environ = {**os.environ, "CI": "true", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        [*command, f"--basetemp={folder / name}"],
        cwd=folder,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=200,
        check=False,
    )
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def verdicts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[type[Honest], list[str]]:
    """What the contract says of each executor that a chosen test asks for: some at a time, since most of them wait."""
    chosen = [getattr(item, "callspec", None) for item in request.session.items if item.path == request.path]
    asked = {call.params["executor"] for call in chosen if call is not None}
    folder = tmp_path_factory.mktemp("contract")
    pairs = [pair for pair in [*FAULTS.items(), HONEST] if pair[0] in asked]
    with ThreadPoolExecutor(8) as pool:
        outputs = pool.map(lambda pair: _judge(folder, *pair), pairs)
        return dict(zip((executor for executor, _ in pairs), outputs, strict=True))


@pytest.mark.parametrize("executor", FAULTS)
def test_contract_finds_the_fault(verdicts: dict[type[Honest], list[str]], executor: type[Honest]) -> None:
    """The test that is meant to see it fails, and says so in a few lines."""
    output = verdicts[executor]
    outcomes = pytest.RunResult.parse_summary_nouns(output)
    assert outcomes.get("failed", 0) + outcomes.get("errors", 0) > 0
    assert sum(map(len, output)) < 200_000


@pytest.mark.parametrize("executor", [Honest])
def test_contract_passes_the_honest_one(verdicts: dict[type[Honest], list[str]], executor: type[Honest]) -> None:
    """The same executor without a fault passes everything."""
    outcomes = pytest.RunResult.parse_summary_nouns(verdicts[executor])
    assert set(outcomes) <= {"passed", "skipped"}
    assert outcomes["passed"] > 30


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
