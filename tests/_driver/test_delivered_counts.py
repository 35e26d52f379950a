"""What an executor has delivered counts, whatever interrupts the driver while it takes it in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from celestialflow_core import TaskManager, hookimpl
from celestialflow_core.executors import Call, Result, Successes, Work

pytestmark = pytest.mark.pure


class AllAtOnce:
    """Answers every call of a batch in one delivery."""

    slots = 10
    capabilities = frozenset({"inline"})

    def __init__(self, columns: bool) -> None:
        self.columns = columns

    def start(self, work: Work, deliver: Any) -> None:
        """Keep it."""
        self.deliver = deliver

    def submit(self, calls: Sequence[Call]) -> None:
        """Answer."""
        ids, values = [call.id for call in calls], [call.args[0] for call in calls]
        if not ids:
            return
        if self.columns:
            self.deliver(Successes(ids, values, [0.0] * len(ids), [0] * len(ids)))
        else:
            self.deliver([Result(id, value) for id, value in zip(ids, values, strict=True)])

    def stop(self, grace: float) -> None:
        """Nothing is left."""


@pytest.mark.parametrize("columns", [True, False], ids=["columns", "results"])
@pytest.mark.parametrize("at", range(10))
def test_rest_of_an_interrupted_batch_is_settled(at: int, columns: bool) -> None:
    """Ctrl-C in process_result of one task: that one is cancelled, its nine neighbours are in the dict."""

    class Impatient:
        @hookimpl
        def process_result(self, task: int, result: int) -> int:
            if task == at:
                raise KeyboardInterrupt
            return result

    manager: TaskManager[int, int] = TaskManager(
        abs, AllAtOnce(columns), plugins=[Impatient()], enable_success_cache=True, log_dir=None, log_level="ERROR"
    )
    with pytest.raises(KeyboardInterrupt):
        manager.start(list(range(10)))
    assert sorted(manager.success_dict) == [task for task in range(10) if task != at]
    summary = manager.summary
    assert summary is not None
    assert (summary.total, summary.succeeded, summary.cancelled) == (10, 9, 1)


@pytest.mark.parametrize("hook", ["on_success", "on_error", "on_retry"])
def test_interrupt_in_a_hook_loses_nothing(hook: str) -> None:
    """The tasks that were taken are all in the account, and so are the outcomes that were delivered with them."""
    told: list[int] = []

    def impatient() -> None:
        told.append(1)
        if len(told) == 2:
            raise KeyboardInterrupt

    def job(task: int) -> int:
        raise TimeoutError

    plugin = type("Plugin", (), {hook: staticmethod(hookimpl(impatient))})()
    executor: Any = AllAtOnce(False) if hook == "on_success" else None
    manager: TaskManager[int, int] = TaskManager(
        abs if executor else job, executor, max_retries=1, plugins=[plugin], log_dir=None, log_level="ERROR"
    )
    with pytest.raises(KeyboardInterrupt):
        manager.start(list(range(10)))
    summary = manager.summary
    assert summary is not None
    assert summary.total == summary.succeeded + summary.failed + summary.cancelled
    if executor:
        assert summary.succeeded == 10


def test_result_that_comes_twice_in_one_batch_counts_once() -> None:
    """The first one counts, and process_result is asked once."""

    class Twice(AllAtOnce):
        def submit(self, calls: Sequence[Call]) -> None:
            for call in calls:
                self.deliver([Result(call.id, "first"), Result(call.id, "second")])

    asked: list[Any] = []

    class Plugin:
        @hookimpl
        def process_result(self, result: Any) -> Any:
            asked.append(result)
            return result

    for plugins in ([], [Plugin()]):
        manager: TaskManager[int, str] = TaskManager(
            str, Twice(True), plugins=plugins, enable_success_cache=True, log_dir=None, log_level="ERROR"
        )
        assert manager.start([1, 2]).succeeded == 2
        assert manager.success_dict == {1: "first", 2: "first"}
    assert asked == ["first", "first"]


def test_second_delivery_does_not_replace_the_one_that_ctrl_c_has_cost() -> None:
    """process_result is interrupted at the first delivery of a call; the second, with another value, is no stand-in."""

    class Stuttering:
        slots = 4
        capabilities: frozenset[str] = frozenset()

        def start(self, work: Any, deliver: Any) -> None:
            self.deliver = deliver

        def submit(self, calls: Any) -> None:
            results = [Result(call.id, "first", None, 0.0, 0) for call in calls]
            if results:
                self.deliver([*results, Result(results[0].id, "second", None, 0.0, 0)])
                self.deliver([Result(results[0].id, "third", None, 0.0, 0)])

        def stop(self, grace: float) -> None:
            """There is nothing to stop."""

    class Interrupting:
        asked = 0

        @hookimpl
        def process_result(self, result: str) -> str:
            self.asked += 1
            if self.asked == 1:
                raise KeyboardInterrupt
            return result

    manager: TaskManager[int, Any] = TaskManager(
        abs, Stuttering(), plugins=[Interrupting()], enable_success_cache=True, log_dir=None
    )
    with pytest.raises(KeyboardInterrupt):
        manager.start([1, 2, 3])
    assert manager.success_dict == {2: "first", 3: "first"}
    assert (manager.counts.succeeded, manager.counts.cancelled) == (2, 1)
