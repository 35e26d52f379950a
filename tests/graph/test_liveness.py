"""Nothing inside a graph waits for something that cannot come: each run here would stand still if one did."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from celestialflow_core import Backoff, TaskManager

pytestmark = pytest.mark.timeout(60)


class Refusing(TaskManager[Any, Any]):
    """No task of it gets as far as the executor."""

    def get_args(self, task: Any) -> Any:
        """Fails."""
        raise ValueError(f"not {task}")


def double(task: int) -> int:
    """A result that differs from its task."""
    return 2 * task


def test_tasks_that_no_executor_delivers_move_the_graph_on(make: Any, graph: Any) -> None:
    """What fails in get_args goes along its error edge although nothing is delivered after it."""
    first = make(double, "thread", 2, name="first")
    second = make(abs, kind=Refusing, name="second")
    third = make(lambda outcome: outcome.task, name="third")
    flow = graph().connect(first, second).connect(second, third, on="error")
    assert flow.start({first: range(10)}).succeeded == 20
    assert sorted(third.success_dict.values()) == [2 * task for task in range(10)]


@pytest.mark.parametrize("mode", [None, "thread"])
def test_family_that_ends_with_duplicates_is_gathered(make: Any, graph: Any, mode: Any) -> None:
    """The last leaf is a duplicate, which no executor delivers."""
    split = make(lambda task: [task, task, 0], mode, name="split")
    leaf = make(double, mode, name="leaf")
    merge = make(lambda family: [outcome.status for outcome in family.leaves], name="merge")
    flow = graph().connect(split, leaf, each=True).connect(split, merge, gather=True)
    summary = flow.start({split: range(5)})
    assert (len(merge.success_dict), summary.duplicates) == (5, 10)


def test_failure_of_an_error_edge_goes_along_the_next_error_edge(make: Any, graph: Any) -> None:
    """What ``when`` raises about a failure is the failure of the task that would have come of it, and may be caught."""

    def fail(task: Any) -> Any:
        raise KeyError(task)

    def confused(outcome: Any) -> bool:
        raise ValueError(f"about {outcome.task}")

    first, second = make(fail, "thread", 2, name="first"), make(abs, name="second")
    third = make(lambda outcome: str(outcome.error), name="third")
    flow = graph().connect(first, second, on="error", when=confused).connect(second, third, on="error")
    summary = flow.start({first: [1, 2]})
    assert sorted(third.success_dict.values()) == ["about 1", "about 2"]
    assert (summary.succeeded, summary.failed) == (2, 4)


@pytest.mark.parametrize("number", [10, 6000])
@pytest.mark.parametrize("mode", [None, "thread"])
def test_staged_graph_keeps_more_results_than_a_streaming_one(make: Any, graph: Any, number: int, mode: Any) -> None:
    """Results that wait for a manager that may not begin yet have no limit, or it never would."""
    first, second = make(double, mode, 2, name="first"), make(double, mode, 2, name="second")
    flow = graph(schedule="staged").connect(first, second)
    assert flow.start({first: range(number)}).succeeded == 2 * number


def test_staged_graph_explodes_more_results_than_a_streaming_one(make: Any, graph: Any) -> None:
    """Nor have iterators that wait for a manager that may not begin yet."""
    first = make(lambda task: iter([task, -task]), name="first")
    second = make(abs, name="second", enable_duplicate_check=False)
    flow = graph(schedule="staged").connect(first, second, each=True)
    assert flow.start({first: range(6000)}).succeeded == 18000


@pytest.mark.parametrize("order", ["abc", "cba", "bca", "acb"])
def test_staged_graph_goes_on_past_a_stage_without_tasks(make: Any, graph: Any, order: str) -> None:
    """b gets nothing, and c waits for it; whatever the order in which they were put in."""
    by_name = {name: make(double, name=name) for name in "abc"}
    a, b, c = by_name.values()
    flow = graph(schedule="staged").add(*[by_name[name] for name in order])
    flow.connect(a, b, when=lambda value: False).connect(a, c).connect(b, c)
    assert flow.start({a: range(10)}).succeeded == 20


@pytest.mark.parametrize("kind", ["refused", "duplicates"])
def test_staged_graph_goes_on_past_a_stage_that_no_executor_ends(make: Any, graph: Any, kind: str) -> None:
    """The last tasks of b fail in get_args, or are duplicates: c begins all the same."""
    a = make(lambda task: 1, name="a", enable_duplicate_check=False)
    b = make(double, "thread", 1, Refusing if kind == "refused" else TaskManager, name="b")
    c = make(double, name="c", enable_duplicate_check=False)
    flow = graph(schedule="staged").connect(a, [b, c]).connect(b, c)
    summary = flow.start({a: range(10)})
    assert summary.total == 30 + (kind == "duplicates")


def test_iterator_that_takes_its_time_feeds_all_workers(make: Any, graph: Any) -> None:
    """A result whose items take longer to make than the driver stays with it: eight workers still work at a time."""
    together = threading.Barrier(8)

    def items(task: int) -> Iterator[int]:
        for item in range(8):
            time.sleep(0.003)  # longer than the driver stays with one iterator
            yield item

    def meet(item: int) -> int:
        together.wait(30)
        return item

    first, second = make(items, name="first"), make(meet, "thread", 8, name="second")
    assert graph().connect(first, second, each=True).start({first: [0]}).failed == 0


def test_one_worker_behind_fifty_is_no_dead_end(make: Any, graph: Any) -> None:
    """Fifty workers in front of one, with room for hardly more than the workers."""
    many = make(double, "thread", 50, name="many")
    one = make(double, "thread", 1, name="one")
    summary = graph(max_in_flight=50).connect(many, one).start({many: range(2000)})
    assert summary.succeeded == 4000


@pytest.mark.parametrize(
    "modes", [("thread", "process", "async"), ("async", "thread", None), (None, "async", "thread")]
)
def test_cycle_that_grows_is_no_dead_end(make: Any, graph: Any, modes: Any) -> None:
    """Each result of a cycle becomes two tasks of the next manager: a thousand where four may be in flight."""
    stages = [make(_awaited(kin) if mode == "async" else kin, mode, 2, name=f"s{at}") for at, mode in enumerate(modes)]
    flow = graph(max_in_flight=4).ring(*stages, each=True)
    summary = flow.start({stages[0]: [1]})
    assert summary.failed == 0
    assert sum(len(stage.success_dict) for stage in stages) == 1023


def kin(task: int) -> list[int]:
    """The two numbers below in a tree of ten layers."""
    return [2 * task, 2 * task + 1] if task < 512 else []


def _awaited(func: Any) -> Any:
    async def coroutine(task: Any) -> Any:
        return func(task)

    return coroutine


def test_slow_stage_does_not_stop_the_others(make: Any, graph: Any) -> None:
    """While one branch holds its task, the other gets all its tasks done."""
    held, fast_is_done = threading.Event(), threading.Event()

    def slow(task: int) -> int:
        held.wait(30)
        return task

    def fast(task: int) -> int:
        if task == 199:
            fast_is_done.set()
        return task

    first = make(int, name="first")
    slow_stage, fast_stage = make(slow, "thread", 1, name="slow"), make(fast, "thread", 1, name="fast")
    flow = graph().connect(first, [slow_stage, fast_stage])
    for outcome in flow.stream({first: range(200)}):
        if outcome.stage == "slow":
            assert fast_is_done.is_set()
        elif outcome.task == 199:
            held.set()
    assert flow.summary.succeeded == 600


def test_retry_that_waits_holds_nothing_up(make: Any, graph: Any) -> None:
    """While the second try of one task is due in a minute, every other goes through the one worker of that stage."""
    tried = []

    def shaky(task: int) -> int:
        tried.append(task)
        if task == 0:
            raise TimeoutError
        return task

    first = make(int, name="first")
    second = make(shaky, "thread", 1, name="second", backoff=Backoff(initial=60, maximum=60, jitter=0))
    third = make(int, name="third")
    flow = graph(max_in_flight=8).connect(first, second).connect(second, third)
    with flow.stream({first: range(500)}) as outcomes:
        seen = [next(outcomes).task for _ in range(499)]
        assert second.counts.retries == second.counts.pending == 1
    assert sorted(seen) == list(range(1, 500))
    assert tried.count(0) == 1


@pytest.mark.parametrize("number", [2, 3])
def test_edges_that_explode_one_iterator_do_not_wait_for_each_other(make: Any, graph: Any, number: int) -> None:
    """One edge in a cycle takes the newest result first, another one the oldest, and there is no room for any."""

    def below(task: int) -> Iterator[int]:
        return iter([2 * task, 2 * task + 1] if task < 256 else [])

    nodes = make(below, name="nodes", enable_success_cache=False)
    others = [make(abs, "thread", 1, name=f"s{at}") for at in range(number - 1)]
    flow = graph(max_in_flight=1).connect(nodes, nodes, each=True)
    for other in others:
        flow.connect(nodes, other, each=True)
    summary = flow.start({nodes: [1]})
    assert [stage.succeeded for stage in summary.stages] == [511, *[510] * (number - 1)]
