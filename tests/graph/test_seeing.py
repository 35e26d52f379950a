"""What a graph shows of itself: its drawing, its status, the story of a task; before, during and after a run."""

from __future__ import annotations

import gc
import itertools
import re
import threading
import weakref
from typing import Any

import pytest

from celestialflow_core import Backoff, GraphStatus, TaskGraph
from celestialflow_core.testing import wait_until


def test_drawing_shows_managers_and_edges_before_a_run(make: Any, graph: Any) -> None:
    """Each kind of edge has its arrow and its words."""

    def is_new(task: Any) -> bool:
        return False

    fetch, parse, index, failed = (make(abs, name=name) for name in ("fetch", 'par"se', "index<1>", "failed"))
    flow = graph().connect(fetch, parse).connect(parse, fetch, each=True, when=is_new)
    flow.connect(parse, [index, failed], route=str).connect(fetch, failed, on="error")
    flow.connect(index, failed, gather=True)
    assert flow.to_mermaid() == (
        "flowchart LR\n"
        '    s0["fetch"]\n'
        '    s1["par#quot;se"]\n'
        '    s2["index#lt;1#gt;"]\n'
        '    s3["failed"]\n'
        "    s0 --> s1\n"
        '    s1 -->|"each, when is_new"| s0\n'
        '    s1 -->|"route str"| s2\n'
        '    s1 -->|"route str"| s3\n'
        '    s0 -.->|"error"| s3\n'
        '    s2 ==>|"gather"| s3\n'
    )


def two_stages(make: Any, graph: Any) -> Any:
    """A graph in which every other result goes on, and the task 7 fails; with the event that lets 5 of b go on."""
    go_on = threading.Event()

    def first(task: int) -> int:
        if task == 7:
            raise ValueError(task)
        return task

    def second(task: int) -> int:
        if task == 4:
            go_on.wait(30)
        return task

    a, b = make(first, name="a"), make(second, "thread", 1, name="b")
    return graph().connect(a, b, when=is_even), a, b, go_on


def is_even(task: int) -> bool:
    """Goes on."""
    return task % 2 == 0


def test_drawing_has_counts_during_and_after_a_run(make: Any, graph: Any) -> None:
    """On the managers what became of their tasks, on the edges how many went along; also when all is over."""
    flow, a, _, go_on = two_stages(make, graph)
    with flow.stream({a: range(10)}) as outcomes:
        seen = [next(outcomes) for _ in range(7)]  # of a: five that do not go on or fail; of b: 0 and 2
        during = flow.to_mermaid()
        go_on.set()
        seen += outcomes
    after = 'flowchart LR\n    s0["a<br/>9 ok, 1 failed"]\n    s1["b<br/>{}"]\n    s0 -->|"when is_even: 5"| s1\n'
    assert re.sub(r"2 ok, \d running(, \d pending)?", "2 ok", during) == after.format("2 ok")
    assert during != after.format("2 ok")
    assert flow.to_mermaid() == after.format("5 ok")
    assert len(seen) == 10


def test_drawing_after_a_run_is_of_that_run(make: Any, graph: Any) -> None:
    """What a manager does by itself afterwards, or an edge that is added, changes none of its counts."""
    flow, a, b, go_on = two_stages(make, graph)
    go_on.set()
    flow.start({a: range(10)})
    drawn, status = flow.to_mermaid(), flow.status()
    a.start(range(3))
    assert flow.to_mermaid() == drawn
    assert flow.status() == status
    c = make(abs, name="c")
    flow.connect(b, c)
    assert flow.to_mermaid() == drawn.replace("    s0 -->|", '    s2["c"]\n    s0 -->|') + "    s1 --> s2\n"


def test_managers_that_ran_alone_have_no_counts_in_a_graph_that_did_not(make: Any, graph: Any) -> None:
    """The status of a graph is that of its own runs."""
    a = make(abs, name="a")
    a.start(range(3))
    flow = graph().add(a)
    assert flow.status().stages[0].done == 0
    assert flow.to_mermaid() == 'flowchart LR\n    s0["a"]\n'


def test_notebook_gets_the_drawing(make: Any, graph: Any) -> None:
    """As Mermaid, as Markdown, and as text for whoever can show neither."""
    flow = graph("crawl").connect(make(abs, name="a"), make(abs, name="b"))
    text = flow.to_mermaid()
    assert flow._repr_mimebundle_() == {
        "text/vnd.mermaid": text,
        "text/markdown": f"```mermaid\n{text}```\n",
        "text/plain": "<TaskGraph(crawl) idle: 2 managers, 1 edges>",
    }


def test_status_may_be_asked_from_any_thread(make: Any, graph: Any) -> None:
    """While the graph runs, a second thread asks for status and drawing again and again, and all adds up in the end."""
    a = make(lambda task: [task, task + 0.5], name="a")
    b, c = make(abs, "thread", 2, name="b"), make(abs, "thread", 2, name="c")
    flow = graph("flow").connect(a, b, each=True).connect(b, c)
    seen: list[GraphStatus] = []
    errors: list[BaseException] = []
    over = threading.Event()

    def watch() -> None:
        try:
            while not over.is_set():
                seen.append(flow.status())
                flow.to_mermaid()
                flow.story(3)
        except BaseException as error:
            errors.append(error)

    watcher = threading.Thread(target=watch)
    watcher.start()
    wait_until(lambda: seen)
    flow.start({a: range(5000)})
    over.set()
    watcher.join()
    assert errors == []
    running = [status for status in seen if status.running]
    assert running
    assert all(status.layers == (("a",), ("b",), ("c",)) and status.is_dag for status in seen)
    for earlier, later in itertools.pairwise(running):
        assert earlier.seconds <= later.seconds
        for before, after in zip(earlier.stages, later.stages, strict=True):
            assert before.done <= after.done
    last = flow.status()
    assert not last.running
    assert [stage.done for stage in last.stages] == [5000, 10000, 10000]
    assert all(stage.pending == stage.running == stage.failed == 0 for stage in last.stages)
    assert all(stage.rate and stage.seconds_left is None for stage in last.stages)
    assert str(last).splitlines()[0] == f"flow (not running, {last.seconds:.1f} s)"


def test_status_counts_what_waits_before_a_stage(make: Any, graph: Any) -> None:
    """A stage that is held up has its tasks pending, and says how long they will take."""
    go_on, begun = threading.Event(), threading.Event()

    def hold(task: int) -> int:
        if task == 1:
            begun.set()
            go_on.wait(30)
        return task

    a, b = make(abs, name="a"), make(hold, "thread", 1, name="b")
    flow = graph().connect(a, b)
    with flow.stream({a: range(300)}) as outcomes:
        next(outcomes)
        begun.wait(30)
        status = flow.status()
        go_on.set()
        for _ in outcomes:
            pass
    a_status, b_status = status.stages
    assert status.running
    assert a_status.done == b_status.done + b_status.running + b_status.pending
    assert b_status.running >= 1
    assert b_status.rate is not None
    assert b_status.seconds_left == pytest.approx((b_status.running + b_status.pending) / b_status.rate)
    assert str(b_status).startswith(f"b: 1 done, {b_status.running} running, {b_status.pending} pending, ")


def test_status_knows_cycles_and_layers(make: Any, graph: Any) -> None:
    """The managers of a cycle share a layer; what follows it is below."""
    a, b, c, d = (make(abs, name=name) for name in "abcd")
    status = graph().chain(a, b, c, d).connect(c, b).status()
    assert (status.layers, status.is_dag) == ((("a",), ("b", "c"), ("d",)), False)
    assert [stage.layer for stage in status.stages] == [0, 1, 1, 2]
    assert not graph().connect(a, a).status().is_dag


def family_of_three(make: Any, graph: Any) -> Any:
    """Each task has two children, of which that of an odd number fails, and these are gathered."""

    def split(task: int) -> list[int]:
        return [10 * task, 10 * task + 1]

    def work(task: int) -> int:
        if task % 2:
            raise ValueError(task)
        return task

    a, b, c = make(split, name="split"), make(work, name="work"), make(lambda family: len(family.leaves), name="merge")
    return graph().connect(a, b, each=True).connect(a, c, gather=True), a


def test_story_is_the_family_tree_of_a_task(make: Any, graph: Any) -> None:
    """One line a task, children below their parent, each with what became of it."""
    flow, a = family_of_three(make, graph)
    assert flow.story(1) == "The graph has not run yet."
    leaves = {outcome.task: outcome for outcome in flow.stream({a: [1, 2]}) if outcome.stage == "work"}
    (merged,) = [id for id in range(8) if f"merge {id}" in flow.story(2)]
    assert flow.story(2) == (
        f"split {leaves[20].root} of 2: success\n"
        f"  work {leaves[20].id}: success\n"
        f"  work {leaves[21].id}: error\n"
        f"  merge {merged}: success"
    )
    assert flow.story(3) == "3 is no task of a source that is remembered."


def test_story_is_of_a_run_that_goes_on_too(make: Any, graph: Any) -> None:
    """What runs, what waits, and what has been left behind by a run that was closed."""
    go_on, begun = threading.Event(), threading.Event()

    def hold(task: int) -> int:
        if task == 1:
            begun.set()
            go_on.wait(30)
        return task

    def shaky(task: int) -> int:
        raise TimeoutError

    a, b = make(int, name="a"), make(hold, "thread", 1, name="b")
    c = make(shaky, "thread", 1, name="c", backoff=Backoff(initial=60, maximum=60, jitter=0))
    flow = graph(grace=30).connect(a, [b, c])
    with flow.stream({a: range(2)}) as outcomes:
        next(outcomes)
        begun.wait(30)
        wait_until(lambda: outcomes._refresh() or c.counts.retries == 2)
        during = flow.story(1)
        go_on.set()
    assert sorted(line.split()[0] + line.partition(":")[2] for line in during.splitlines()) == [
        "a success",
        "b running",
        "c waits for a retry",
    ]
    assert [line.partition(":")[2] for line in flow.story(0).splitlines() if "c " in line] == [" cancelled"]


def test_story_knows_duplicates_and_unhashable_tasks(make: Any, graph: Any) -> None:
    """A task of a source is found by an equal one, also a list; the second of two equal ones is a duplicate."""
    a = make(len, name="a")
    flow = graph().add(a)
    flow.start({a: [[1], {"x": 2}, [1], [3]]})
    assert flow.story([1]) == "a 0 of [1]: success\na 2 of [1]: duplicate"
    assert flow.story({"x": 2}) == "a 1 of {'x': 2}: success"
    assert flow.story([4]) == "[4] is no task of a source that is remembered."


@pytest.mark.parametrize("tasks", [[-1, -2, 0, 2**61 - 1, 1.0], [-2, "x", -1, True, 2**61]])
def test_story_of_a_number_is_of_that_number(make: Any, graph: Any, tasks: list[Any]) -> None:
    """-1 and -2 have one hash, as have 0 and 2**61 - 1, but are two tasks."""
    a = make(str, name="a")
    flow = graph().add(a)
    flow.start({a: tasks})
    for at, task in enumerate(tasks):
        assert flow.story(task) == f"a {at} of {task!r}: success"


def test_story_says_what_it_has_forgotten(make: Any, graph: Any) -> None:
    """Only the last tasks are remembered, of many children only so many are shown."""
    a, b = make(lambda task: range(task), name="a"), make(abs, name="b", enable_duplicate_check=False)
    flow = graph().connect(a, b, each=True)
    flow.start({a: [500]})
    lines = flow.story(500).splitlines()
    assert len(lines) == 201
    assert lines[-1] == "(and more: only the first 200 are shown)"
    flow.start({a: [20_000]})
    assert flow.story(20_000).splitlines()[-1] == "(only the last 16384 tasks of a run are remembered)"


class Thing:
    """A result that is watched."""


def test_graph_that_has_run_keeps_no_result(make: Any, graph: Any) -> None:
    """With caches off: neither what came of the tasks, nor the families that were gathered, nor tasks that had one."""
    living: weakref.WeakSet[Thing] = weakref.WeakSet()

    def create(task: int) -> list[Thing]:
        things = [Thing(), Thing()]
        living.update(things)
        return things

    off = {"enable_success_cache": False, "enable_error_cache": False}
    a, b = make(create, name="a", **off), make(lambda thing: thing, name="b", **off)
    c = make(lambda family: None, name="c", **off)
    flow = graph().connect(a, b, each=True).connect(a, c, gather=True)
    flow.start({a: range(1000)})
    gc.collect()
    assert len(living) <= 15  # in the summary: the five tasks of each stage that took longest
    assert flow.story(1).count("\n") == 3


def test_repr_says_whether_it_runs(make: Any, graph: Any) -> None:
    """And how large it is."""
    a = make(abs, name="a")
    flow: TaskGraph = graph("crawl").add(a)
    assert repr(flow) == "<TaskGraph(crawl) idle: 1 managers, 0 edges>"
    with flow.stream({a: [1, 2]}) as outcomes:
        next(outcomes)
        assert repr(flow) == "<TaskGraph(crawl) running: 1 managers, 0 edges>"
