"""Executors that do not keep to their interface: the run ends, says whose fault that is, and its account is right."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from loguru import logger

from celestialflow_core import ExecutorError, TaskManager
from celestialflow_core.executors import Call, Result, Work
from celestialflow_core.executors.interface import Deliver

Answer = Callable[[Call], Any]


class Faulty:
    """Answers in ``submit`` what *answer* makes of each call."""

    capabilities: Any = frozenset[str]()

    def __init__(self, answer: Answer | None = None, slots: Any = 4) -> None:
        self.slots = slots
        self._answer = answer or (lambda call: [Result(call.id, 0)])

    def start(self, work: Work, deliver: Deliver) -> None:
        """Keep where to deliver."""
        self._deliver = deliver

    def submit(self, calls: Sequence[Call]) -> None:
        """Answer each call at once."""
        for call in calls:
            self._deliver(self._answer(call))

    def stop(self, grace: float) -> None:
        """Nothing is left."""


def blamed(executor: Faulty) -> str:
    """What a run over *executor* raises; all that was taken is accounted for."""
    manager = TaskManager(len, executor, log_dir=None)
    with pytest.raises(ExecutorError) as caught:
        manager.start(["a", "b", "c"])
    counts = manager.counts
    assert counts.taken == counts.succeeded + counts.failed + counts.cancelled
    assert not counts.running
    assert caught.value.executor == "Faulty"
    return str(caught.value)


@pytest.fixture
def warnings_logged() -> Iterator[list[str]]:
    """The texts of the warnings that are logged meanwhile."""
    texts: list[str] = []
    number = logger.add(texts.append, level="WARNING", format="{message}")
    yield texts
    logger.remove(number)


@pytest.mark.parametrize("result", [Result(4711), Result(-5), Result(4711, error=ValueError()), Result("0")])  # type: ignore[arg-type]  # an id is no text
@pytest.mark.parametrize("override", [False, True])
def test_result_of_a_call_that_never_was_is_told_once(
    result: Result, override: bool, warnings_logged: list[str]
) -> None:
    """It is dropped; but where it was meant for a call, only this says why the run waits for ever."""

    class Sub(TaskManager[Any, Any]):
        def process_result(self, task: Any, result: Any) -> Any:
            return result

    kind: Any = Sub if override else TaskManager
    executor = Faulty(lambda call: [result, Result(call.id, 0)])
    assert kind(len, executor, log_dir=None).start(["a", "b", "c"]).succeeded == 3
    (said,) = warnings_logged
    assert f"The executor 'Faulty' is at fault: it delivered a result with the id {result.id!r}, which no call" in said


def test_end_without_a_reason_ends_the_run() -> None:
    """The id -1 speaks for the executor, also where it does not say what is wrong."""
    assert "without the error that says why" in blamed(Faulty(lambda _: [Result(-1)]))


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (lambda call: Result(call.id, 0), "delivered Result(id="),
        (lambda call: None, "It delivered None; it has to deliver a sequence"),
        (lambda call: [(call.id, 0)], "It delivered (0, 0), which is no Result."),
        (lambda call: [Result([call.id], 0)], "whose 'id' is [0]"),
        (lambda call: [Result(call.id, 0, seconds="fast")], "whose 'seconds' is 'fast'"),
        (lambda call: [Result(call.id, error="it failed")], "whose 'error' is 'it failed'"),
        (lambda call: [Result(call.id, error=ValueError)], "whose 'error' is <class 'ValueError'>"),
        (lambda call: [Result(call.id, error=KeyError(), traceback=KeyError())], "whose 'traceback' is KeyError()"),
        (lambda call: [Result(call.id, 0, seconds=0.1, reruns="none")], "whose 'reruns' is 'none'"),
    ],
)
def test_what_is_no_delivery_is_named(answer: Answer, text: str) -> None:
    """And not by an AttributeError out of the middle of the driver."""
    assert text in blamed(Faulty(answer))


def test_what_was_delivered_before_a_fault_counts() -> None:
    """Of one delivery, too."""
    manager = TaskManager(
        len, Faulty(lambda call: [Result(call.id, 7), None]), 1, enable_success_cache=True, log_dir=None
    )
    with pytest.raises(ExecutorError, match="delivered None, which is no Result"):
        manager.start(["a"])
    assert manager.get_success_dict() == {"a": 7}


@pytest.mark.parametrize("slots", [0, -3])
def test_executor_that_never_wants_a_call_ends_the_run(slots: int) -> None:
    """Nothing could ever change that."""
    assert f"Its slots are {slots} while it has no call" in blamed(Faulty(slots=slots))


@pytest.mark.parametrize("slots", [2.5, "4", None])
def test_slots_that_are_no_number_of_calls_end_the_run(slots: Any) -> None:
    """With what they are."""
    assert f"Its slots are {slots!r}; they have to be an int" in blamed(Faulty(slots=slots))
