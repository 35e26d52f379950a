"""Joins: when all that came of a task has settled, through any depth, it is one task, whatever the timing."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from celestialflow_core import Family, Outcome, hookimpl


def leaves_of(family: Family) -> tuple[Any, list[Any]]:
    """The task of the root, and of each leaf its stage, task and status."""
    return family.root.task, [(leaf.stage, leaf.task, leaf.status) for leaf in family.leaves]


@pytest.mark.parametrize("seed", range(4))
def test_leaves_are_in_an_order_that_does_not_depend_on_timing(make: Any, graph: Any, seed: int) -> None:
    """Threads of random durations, two edges, two layers: always the order of edges, targets and items."""
    chance = random.Random(seed)

    def work(task: int) -> int:
        time.sleep(chance.random() / 200)
        if task % 7 == 6:
            raise ValueError(task)
        return task

    off = {"enable_duplicate_check": False}
    split = make(lambda task: [10 * task + item for item in range(4)], name="split")
    b, c, d = (make(work, "thread", 4, name=name, **off) for name in "bcd")
    e = make(lambda task: [task, -task], "thread", 4, name="e", **off)
    merge = make(leaves_of, "thread", 2, name="merge")
    flow = graph().connect(split, merge, gather=True).connect(split, [b, c], each=True)
    flow.connect(b, e).connect(e, d, each=True).connect(split, d, each=True, when=lambda item: item % 2)
    flow.start({split: range(8)})

    def expected(task: int) -> list[Any]:
        def state(stage: str, item: int) -> tuple[str, int, str]:
            return stage, item, "error" if item % 7 == 6 else "success"

        items = [10 * task + item for item in range(4)]
        found: list[Any] = []
        for item in items:
            found += [state("b", item)] if item % 7 == 6 else [state("d", item), state("d", -item)]
        return [*found, *[state("c", item) for item in items], *[state("d", item) for item in items if item % 2]]

    assert dict(merge.success_dict.values()) == {task: expected(task) for task in range(8)}


def test_families_nest(make: Any, graph: Any) -> None:
    """What is gathered inside is a leaf outside, at its root's place."""
    books = make(lambda task: [f"{task}.{chapter}" for chapter in "ab"], name="books")
    chapters = make(lambda task: [f"{task}{page}" for page in range(3)], name="chapters")
    pages = make(lambda task: task.upper(), "thread", 3, name="pages")
    bound = make(lambda family: [leaf.value for leaf in family.leaves], "thread", 3, name="bound")
    shelf = make(lambda family: [leaf.value for leaf in family.leaves], name="shelf")
    flow = graph().connect(books, chapters, each=True).connect(chapters, pages, each=True)
    flow.connect(chapters, bound, gather=True).connect(books, shelf, gather=True)
    flow.start({books: ["x", "y"]})
    assert {family.root.task: value for family, value in shelf.get_success_pairs()} == {
        book: [[f"{book}.{chapter}{page}".upper() for page in range(3)] for chapter in "ab"] for book in "xy"
    }


def test_empty_families_and_failed_roots(make: Any, graph: Any) -> None:
    """A result of no items is a family of none; a task that failed has none, and is a leaf of the family around it."""

    def split(task: int) -> list[int]:
        if task == 1:
            raise ValueError("no items")
        return list(range(task))

    outer = make(lambda task: [task, task + 1], name="outer")
    inner, leaf = make(split, name="inner", enable_duplicate_check=False), make(abs, name="leaf")
    merge, top = make(leaves_of, name="merge", enable_duplicate_check=False), make(leaves_of, name="top")
    flow = graph().connect(outer, inner, each=True).connect(inner, leaf, each=True, when=bool)
    flow.connect(inner, merge, gather=True).connect(outer, top, gather=True)
    summary = flow.start({outer: [0, 1]})
    assert sorted(merge.success_dict.values()) == [(0, []), (2, [("leaf", 1, "success")])]
    tops = {root: [(stage, status) for stage, _, status in leaves] for root, leaves in top.success_dict.values()}
    assert tops == {0: [("merge", "success"), ("inner", "error")], 1: [("inner", "error"), ("merge", "success")]}
    assert (summary.failed, summary.cancelled) == (2, 0)


def test_gather_alone_is_a_family_of_the_root(make: Any, graph: Any) -> None:
    """A manager with no other edge: the family has a root and no leaf; with when only some of them."""
    a, b = make(abs, name="a"), make(leaves_of, name="b")
    outcomes = list(graph().connect(a, b, gather=True, when=lambda value: value > 1).stream({a: range(4)}))
    assert sorted((o.stage, o.value if o.stage == "a" else o.value[0]) for o in outcomes) == [
        *[("a", 0), ("a", 1), ("b", 2), ("b", 3)]
    ]


def test_gather_reaches_through_a_cycle_below(make: Any, graph: Any) -> None:
    """A crawl of each site: whatever way leads to a page, it belongs to the site that came first; the end is exact."""

    def links(page: int) -> list[int]:
        return [link for link in (2 * page, 2 * page + 1) if link < 2**7]

    site = make(lambda task: [task], name="site")
    fetch, parse = make(int, "thread", 3, name="fetch"), make(links, "thread", 3, name="parse")
    index = make(lambda family: {leaf.task for leaf in family.leaves}, name="index")
    flow = graph(max_in_flight=2).connect(site, fetch, each=True).connect(fetch, parse)
    flow.connect(parse, fetch, each=True).connect(site, index, gather=True)
    summary = flow.start({site: [1]})
    assert summary.stages[1].succeeded == summary.stages[2].succeeded == 127
    ((family, _),) = index.get_success_pairs()
    assert isinstance(family, Family)
    assert family.leaves == ()  # every page has its links taken, and the last ones have none


def test_duplicates_and_failures_are_leaves(make: Any, graph: Any) -> None:
    """And what an error edge takes is none: its fallback's outcome is."""

    def work(task: int) -> int:
        if task > 10:
            raise ValueError(task)
        return task

    a = make(lambda task: [task, 5, task + 10, 5], name="a")
    b, c = make(work, "thread", 2, name="b"), make(leaves_of, name="c")
    fallback = make(lambda outcome: -outcome.task, name="fallback")
    flow = graph().connect(a, b, each=True).connect(a, c, gather=True)
    flow.connect(b, fallback, on="error", when=lambda outcome: outcome.task != 12)
    flow.start({a: [1, 2]})
    by_root = dict(c.success_dict.values())
    assert [(stage, status) for stage, _, status in by_root[1]] == [
        *[("b", "success"), ("b", "success"), ("fallback", "success"), ("b", "duplicate")]
    ]
    assert by_root[2] == [*[("b", 2, "success"), ("b", 5, "duplicate"), ("b", 12, "error"), ("b", 5, "duplicate")]]


def test_family_goes_to_processes_whole(make: Any, graph: Any) -> None:
    """Pickled: with its outcomes, their errors and tracebacks."""
    a = make(lambda task: [task, 0], name="a")
    b = make(inverse, "process", 2, name="b", enable_duplicate_check=False)
    c = make(inspect_family, "process", 1, name="c")
    graph().connect(a, b, each=True).connect(a, c, gather=True).start({a: [1, 2]})
    by_root = dict(c.success_dict.values())
    assert {root: leaves[0] for root, leaves in by_root.items()} == {1: (1.0, None), 2: (0.5, None)}
    assert {leaves[1][1].partition(":")[0] for leaves in by_root.values()} == {"ZeroDivisionError"}


def inverse(task: int) -> float:
    """Fails for 0."""
    return 1.0 / task


def inspect_family(family: Family) -> tuple[Any, list[Any]]:
    """What a worker sees of a family."""
    return family.root.task, [
        (leaf.value, None if leaf.ok else f"{_kind(leaf)}: {leaf.error}") for leaf in family.leaves
    ]


def _kind(outcome: Outcome[Any, Any]) -> str:
    return type(outcome.error).__name__


def test_equal_roots_are_one_family_for_the_duplicate_check(make: Any, graph: Any) -> None:
    """A Family is known by its root's stage and key; with the check off both are merged."""
    a, b = make(lambda task: [task], name="a", enable_duplicate_check=False), make(leaves_of, name="b")
    c = make(leaves_of, name="c", enable_duplicate_check=False)
    summary = graph().connect(a, [b, c], gather=True).start({a: [[1], [1], [2]]})
    assert [stage.succeeded for stage in summary.stages] == [3, 2, 3]
    assert summary.duplicates == 1


def test_families_of_one_stage_are_told_from_those_of_another(make: Any, graph: Any) -> None:
    """Both have the root 1, and go to one manager."""
    a, b = make(abs, name="a"), make(abs, name="b")
    merge = make(lambda family: family.root.stage, name="merge")
    summary = graph().connect(a, merge, gather=True).connect(b, merge, gather=True).start({a: [1], b: [1]})
    assert (sorted(merge.success_dict.values()), summary.duplicates) == (["a", "b"], 0)


def test_task_key_hook_of_a_gathering_manager_counts(make: Any, graph: Any) -> None:
    """A plugin that knows better is asked first."""

    class AllOne:
        @hookimpl
        def task_key(self, task: Any) -> Any:
            """All families are one."""
            return "one"

    a, b = make(abs, name="a"), make(leaves_of, name="b", plugins=[AllOne()])
    summary = graph().connect(a, b, gather=True).start({a: range(5)})
    assert (len(b.success_dict), summary.duplicates) == (1, 4)


def test_family_is_shown_in_a_line(make: Any, graph: Any) -> None:
    """In a log line or a message."""
    a = make(lambda task: list(range(task)), name="a")
    b, c = make(abs, name="b", enable_duplicate_check=False), make(repr, name="c")
    graph().connect(a, b, each=True).connect(a, c, gather=True).start({a: [1, 2]})
    assert sorted(c.success_dict.values()) == ["<Family of 1: 1 leaf>", "<Family of 2: 2 leaves>"]


def test_many_deep_families_are_complete(make: Any, graph: Any) -> None:
    """A family of a chain of a thousand tasks, gathered without recursion."""
    down = make(lambda task: task - 1, name="down")
    a, merge = make(abs, name="a"), make(lambda family: [leaf.value for leaf in family.leaves], name="merge")
    flow = graph().connect(a, down).connect(down, down, when=lambda value: value > 0).connect(a, merge, gather=True)
    flow.start({a: [3000]})
    assert list(merge.success_dict.values()) == [[0]]
