"""The staged schedule: a manager begins when all before it have ended."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

import pytest

from celestialflow_core import Backoff, TaskManager, hookimpl


class Recorder:
    """Notes in which order the tasks of several managers began and ended."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self._chance = random.Random(7)

    def work(self, name: str, value: Any = None) -> Any:
        """A function of a task that takes some random time, and gives *value*, or the task."""

        def func(task: Any) -> Any:
            self.events.append((name, "begin"))
            time.sleep(self._chance.random() / 300)
            self.events.append((name, "end"))
            return task if value is None else value(task)

        return func

    def spans(self) -> dict[str, tuple[int, int]]:
        """When the first task of each manager began, and the last one ended."""
        found: dict[str, tuple[int, int]] = {}
        for at, (name, _) in enumerate(self.events):
            found[name] = (found.get(name, (at, at))[0], at)
        return found


@pytest.mark.parametrize("how", ["start", "stream"])
@pytest.mark.parametrize("modes", [("thread",) * 4, (None, "thread", None, "thread")])
def test_staged_manager_begins_when_all_before_it_have_ended(make: Any, graph: Any, modes: Any, how: str) -> None:
    """A diamond with an exploded edge and a source in the middle."""
    seen = Recorder()
    a, b, c, d = (
        make(seen.work(name, (lambda task: [task, task + 100]) if name == "a" else None), mode, name=name)
        for name, mode in zip("abcd", modes, strict=True)
    )
    flow = graph(schedule="staged").connect(a, [b, c], each=True).connect(b, d).connect(c, d)
    sources = {d: range(-5, 0), c: range(-9, -5), a: range(20)}
    if how == "start":
        flow.start(sources)
    else:
        assert len(list(flow.stream(sources))) == 89
    spans = seen.spans()
    assert spans["a"][1] < min(spans["b"][0], spans["c"][0])
    assert max(spans["b"][1], spans["c"][1]) < spans["d"][0]
    assert flow.summary.stages[3].succeeded == 5 + 4 + 40


def test_streaming_manager_begins_before_that(make: Any, graph: Any) -> None:
    """The default: the first result is a task of the next manager while the first manager still runs."""
    seen = threading.Event()
    a = make(lambda task: seen.wait(30) if task else True, "thread", 1, name="a", enable_duplicate_check=False)
    b = make(lambda task: seen.set(), "thread", 1, name="b", enable_duplicate_check=False)
    assert graph().connect(a, b).start({a: [0, 1]}).succeeded == 4
    assert seen.is_set()
    assert a.success_dict == {0: True, 1: True}


def test_staged_gather_begins_when_what_it_gathers_has_ended(make: Any, graph: Any) -> None:
    """Whatever lies between: the whole of what comes of the gathered manager."""
    seen = Recorder()
    a = make(seen.work("a", lambda task: [task, task + 50]), "thread", 2, name="a")
    b, c = make(seen.work("b"), "thread", 2, name="b"), make(seen.work("c"), "thread", 2, name="c")
    d = make(seen.work("d", lambda family: len(family.leaves)), "thread", 2, name="d")
    flow = graph(schedule="staged").connect(a, d, gather=True).connect(a, b, each=True).connect(b, c)
    flow.start({a: range(10)})
    spans = seen.spans()
    assert spans["a"][1] < spans["b"][0] < spans["b"][1] < spans["c"][0] < spans["c"][1] < spans["d"][0]
    assert set(d.success_dict.values()) == {2}


def test_staged_cycle_is_one_stage(make: Any, graph: Any) -> None:
    """Its managers run together, and what follows them waits for all of it."""
    seen = Recorder()
    a, b = make(seen.work("a"), name="a"), make(seen.work("b", lambda task: task - 1), "thread", 2, name="b")
    c = make(seen.work("c"), "thread", 2, name="c")
    flow = graph(schedule="staged").connect(a, b).connect(b, b, when=lambda value: value > 0).connect(b, c)
    flow.start({a: [20, 10]})
    spans = seen.spans()
    assert spans["a"][1] < spans["b"][0] < spans["b"][1] < spans["c"][0]
    assert flow.summary.stages[2].total == flow.summary.stages[1].succeeded


def test_staged_retries_and_failures_belong_to_their_stage(make: Any, graph: Any) -> None:
    """A manager has not ended while a retry of it is due; what fails along the error edge waits like any other."""
    seen = Recorder()
    tried: set[int] = set()

    def shaky(task: int) -> int:
        seen.events.append(("a", "begin"))
        if task not in tried:
            tried.add(task)
            raise TimeoutError(task)
        if task % 2:
            raise ValueError(task)
        return task

    a = make(shaky, "thread", 2, name="a", backoff=Backoff(initial=0.05, jitter=0))
    b, c = make(seen.work("b"), name="b"), make(seen.work("c"), name="c")
    summary = graph(schedule="staged").connect(a, b).connect(a, c, on="error").start({a: range(6)})
    spans = seen.spans()
    assert spans["a"][1] < min(spans["b"][0], spans["c"][0])
    assert [stage.succeeded for stage in summary.stages] == [3, 3, 3]
    assert summary.retries == 6


def test_staged_source_of_a_later_manager_is_not_pulled_before(make: Any, graph: Any) -> None:
    """Its iterable is read when the manager begins."""
    ended = []

    def source() -> Any:
        ended.append(a.counts.succeeded)
        yield 1

    a, b = make(abs, name="a"), make(abs, name="b")
    graph(schedule="staged").connect(a, b).start({b: source(), a: range(3000)})
    assert ended == [3000]


def test_staged_graph_ends_early_in_order(make: Any, graph: Any) -> None:
    """Closed while the first manager runs: nothing of the second has begun, and everything has an outcome."""
    a, b = make(abs, "thread", 2, name="a"), make(abs, "thread", 2, name="b")
    flow = graph(schedule="staged").connect(a, b)
    with flow.stream({a: range(50_000), b: range(10)}):
        pass
    summary = flow.summary
    assert summary.stages[1].succeeded == summary.stages[1].failed == 0
    assert summary.total == summary.succeeded + summary.cancelled + summary.duplicates


def test_max_in_flight_of_a_staged_graph_is_refused(graph: Any) -> None:
    """All results between two managers are kept, so there is no limit to keep."""
    with pytest.raises(ValueError, match='schedule="staged" keeps every result between two managers'):
        graph(schedule="staged", max_in_flight=100)


# -------------------------------------------------------------------- retries and hooks, stage by stage


class Example(TaskManager[Any, Any]):
    """The class of the seed document."""

    def get_args(self, task: Any) -> Any:
        """Checks the numbers."""
        num1, num2 = task
        if num1 < 0 or num2 < 0:
            raise ValueError("num must large than 0.")
        return num1, num2

    def process_result(self, task: Any, result: Any) -> Any:
        """Writes the sum out."""
        num1, num2 = task
        return f"{num1} + {num2} = {result}"

    def process_result_dict(self) -> Any:
        """The default of the seed."""
        return {**self.success_dict, **self.error_dict}

    def handle_error_dict(self) -> Any:
        """The default of the seed."""
        return {str(error): task for task, error in self.error_dict.items()}


def add(x: int, y: int) -> int:
    """The function of the seed document."""
    return x + y


@pytest.mark.parametrize("mode", [None, "thread", "process"])
def test_seed_class_is_a_stage(make: Any, graph: Any, mode: Any) -> None:
    """Its four overrides do what the document says, on tasks that come from upstream."""
    pairs = make(lambda task: (task, task - 1), name="pairs")
    sums = make(add, mode, None if mode is None else 2, Example, name="sums")
    texts = make(str.upper, name="texts")
    summary = graph().chain(pairs, sums, texts).start({pairs: range(4)})
    assert sums.get_success_dict() == {(n, n - 1): f"{n} + {n - 1} = {2 * n - 1}" for n in range(1, 4)}
    assert sorted(texts.success_dict) == sorted(sums.success_dict.values())
    (error,) = sums.error_dict.values()
    assert summary.stages[1].processed == {**sums.success_dict, (0, -1): error}
    assert summary.stages[1].handled == {"num must large than 0.": (0, -1)}
    assert (summary.processed, summary.handled) == (None, None)
    assert sums.summary == summary.stages[1]


class Custom:
    """The same by hooks, and everything else that a plugin may do; notes whose it is told of."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    @hookimpl
    def get_args(self, manager: Any, task: Any) -> Any:
        """Of what comes from upstream the first part is wanted."""
        return None if manager.name == "first" else (task["n"],)

    @hookimpl
    def process_result(self, manager: Any, task: Any, result: Any) -> Any:
        """What goes downstream is a dict."""
        return {"n": result, "by": manager.name}

    @hookimpl
    def task_key(self, manager: Any, task: Any) -> Any:
        """Only the last digit counts in the second stage."""
        return task["n"] % 10 if manager.name == "second" else None

    @hookimpl
    def on_start(self, manager: Any) -> None:
        """Noted."""
        self.told.append((manager.name, "start"))

    @hookimpl
    def on_success(self, manager: Any, outcome: Any) -> None:
        """Noted."""
        assert outcome.stage == manager.name
        self.told.append((manager.name, "success"))

    @hookimpl
    def on_duplicate(self, manager: Any) -> None:
        """Noted."""
        self.told.append((manager.name, "duplicate"))

    @hookimpl
    def on_finish(self, manager: Any, summary: Any) -> None:
        """Noted."""
        assert summary.name == manager.name
        self.told.append((manager.name, f"finish {summary.total}"))


def test_hooks_apply_to_their_stage(make: Any, graph: Any) -> None:
    """get_args and process_result of a plugin, its key, and what it is told: each manager by itself."""
    custom = Custom()
    first, second = (make(abs, "thread", 2, name=name, plugins=[custom]) for name in ("first", "second"))
    third = make(lambda task: task["by"], name="third")
    graph().chain(first, second, third).start({first: range(20)})
    assert sorted(value["n"] for value in second.success_dict.values()) == list(range(10))
    assert set(third.success_dict.values()) == {"second"}
    assert {kind: custom.told.count(kind) for kind in sorted(set(custom.told))} == {
        ("first", "finish 20"): 1,
        ("first", "start"): 1,
        ("first", "success"): 20,
        ("second", "duplicate"): 10,
        ("second", "finish 20"): 1,
        ("second", "start"): 1,
        ("second", "success"): 10,
    }


def test_each_stage_keeps_its_own_retries(make: Any, graph: Any) -> None:
    """How often, of what, and with which attempt a stage tries again is its own."""

    def shaky(task: int) -> int:
        raise (TimeoutError if task % 2 else LookupError)(task)

    at_once = Backoff(initial=0, jitter=0)
    a = make(shaky, name="a", max_retries=2, backoff=at_once)
    b = make(shaky, "thread", 2, name="b", max_retries=4, retry_exceptions=(LookupError,), backoff=at_once)
    flow = graph().add(a, b)
    outcomes = {(o.stage, o.task): o.attempts for o in flow.stream({a: [1, 2], b: [1, 2]})}
    assert outcomes == {("a", 1): 3, ("a", 2): 1, ("b", 1): 1, ("b", 2): 5}
    assert [stage.retries for stage in flow.summary.stages] == [2, 4]
    assert flow.summary.retries == 6
