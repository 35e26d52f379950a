"""What a graph refuses, before anything runs, with a message that names the edge or the manager and says what to do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from celestialflow_core import GraphError, RunInProgress, TaskGraph, TaskManager, TooManyErrors, WorkerSetupError


def refusal(call: Callable[..., Any], *args: Any, **how: Any) -> str:
    """The message of the GraphError that *call* raises."""
    with pytest.raises(GraphError) as caught:
        call(*args, **how)
    return str(caught.value)


# -------------------------------------------------------------------- edges


def test_self_edge_without_an_end_is_refused(make: Any, graph: Any) -> None:
    """Without the duplicate check it needs a when."""
    a = make(abs, name="a", enable_duplicate_check=False)
    flow = graph()
    assert refusal(flow.connect, a, a) == (
        "Edge a -> a has no end: every result is a task again. Give it a when, or leave the duplicate check of 'a' on."
    )
    assert flow.managers == ()
    flow.connect(a, a, when=lambda value: False)
    assert flow.start({a: [1]}).succeeded == 1
    known = make(abs, name="known")
    assert graph().connect(known, known).start({known: [-1]}).total == 3  # -1, 1, and 1 again


def test_cycle_without_an_end_is_refused(make: Any, graph: Any) -> None:
    """Where none of its managers knows a task again, and no edge may pass nothing on."""
    a, b, c = (make(abs, name=name, enable_duplicate_check=False) for name in "abc")
    flow = graph().connect(a, b).connect(b, c)
    message = refusal(flow.connect, c, a)
    assert message == (
        "The cycle a -> b -> c -> a has no end: every result goes round, and none of its managers knows a task again. "
        "Give one of its edges a when, or leave a duplicate check on."
    )
    assert flow.start({a: [1]}).succeeded == 3


@pytest.mark.parametrize("order", [0, 1, 2])
def test_gather_inside_its_own_cycle_is_refused(make: Any, graph: Any, order: int) -> None:
    """In whatever order the edges come: the last of them is refused."""
    a, b, c = (make(abs, name=name) for name in "abc")
    edges: list[Any] = [((a, b), {"gather": True}), ((b, c), {}), ((c, a), {"when": bool})]
    edges = edges[order:] + edges[:order]
    flow = graph()
    for (source, target), how in edges[:2]:
        flow.connect(source, target, **how)
    (source, target), how = edges[2]
    assert refusal(flow.connect, source, target, **how).startswith(
        "Edge a -> b gathers inside its own cycle: what came of a task of 'a' would never be complete, since 'b' leads "
        "back to it. Let the cycle end in a manager outside, or gather from one before it."
    )


def test_arguments_that_contradict_are_refused(make: Any, graph: Any) -> None:
    """Each message names the edge."""
    a, b = make(abs, name="a"), make(abs, name="b")
    flow: TaskGraph = graph()
    assert refusal(flow.connect, a, [b, b]) == "Edge a -> [b, b]: a manager is there twice. Name each target once."
    assert refusal(flow.connect, a, b, gather=True, each=True).startswith("Edge a -> b: gather=True makes one task of")
    assert refusal(flow.connect, a, b, gather=True, route=str).startswith("Edge a -> b: gather=True makes one task of")
    assert refusal(flow.connect, a, b, gather=True, on="error").startswith("Edge a -> b: gather=True makes one task of")
    assert refusal(flow.connect, a, b, on="error", each=True).startswith('Edge a -> b: on="error" passes the outcome')
    assert refusal(flow.connect, a, b, on="error", route=str).startswith('Edge a -> b: on="error" passes the outcome')
    assert refusal(flow.connect, a, b, on="failure") == (
        'Edge a -> b: on must be "success" or "error", got \'failure\'.'
    )
    assert refusal(flow.connect, a, []) == "connect got an empty list of managers. Name at least one."
    assert flow.managers == ()


def test_arguments_of_the_wrong_kind_are_type_errors(make: Any, graph: Any) -> None:
    """A function where a manager belongs, a manager where a function does."""
    a, b = make(abs, name="a"), make(abs, name="b")
    flow = graph()
    with pytest.raises(TypeError, match="connect takes a manager and one or a list of managers, got <built-in"):
        flow.connect(a, abs)
    with pytest.raises(TypeError, match=r"A graph is made of TaskManagers, got <built-in .* Wrap a function: TaskMan"):
        flow.connect(abs, b)
    with pytest.raises(TypeError, match="A graph is made of TaskManagers, got 'b'"):
        flow.connect(a, [b, "b"])
    with pytest.raises(TypeError, match="A graph is made of TaskManagers, got 1"):
        flow.add(a, 1)
    with pytest.raises(TypeError, match="when must be a function of a result, or None, got 1"):
        flow.connect(a, b, when=1)
    with pytest.raises(TypeError, match="each must be True or False, got 1"):
        flow.connect(a, b, each=1)
    with pytest.raises(TypeError, match="cross takes lists of managers, got TaskManager"):
        flow.cross([a], b)
    with pytest.raises(TypeError, match="grid takes lists of managers, got TaskManager"):
        flow.grid(a, [b])
    with pytest.raises(TypeError, match="name must be a str, got 1"):
        TaskGraph(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match='schedule must be "streaming" or "staged", got \'fast\''):
        graph(schedule="fast")
    assert flow.managers == ()


def test_two_managers_of_one_name_are_refused(make: Any, graph: Any) -> None:
    """In one edge, in two, and without edges; what was there before stays."""
    a, b, c = make(abs, name="a"), make(abs, name="b"), make(abs, name="c")
    twin = make(len, name="a", enable_duplicate_check=False)
    other = make(len, name="a", enable_duplicate_check=False)
    message = "Two managers of the graph are named 'a'. Give one of them another name: TaskManager(..., name=...)."
    assert refusal(graph().connect, twin, other) == message
    assert refusal(graph().connect, b, [a, twin]) == message
    assert refusal(graph().add, a, twin) == message
    flow = graph().connect(a, b)
    assert refusal(flow.connect, c, twin) == message
    assert refusal(flow.add, c, twin) == message
    assert refusal(flow.chain, b, c, twin) == message
    assert flow.managers == (a, b)
    assert flow.to_mermaid().count("-->") == 1


def test_shape_that_is_refused_leaves_the_graph_as_it_was(make: Any, graph: Any) -> None:
    """Also where its first edges are good ones."""
    a, b, c = (make(abs, name=name, enable_duplicate_check=False) for name in "abc")
    flow = graph().add(a)
    assert "has no end" in refusal(flow.ring, a, b, c)
    assert flow.managers == (a,)
    assert flow.to_mermaid() == 'flowchart LR\n    s0["a"]\n'
    assert "'a' -> " not in refusal(flow.chain, a, a)


def test_option_that_only_the_graph_can_keep_is_refused(make: Any, graph: Any) -> None:
    """max_in_flight of a manager."""
    a, b = make(abs, name="a"), make(abs, name="b", max_in_flight=100)
    flow = graph()
    assert refusal(flow.connect, a, b) == (
        "'b' has a max_in_flight of its own, which cannot be kept in a graph. Leave it out, and give it to the "
        "TaskGraph."
    )
    assert flow.managers == ()


# -------------------------------------------------------------------- sources


@pytest.mark.parametrize("how", ["start", "stream", "start_async", "stream_async"])
def test_sources_that_cannot_be_are_refused(make: Any, graph: Any, how: str) -> None:
    """Nothing has been started, in none of the ways to run: graph and managers run afterwards."""
    a, b, twin = make(abs, name="a"), make(abs, name="b"), make(abs, name="a")
    flow = graph().connect(a, b)

    def run(sources: Any) -> None:
        async def main() -> None:
            if how == "start_async":
                await flow.start_async(sources)
            else:
                async for _ in flow.stream_async(sources):
                    pass

        if "async" in how:
            asyncio.run(main())
        elif how == "start":
            flow.start(sources)
        else:
            for _ in flow.stream(sources):
                pass

    assert refusal(run, {b: [1]}) == (
        "No source reaches 'a'. Give it tasks of its own, connect something to it, or leave it out of the graph."
    )
    assert "No source reaches 'a', 'b'." in refusal(run, {})
    stranger = "is no manager of the graph. Connect it, or add it: graph.add(manager)."
    assert refusal(run, {twin: [1]}) == f"The source {twin!r} {stranger}"
    assert refusal(run, {"c": [1]}) == f"The source 'c' {stranger}"
    assert refusal(run, {a: [1], "a": [2]}) == "'a' is given tasks twice. Chain them: itertools.chain(a, b)."
    with pytest.raises(TypeError, match=r"A graph takes its tasks by manager, \{manager: tasks\}, got list"):
        run([1])
    with pytest.raises(TypeError, match="tasks must be an iterable of tasks, got int"):
        run({a: 1})
    with pytest.raises(TypeError, match="tasks must be an iterable of tasks, got one str"):
        run({a: "abc"})
    assert a.start([1]).succeeded == b.start([1]).succeeded == 1
    assert flow.start({"a": [1, 2], b: [3]}).succeeded == 5


def test_graph_without_managers_is_refused(graph: Any) -> None:
    """There is nothing to run."""
    assert refusal(graph().start, {}) == "The graph has no managers. Connect some, or add one."


def test_manager_that_was_renamed_is_refused(make: Any, graph: Any) -> None:
    """Its name is that under which it was connected."""
    a, b = make(abs, name="a"), make(abs, name="b")
    flow = graph().connect(a, b)
    b.name = "c"
    assert refusal(flow.start, {a: [1]}) == (
        "'b' has been renamed since it was connected. Name managers when they are made."
    )
    b.name = "b"
    assert flow.start({a: [1]}).succeeded == 2


# -------------------------------------------------------------------- while running


def test_graph_that_runs_is_not_changed_nor_started_again(make: Any, graph: Any) -> None:
    """Edges, managers, shapes; a second start is a RunInProgress. The run goes on."""
    a, b, c = make(abs, name="a"), make(abs, name="b"), make(abs, name="c")
    flow = graph().connect(a, b)
    with flow.stream({a: range(10)}) as outcomes:
        next(outcomes)
        message = "<TaskGraph(graph) running: 2 managers, 1 edges> is running, and cannot be changed before its end."
        assert refusal(flow.connect, b, c) == refusal(flow.add, c) == refusal(flow.chain, b, c) == message
        with pytest.raises(RunInProgress, match=r"running.* is already running\. Wait for its end, or close its str"):
            flow.start({a: [1]})
        with pytest.raises(RunInProgress):
            flow.stream({a: [1]})
        assert len(list(outcomes)) == 9
    assert flow.connect(b, c).start({a: [1]}).succeeded == 3


def test_graph_is_not_changed_by_its_own_tasks(make: Any, graph: Any) -> None:
    """An edge that a task adds is that task's error."""
    flow = graph()
    b = make(abs, name="b")
    a = make(lambda task: flow.add(b), "thread", 1, name="a")
    flow.add(a)
    assert flow.start({a: [1]}).failed == 1
    assert type(a.error_dict[1]) is GraphError


def test_manager_is_in_one_run_at_a_time(make: Any, graph: Any) -> None:
    """Two graphs, a graph and a run of its own, either way round; all of them can run afterwards."""
    a, b, c = make(abs, name="a"), make(abs, name="b"), make(abs, name="c")
    one, two = graph("one").connect(a, b), graph("two").connect(c, b)
    busy = "is already running, by itself or in another graph. Wait for the end of that run, or use a second manager."
    with one.stream({a: range(10)}) as outcomes:
        next(outcomes)
        assert busy in refusal(two.start, {c: [1]})
        assert "TaskManager(b, serial) running" in refusal(two.start, {c: [1]})
        assert c.start([1]).succeeded == 1
        with pytest.raises(RunInProgress):
            b.start([1])
        with pytest.raises(RunInProgress):
            b.stream([1])
        with pytest.raises(RunInProgress):
            asyncio.run(b.start_async([1]))
        assert len(list(outcomes)) == 9
    with b.stream([1, 2]) as alone:
        next(alone)
        assert busy in refusal(one.start, {a: [1]})
        assert a.start([1]).succeeded == 1
    assert two.start({c: [1]}).succeeded == one.start({a: [1]}).succeeded == 2


def test_graphs_of_two_threads_run_beside_each_other(make: Any, graph: Any) -> None:
    """What only one of them can have is refused to the other; what they do not share runs at the same time."""
    together = threading.Barrier(2)

    def meet(task: int) -> int:
        together.wait(30)
        return task

    summaries = []

    def run(name: str) -> None:
        a, b = make(meet, name="a"), make(abs, name="b")
        summaries.append(graph(name).connect(a, b).start({a: range(3)}))

    threads = [threading.Thread(target=run, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted((summary.name, summary.succeeded) for summary in summaries) == [("one", 6), ("two", 6)]


# -------------------------------------------------------------------- as it begins


def broken_setup() -> None:
    """A worker that cannot start."""
    raise OSError("no license")


@pytest.mark.parametrize("how", ["start", "start_async"])
@pytest.mark.parametrize("mode", [None, "thread", "async", "process"])
def test_worker_that_cannot_start_names_its_stage(make: Any, graph: Any, mode: Any, how: str) -> None:
    """The run ends, everything is released, and the other managers are free."""
    first = make(abs, "thread", 2, name="first")
    second = make(_async_abs if mode == "async" else abs, mode, 2, name="second", worker_setup=broken_setup)
    flow = graph().connect(first, second)
    with pytest.raises(WorkerSetupError, match="no license") as caught:
        asyncio.run(flow.start_async({first: [1]})) if how == "start_async" else flow.start({first: [1]})
    assert "This was in stage 'second'." in caught.value.__notes__
    assert first.start([1]).succeeded == 1
    third = make(abs, name="third")
    assert graph().connect(first, third).start({first: [2]}).succeeded == 2


async def _async_abs(task: int) -> int:
    return abs(task)


def test_iterable_that_cannot_begin_releases_everything(make: Any, graph: Any) -> None:
    """An __iter__ that raises, after the other source has been opened."""

    class Broken:
        def __iter__(self) -> Any:
            raise LookupError("nothing there")

    a, b = make(abs, name="a"), make(abs, "thread", 2, name="b")
    flow = graph().connect(a, b)
    with pytest.raises(LookupError, match="nothing there"):
        flow.start({a: [1], b: Broken()})
    assert flow.start({a: [1]}).succeeded == 2


def test_stop_rule_names_its_stage(make: Any, graph: Any) -> None:
    """That of a manager ends the graph; the error has the summary of all."""

    def fail(task: int) -> int:
        raise ValueError(task)

    a, b = make(abs, name="a"), make(fail, name="b", stop=3)
    flow = graph().connect(a, b)
    with pytest.raises(TooManyErrors, match="in stage 'b'") as caught:
        flow.start({a: range(10_000)})
    summary = caught.value.summary
    assert summary is flow.summary
    assert summary.name == "graph"
    assert summary.failed == 3
    assert summary.stopped.endswith("in stage 'b'")
    assert {stage.stopped for stage in summary.stages} == {summary.stopped}
    manager: TaskManager[Any, Any] = a
    assert manager.summary == summary.stages[0]
