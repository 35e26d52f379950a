"""What goes along an edge: one to one, fan-out, fan-in, each, when, route, error edges, cycles; in any mix of modes."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from celestialflow_core import Backoff, Outcome, TaskManager
from celestialflow_core.testing import Resources

MODES = [None, "thread", "process", "async"]


def double(task: int) -> int:
    """A result that differs from its task."""
    return 2 * task


async def double_awaited(task: int) -> int:
    """The same, as a coroutine."""
    return 2 * task


def doubler(make: Any, mode: str | None, **options: Any) -> Any:
    """A manager that doubles, in *mode*."""
    return make(double_awaited if mode == "async" else double, mode, None if mode is None else 2, **options)


def run(flow: Any, how: str, sources: Any) -> list[Outcome[Any, Any]]:
    """The outcomes that leave *flow*, run in one of the four ways; none for those that give none."""

    async def collect() -> list[Outcome[Any, Any]]:
        async with flow.stream_async(sources) as outcomes:
            return [outcome async for outcome in outcomes]

    if how == "stream":
        return list(flow.stream(sources))
    if how == "stream_async":
        return asyncio.run(collect())
    if how == "start_async":
        asyncio.run(flow.start_async(sources))
    else:
        flow.start(sources)
    return []


@pytest.mark.parametrize(
    ("modes", "how"),
    [
        *[((None, "thread", "process", "async"), how) for how in ("start", "stream", "start_async", "stream_async")],
        (("async", "process", "thread", None), "stream_async"),
    ],
)
def test_results_stream_through_any_mix_of_modes(make: Any, graph: Any, modes: Any, how: str) -> None:
    """Four stages of four modes, in all ways to run: dicts, summary and what leaves the graph are exact."""
    stages = [doubler(make, mode, name=f"s{at}") for at, mode in enumerate(modes)]
    flow = graph("mixed").chain(*stages)
    outcomes = run(flow, how, {stages[0]: range(300)})
    for at, stage in enumerate(stages):
        assert stage.get_success_dict() == {task << at: task << (at + 1) for task in range(300)}
        assert stage.get_error_dict() == {}
    summary = flow.summary
    assert (summary.name, summary.mode, summary.stopped) == ("mixed", "graph", None)
    assert (summary.total, summary.succeeded) == (1200, 1200)
    assert [stage.name for stage in summary.stages] == ["s0", "s1", "s2", "s3"]
    assert [stage.total for stage in summary.stages] == [300] * 4
    assert [stage.summary for stage in stages] == list(summary.stages)
    if "stream" in how:
        assert {outcome.value for outcome in outcomes} == {task * 16 for task in range(300)}
        assert {outcome.stage for outcome in outcomes} == {"s3"}


def test_fan_out_gives_every_target_every_result(make: Any, graph: Any) -> None:
    """By a list of targets and by several edges."""
    a, b, c, d = doubler(make, None, name="a"), *(doubler(make, "thread", name=name) for name in "bcd")
    graph().connect(a, [b, c]).connect(a, d).start({a: range(50)})
    assert b.success_dict == c.success_dict == d.success_dict == {2 * task: 4 * task for task in range(50)}


def test_fan_in_takes_the_results_of_all(make: Any, graph: Any) -> None:
    """A stage used by several edges and a source: each distinct task runs once, the others are duplicates."""
    a, b, c = doubler(make, None, name="a"), doubler(make, "thread", name="b"), doubler(make, None, name="c")
    flow = graph().connect(a, c).connect(b, c)
    summary = flow.start({a: range(20), b: range(10, 30), c: [0, 1, 2]})
    assert c.success_dict == {task: 2 * task for task in [1, *range(0, 60, 2)]}
    assert summary.stages[1].name == "c"
    assert (summary.stages[1].total, summary.duplicates) == (43, 43 - 31)


def test_lineage_leads_from_each_outcome_to_its_source(make: Any, graph: Any) -> None:
    """id, parent and root: through each, an error edge and a gather."""

    def work(task: int) -> int:
        if task % 10 == 3:
            raise ValueError(task)
        return task

    split = make(lambda task: [10 * task, 10 * task + 3], name="split")
    leaf, last = make(work, "thread", 2, name="leaf"), make(abs, name="last")
    fallback = make(lambda outcome: outcome.task, name="fallback")
    merge = make(lambda family: family.root.task, name="merge")
    flow = graph().connect(split, leaf, each=True).connect(leaf, last).connect(leaf, fallback, on="error")
    flow.connect(split, merge, gather=True)
    outcomes = list(flow.stream({split: range(1, 6)}))
    ids = [outcome.id for outcome in outcomes]
    assert len(set(ids)) == len(ids)
    assert Counter(outcome.stage for outcome in outcomes) == {"leaf": 5, "last": 5, "fallback": 5, "merge": 5}
    merged = {outcome.task.root.id: outcome for outcome in outcomes if outcome.stage == "merge"}
    failed = {outcome.id: outcome for outcome in outcomes if outcome.stage == "leaf"}
    for outcome in outcomes:
        if outcome.stage == "merge":
            root = outcome.task.root
            assert (root.id, root.parent, root.root) == (outcome.parent, None, outcome.root)
            assert root.stage == "split"
            continue
        assert outcome.root in merged
        task = merged[outcome.root].task.root.task
        if outcome.stage == "fallback":
            assert outcome.task is failed[outcome.parent]
            assert outcome.value == 10 * task + 3
        else:
            assert outcome.task // 10 == task
    source = make(abs, name="source")
    (alone,) = graph().add(source).stream({source: [7]})
    assert (alone.id, alone.parent, alone.root, alone.stage) == (0, None, 0, "source")


# -------------------------------------------------------------------- each


@pytest.mark.parametrize("items", [list, tuple, iter, dict.fromkeys, lambda items: (item for item in items)])
@pytest.mark.parametrize("mode", [None, "thread"])
def test_each_makes_a_task_of_each_item(make: Any, graph: Any, items: Callable[..., Any], mode: Any) -> None:
    """Of a list, a tuple, an iterator, a dict's keys, a generator; none of an empty one."""
    a = make(lambda task: items(range(task)), mode, name="a", enable_success_cache=False)
    b = make(abs, mode, name="b", enable_duplicate_check=False)
    summary = graph().connect(a, b, each=True).start({a: [0, 3, 5]})
    assert sorted(task for task, _ in b.get_success_pairs()) == [0, 0, 1, 1, 2, 2, 3, 4]
    assert summary.total == 11


@pytest.mark.parametrize(
    ("result", "kind", "said"),
    [
        ("text", TypeError, "this result is one str. Return a list, or connect without each."),
        (b"text", TypeError, "this result is one bytes."),
        (12, TypeError, "this result is one int."),
        (None, TypeError, "this result is one NoneType."),
    ],
)
def test_each_of_what_has_no_items_is_the_tasks_error(
    make: Any, graph: Any, result: Any, kind: type[Exception], said: str
) -> None:
    """A str (which would become its letters), a number, None: the task failed, with what to do; the others go on."""
    a = make(lambda task: result if task == 1 else [task], name="a")
    b = make(abs, name="b")
    summary = graph().connect(a, b, each=True).start({a: [1, 2]})
    error = a.error_dict[1]
    assert type(error) is kind
    text = str(error)
    assert said in text
    assert "each=True makes a task of each item of a result" in text
    assert a.success_dict == {2: [2]}
    assert (summary.succeeded, summary.failed) == (2, 1)


def test_each_takes_an_iterator_as_tasks_are_wanted(make: Any, graph: Any) -> None:
    """No further than the stage behind it wants; an infinite one is left by break, and closed."""
    pulled, closed = [], threading.Event()

    def endless(task: int) -> Iterator[int]:
        try:
            for item in itertools.count():
                pulled.append(item)
                yield item
        finally:
            closed.set()

    def work(item: int) -> None:
        time.sleep(0.006)  # longer than a serial manager stays away: it asks for one or two calls at a time

    a, b = make(endless, name="a", enable_success_cache=False), make(work, name="b")
    flow = graph(max_in_flight=10).connect(a, b, each=True)
    before = Resources()
    with flow.stream({a: [1]}) as outcomes:
        for number, outcome in enumerate(outcomes, 1):
            assert outcome.ok
            assert len(pulled) <= number + 10 + 2 * 2
            if number == 50:
                break
    before.expect_no_leaks()
    assert closed.is_set()
    assert flow.summary.stopped == "The stream was closed."
    assert flow.summary.total == flow.summary.succeeded + flow.summary.cancelled


def test_iterator_that_raises_midway_has_given_what_it_gave(make: Any, graph: Any) -> None:
    """Its items run; its error is that of one more task, which says how many there were; other results go on."""

    def broken(task: int) -> Iterator[int]:
        yield from range(10 * task, 10 * task + 3)
        if task == 1:
            raise LookupError("page 2 is missing")

    a, b = make(broken, name="a", enable_success_cache=False), make(abs, name="b")
    flow = graph().connect(a, b, each=True)
    outcomes = list(flow.stream({a: [1, 2]}))
    (failed,) = [outcome for outcome in outcomes if not outcome.ok]
    assert sorted(b.success_dict) == [10, 11, 12, 20, 21, 22]
    assert (failed.stage, failed.root, type(failed.error)) == ("b", 0, LookupError)
    assert failed.error.__notes__[0] == (
        "This came up while the items of a result were taken one by one, after 3 of them, for the edge a -> b."
    )
    assert "page 2 is missing" in failed.traceback
    assert (flow.summary.succeeded, flow.summary.failed) == (8, 1)


def test_two_edges_that_explode_one_iterator_each_get_all_of_it(make: Any, graph: Any) -> None:
    """An iterator can be gone through only once; its error comes up once."""

    def some(task: int) -> Iterator[int]:
        yield from range(task)
        raise ValueError("that was all")

    a = make(some, name="a", enable_success_cache=False)
    b, c = make(abs, name="b"), make(abs, "thread", 1, name="c")
    summary = graph().connect(a, b, each=True).connect(a, c, each=True).start({a: [500]})
    assert b.success_dict == c.success_dict == {task: task for task in range(500)}
    assert summary.failed == 1


def test_edges_that_explode_one_iterator_do_not_keep_it_for_the_slowest(make: Any, graph: Any) -> None:
    """The fast one goes ahead only as far as the graph has room: what the slow one has not seen has to wait."""
    go_on = threading.Event()
    taken = []

    def many(task: int) -> Iterator[int]:
        for item in range(20_000):
            taken.append(item)
            yield item

    def hold(task: int) -> int:
        go_on.wait(30)
        return task

    a = make(many, name="a", enable_success_cache=False)
    fast, slow = make(abs, name="fast"), make(hold, "thread", 1, name="slow")
    flow = graph(max_in_flight=100).connect(a, fast, each=True).connect(a, slow, each=True)
    with flow.stream({a: [1]}) as outcomes:
        seen = [next(outcomes).stage for _ in range(50)]
        threading.Timer(0.2, go_on.set).start()
        while seen[-1] != "slow":
            seen.append(next(outcomes).stage)
        assert len(taken) < 5000
        assert sum(1 for _ in outcomes) + len(seen) == 40_000


def test_each_with_when_and_route_asks_about_items(make: Any, graph: Any) -> None:
    """An item may go nowhere; what they raise about one is the error of the task that would have come of it."""

    def wanted(item: int) -> bool:
        if item == 5:
            raise ArithmeticError("five")
        return item != 6

    a, b, c = make(lambda task: range(10), name="a"), make(abs, name="b"), make(abs, name="c")
    flow = graph().connect(a, [b, c], each=True, when=wanted, route=lambda item: None if item == 7 else "bc"[item % 2])
    summary = flow.start({a: [1]})
    assert (sorted(b.success_dict), sorted(c.success_dict)) == ([0, 2, 4, 8], [1, 3, 9])
    assert list(b.error_dict) == [5]
    assert b.error_dict[5].__notes__[0] == (
        "This came up when it was asked whether an item is for the edge a -> [b, c]."
    )
    assert (summary.total, summary.failed) == (9, 1)


# -------------------------------------------------------------------- when and route


def test_when_filters_and_what_goes_no_way_leaves_the_graph(make: Any, graph: Any) -> None:
    """Each edge asks for itself; a result that no edge takes is an outcome of the graph."""
    a, b, c = (make(int, name=name) for name in "abc")
    flow = graph().connect(a, b, when=lambda value: value > 2).connect(a, c, when=lambda value: value > 4)
    outcomes = list(flow.stream({a: range(6)}))
    left = {stage: sorted(o.task for o in outcomes if o.stage == stage) for stage in "abc"}
    assert left == {"a": [0, 1, 2], "b": [3, 4, 5], "c": [5]}


@pytest.mark.parametrize("argument", ["when", "route"])
@pytest.mark.parametrize("error", [ValueError("odd"), SystemExit(3), GeneratorExit()])
def test_what_when_and_route_raise_is_the_tasks_error(make: Any, graph: Any, argument: str, error: Any) -> None:
    """Of the task whose result they were asked about; it goes along no edge, and is not tried again."""

    def ask(value: int) -> Any:
        if value == 3:
            raise error
        return b if argument == "route" else True

    a, b = make(int, name="a"), make(int, name="b")
    summary = graph().connect(a, b, **{argument: ask}).start({a: range(5)})
    assert a.error_dict == {3: error}
    assert sorted(b.success_dict) == [0, 1, 2, 4]
    assert (summary.failed, summary.retries) == (1, 0)


def test_route_sends_each_result_one_way(make: Any, graph: Any) -> None:
    """By manager, by name, or None: it leaves the graph. Anything else is the task's GraphError."""
    a, b, c, d = (make(int, name=name) for name in "abcd")
    answers = {0: b, 1: "c", 2: None, 3: d, 4: "d", 5: [b], 6: True}
    flow = graph().add(d).connect(a, [b, c], route=answers.get)
    outcomes = list(flow.stream({a: range(7), d: []}))
    assert (list(b.success_dict), list(c.success_dict)) == ([0], [1])
    assert [outcome.task for outcome in outcomes if outcome.ok and outcome.stage == "a"] == [2]
    errors = {outcome.task: str(outcome.error) for outcome in outcomes if not outcome.ok}
    assert sorted(errors) == [3, 4, 5, 6]
    assert errors[4] == (
        "Edge a -> [b, c]: route returned 'd' for 4. It must return one of the connected managers, its name, or None."
    )


def test_judges_are_asked_once_a_result_in_the_thread_of_the_caller(make: Any, graph: Any) -> None:
    """when, route and the iterators of each: I1 holds for them."""
    here, asked = threading.get_ident(), []

    def ask(value: Any) -> Any:
        asked.append((threading.get_ident(), value))
        return "b"

    def items(task: int) -> Iterator[int]:
        ask(-1)
        yield task

    a = make(items, "thread", 2, name="a", enable_success_cache=False)
    b, c = make(int, "thread", 2, name="b"), make(int, name="c")
    graph().connect(a, b, each=True).connect(b, c, when=ask).start({a: range(20)})
    assert {ident for ident, _ in asked} == {here}
    assert sorted(value for _, value in asked) == [-1] * 20 + list(range(20))


# -------------------------------------------------------------------- errors


@pytest.mark.parametrize("mode", [None, "thread"])
def test_failed_task_goes_along_its_error_edge_as_its_outcome(make: Any, graph: Any, mode: Any) -> None:
    """The fallback gets the Outcome: task, error, traceback, attempts; the failure leaves the graph all the same."""
    a = make(shaky, mode, name="a", retry_exceptions=(TimeoutError,), backoff=Backoff(initial=0, jitter=0))
    b = make(describe, mode, name="b")
    flow = graph().connect(a, b, on="error")
    outcomes = list(flow.stream({a: range(4)}))
    assert {outcome.value for outcome in outcomes if outcome.ok} == {
        *[0, 3, (1, "ValueError", 1, True), (2, "TimeoutError", 2, True)]
    }
    assert sorted(outcome.task for outcome in outcomes if outcome.status == "error") == [1, 2]
    assert flow.summary.failed == 2
    assert flow.summary.stages[1].failed == 0


def shaky(task: int) -> int:
    """Two of four fail, one of them twice."""
    if task == 1:
        raise ValueError(task)
    if task == 2:
        raise TimeoutError(task)
    return task


def describe(outcome: Outcome[Any, Any]) -> Any:
    """What there is to know of a failure."""
    return outcome.task, type(outcome.error).__name__, outcome.attempts, "Error" in str(outcome.traceback)


def test_error_edges_choose_with_when_and_reach_several(make: Any, graph: Any) -> None:
    """Each edge asks about the outcome; get_args, process_result and when errors go along them as well."""

    class Odd(TaskManager[Any, Any]):
        """Its overrides fail too."""

        def get_args(self, task: Any) -> Any:
            """Fails for 0."""
            return (task,) if task else 1 / 0

        def process_result(self, task: Any, result: Any) -> Any:
            """Fails for 1."""
            if task == 1:
                raise KeyError(task)
            return result

    def fussy(value: int) -> bool:
        if value == 2:
            raise AttributeError("two")
        return True

    def name(outcome: Any) -> str:
        return type(outcome.error).__name__

    a = make(abs, kind=Odd, name="a")
    b, all_of_them, some = make(abs, name="b"), make(name, name="all"), make(name, "thread", 1, name="some")
    flow = graph().connect(a, b, when=fussy).connect(a, [all_of_them, some], on="error")
    flow.connect(a, make(name, name="rare"), on="error", when=lambda outcome: isinstance(outcome.error, KeyError))
    flow.start({a: range(4)})
    assert sorted(all_of_them.success_dict.values()) == ["AttributeError", "KeyError", "ZeroDivisionError"]
    assert sorted(some.success_dict.values()) == ["AttributeError", "KeyError", "ZeroDivisionError"]
    assert list(flow.managers[4].success_dict.values()) == ["KeyError"]
    assert list(b.success_dict) == [3]


def test_failure_ends_its_branch_only(make: Any, graph: Any) -> None:
    """What comes of the others is not touched; the summary says where it was."""

    def fail(task: int) -> int:
        if task % 3 == 0:
            raise ValueError("thrice")
        return task

    a, b, c = make(abs, name="a"), make(fail, "thread", 2, name="b"), make(abs, name="c")
    summary = graph().connect(a, [b, c]).connect(b, c).start({a: range(1, 31)})
    assert (summary.failed, summary.duplicates) == (10, 20)
    assert len(c.success_dict) == 30
    (group,) = summary.errors
    assert (group.stage, group.count, group.type) == ("b", 10, "ValueError")
    assert f"10 x ValueError in b at {__file__}" in str(summary)


# -------------------------------------------------------------------- cycles


@pytest.mark.parametrize("how", ["start", "stream", "start_async", "stream_async"])
@pytest.mark.parametrize("modes", [(None, None), ("thread", "thread"), ("thread", "async")])
def test_cycle_ends_exactly_when_nothing_is_left(make: Any, graph: Any, modes: Any, how: str) -> None:
    """A crawl: pages lead to links, links to pages that were not seen; each page is fetched once, and the run ends."""

    def links(page: int) -> list[int]:
        return [link for link in (2 * page, 3 * page, page + 7) if link < 1000]

    async def links_awaited(page: int) -> list[int]:
        return links(page)

    fetch = make(int, modes[0], None if modes[0] is None else 4, name="fetch")
    parse = make(
        links_awaited if modes[1] == "async" else links, modes[1], None if modes[1] is None else 4, name="parse"
    )
    flow = graph().connect(fetch, parse).connect(parse, fetch, each=True)
    run(flow, how, {fetch: [1]})
    reached, todo = {1}, [1]
    while todo:
        new = set(links(todo.pop())) - reached
        reached |= new
        todo += new
    assert set(fetch.success_dict) == set(parse.success_dict) == reached
    assert flow.summary.duplicates == sum(len(links(page)) for page in reached) + 1 - len(reached)
    assert not flow.status().is_dag


def test_self_edge_ends_with_its_when(make: Any, graph: Any) -> None:
    """Countdown, without the duplicate check."""
    a = make(lambda task: task - 1, "thread", 2, name="a", enable_duplicate_check=False)
    flow = graph().connect(a, a, when=lambda value: value > 0)
    outcomes = list(flow.stream({a: [5, 5, 3]}))
    assert [outcome.value for outcome in outcomes] == [0, 0, 0]
    assert flow.summary.total == 13


def test_error_edge_may_lead_back(make: Any, graph: Any) -> None:
    """A task that failed is sent back until it succeeds: the graph ends."""

    def shaky(task: Any) -> Any:
        times = 0
        while isinstance(task, Outcome):
            task, times = task.task, times + 1
        if times < 3:
            raise ValueError(times)
        return task

    a = make(shaky, "thread", 2, name="a")
    flow = graph().connect(a, a, on="error")
    outcomes = list(flow.stream({a: range(5)}))
    assert sorted(outcome.value for outcome in outcomes if outcome.ok) == list(range(5))
    assert (flow.summary.succeeded, flow.summary.failed) == (5, 15)


# -------------------------------------------------------------------- what tasks are


def test_unhashable_and_equal_results_are_tasks(make: Any, graph: Any) -> None:
    """Lists and dicts go between stages, and equal ones run once there."""
    a = make(lambda task: {"n": [task % 3]}, name="a")
    b, c = make(lambda task: task["n"], "thread", 2, name="b"), make(len, name="c")
    summary = graph().chain(a, b, c).start({a: range(9)})
    assert summary.duplicates == 6
    assert b.success_dict[{"n": [1]}] == [1]
    assert sorted(task[0] for task, _ in c.get_success_pairs()) == [0, 1, 2]


def test_equal_results_run_again_where_the_check_is_off(make: Any, graph: Any) -> None:
    """Each stage keeps its own option."""
    a, b = make(lambda task: 1, name="a"), make(abs, name="b", enable_duplicate_check=False)
    c = make(abs, name="c")
    summary = graph().chain(a, b, c).start({a: range(10)})
    assert [stage.succeeded for stage in summary.stages] == [10, 10, 1]
    assert summary.duplicates == 9


def test_result_that_cannot_be_a_key_is_its_tasks_error(make: Any, graph: Any) -> None:
    """A __hash__ that raises: the task of the next stage fails, and says why; the others run."""

    class Odd:
        def __hash__(self) -> int:
            raise RuntimeError("no hash")

    a = make(lambda task: Odd() if task == 1 else task, name="a", enable_success_cache=False)
    b = make(lambda task: None, name="b")
    summary = graph().connect(a, b).start({a: range(3)})
    assert (summary.succeeded, summary.failed) == (5, 1)
    ((_, error),) = b.get_error_pairs()
    assert str(error) == "no hash"
    assert error.__notes__ == ["This came from the task's key. The task_key hook can give another one."]
