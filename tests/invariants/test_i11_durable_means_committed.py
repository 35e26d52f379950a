"""I11: an outcome goes on only after every sink has accepted it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from celestialflow_core import GraphError, Outcome, SinkError, TaskGraph, TaskManager, TooManyErrors, hookimpl
from celestialflow_core.sinks import Manifest, Record


class Memory:
    """A store that keeps records in a dict; may be told to fail, and says what was done to it."""

    def __init__(self, *, batch: tuple[int, float] = (1000, 0.05), fails_at: int | None = None) -> None:
        self.batch = batch
        self.fails_at = fails_at
        self.rows: dict[str, Record] = {}
        self.batches: list[list[Outcome[Any, Any]]] = []
        self.asked: list[int] = []
        self.closed: list[BaseException | None] = []
        self.manifest: Manifest | None = None
        self.thread = threading.current_thread()

    def open(self, run: Manifest) -> None:
        self.manifest = run

    def write(self, outcomes: Sequence[Outcome[Any, Any]]) -> None:
        assert threading.current_thread() is self.thread
        if self.fails_at is not None and len(self.batches) >= self.fails_at:
            raise OSError("no space left")
        self.batches.append(list(outcomes))
        for outcome in outcomes:
            self.rows[outcome.key] = Record(
                key=outcome.key, status=outcome.status, value=outcome.value, error=outcome.error
            )

    def close(self, error: BaseException | None) -> None:
        self.closed.append(error)

    def restore(self, keys: Sequence[str]) -> Mapping[str, Record]:
        self.asked.append(len(keys))
        return {key: self.rows[key] for key in keys if key in self.rows}

    def tasks(self) -> list[Any]:
        return [outcome.task for batch in self.batches for outcome in batch]


def quiet(func: Any, mode: Any = None, **options: Any) -> TaskManager[Any, Any]:
    return TaskManager(func, mode, log_dir=None, max_retries=0, **options)


def odd_fails(task: int) -> int:
    if task % 2:
        raise ValueError(task)
    return 10 * task


MODES = [("serial", {}), ("thread", {"worker_limit": 4}), ("process", {"worker_limit": 2})]


@pytest.mark.parametrize(("mode", "how"), MODES)
def test_streamed_outcome_has_been_accepted(mode: str, how: Any) -> None:
    """Successes and errors, before the consumer has them."""
    store = Memory()
    with quiet(odd_fails, mode, sinks=[store], **how).stream(range(200)) as outcomes:
        seen = 0
        for outcome in outcomes:
            assert outcome.key in store.rows
            seen += 1
    assert (seen, len(store.rows), store.closed) == (200, 200, [None])


def test_hook_and_next_stage_come_after_the_sink() -> None:
    """What a hook is told, and what an edge takes, has been accepted before."""
    store = Memory()
    told = []

    class Plugin:
        @hookimpl
        def on_success(self, outcome: Outcome[Any, Any]) -> None:
            assert outcome.key in store.rows
            told.append(outcome.task)

    first = quiet(abs, name="first", plugins=[Plugin()])
    second = quiet(lambda task: task in [outcome.task for outcome in store.batches[0]] and store.tasks(), name="second")
    graph = TaskGraph(sinks=[store], log_dir=None)
    graph.connect(first, second)
    assert graph.start({first: range(50)}).succeeded == 100
    assert sorted(told) == list(range(50))


def test_batch_closes_at_its_rows_and_before_the_driver_waits() -> None:
    """No batch is larger than the sink asks for, and none waits while there is nothing else to do."""
    store = Memory(batch=(7, 60.0))
    release = threading.Event()
    with quiet(lambda task: task or release.wait(30), "thread", sinks=[store], worker_limit=2).stream([1, 0]) as stream:
        assert next(stream).task == 1  # a batch of one, while the other call runs on
        release.set()
        assert next(stream).task == 0
    assert [len(batch) for batch in store.batches] == [1, 1]
    store = Memory(batch=(7, 60.0))
    quiet(abs, sinks=[store]).start(range(100))
    assert max(len(batch) for batch in store.batches) <= 7
    assert store.tasks() == list(range(100))


@pytest.mark.parametrize(("mode", "how"), MODES)
def test_sink_that_fails_ends_the_run_with_what_it_did_not_write(mode: str, how: Any) -> None:
    """Two batches stay stored; the third and all that settles after it are in the error; the sink is closed."""
    store = Memory(batch=(5, 60.0), fails_at=2)
    manager = quiet(abs, mode, sinks=[store], enable_success_cache=True, **how)
    with pytest.raises(SinkError, match="no space left") as raised:
        manager.start(range(500))
    error = raised.value
    assert len(store.batches) == 2
    assert isinstance(error.__cause__, OSError)
    (closed,) = store.closed
    assert isinstance(closed, SinkError)
    finished = set(manager.success_dict)
    assert {outcome.task for outcome in error.unwritten} == finished - set(store.tasks())
    summary = manager.summary
    assert summary is not None
    assert summary.total == summary.succeeded + summary.cancelled


def test_outcome_that_was_not_accepted_is_not_streamed() -> None:
    """The stream gives what was stored before, then the error."""
    store = Memory(batch=(3, 60.0), fails_at=1)
    seen = []
    with pytest.raises(SinkError), quiet(abs, sinks=[store]).stream(range(100)) as outcomes:
        for outcome in outcomes:
            seen.append(outcome.task)
    assert seen == store.tasks()


def test_sink_that_refuses_to_open_stops_the_run_before_it_begins() -> None:
    """Nothing is called, the sinks that had opened are closed, and the manager can be used again."""
    calls = []
    good, bad = Memory(), Memory()

    def refuse(run: Manifest) -> None:
        raise SinkError("bad", "It is in use.")

    bad.open = refuse  # type: ignore[method-assign]  # this one object refuses
    manager = quiet(calls.append, sinks=[good, bad])
    with pytest.raises(SinkError, match="in use"):
        manager.start([1])
    assert (calls, len(good.closed), bad.closed) == ([], 1, [])
    bad.open = lambda run: None  # type: ignore[method-assign]
    assert manager.start([1]).succeeded == 1


@pytest.mark.parametrize(("mode", "how"), MODES)
def test_resumed_run_runs_what_is_not_done(mode: str, how: Any) -> None:
    """What failed runs again, what succeeded is restored with its value, and both are streamed and kept."""
    store = Memory()
    quiet(odd_fails, mode, sinks=[store], **how).start(range(100))
    manager = quiet(abs, mode, sinks=[store], resume=True, enable_success_cache=True, **how)
    with manager.stream(range(120), ordered=True) as stream:
        outcomes = list(stream)
    assert [outcome.task for outcome in outcomes] == list(range(120))
    assert [outcome.status for outcome in outcomes[:4]] == ["restored", "success", "restored", "success"]
    assert manager.success_dict == {task: 10 * task if task % 2 == 0 and task < 100 else task for task in range(120)}
    summary = manager.summary
    assert summary is not None
    assert (summary.restored, summary.succeeded, summary.total) == (50, 70, 120)


def test_resume_unfinished_leaves_failures_alone_and_failed_runs_nothing_else() -> None:
    """The three ways to go on."""
    store = Memory()
    quiet(odd_fails, sinks=[store]).start(range(10))
    unfinished = quiet(odd_fails, sinks=[store], resume="unfinished", enable_error_cache=True)
    summary = unfinished.start(range(12))
    assert (summary.restored, summary.succeeded, summary.failed) == (10, 1, 1)
    assert set(unfinished.error_dict) == {1, 3, 5, 7, 9, 11}
    ran: list[int] = []
    failed = quiet(ran.append, sinks=[store], resume="failed").start(range(20))
    assert ran == [1, 3, 5, 7, 9, 11]
    assert (failed.succeeded, failed.restored, failed.skipped) == (6, 6, 8)
    assert failed.total == 12


def test_restored_duplicate_is_a_duplicate() -> None:
    """Also where the first of them was restored."""
    store = Memory()
    quiet(abs, sinks=[store]).start([1])
    summary = quiet(abs, sinks=[store], resume=True).start([1, 1, 2, 2])
    assert (summary.restored, summary.succeeded, summary.duplicates) == (1, 1, 2)


def test_store_is_asked_by_the_batch_also_for_a_generator() -> None:
    """One question for many tasks."""
    store = Memory()
    quiet(abs, sinks=[store]).start(range(5000))
    store.asked.clear()
    assert quiet(abs, sinks=[store], resume=True).start(task for task in range(5000)).restored == 5000
    assert sum(store.asked) == 5000
    assert len(store.asked) < 500


def test_task_without_a_stable_key_is_its_own_error() -> None:
    """The message names the hook that can give one; the others are stored."""
    store = Memory()
    strange = object()
    manager = quiet(str, sinks=[store], enable_error_cache=True)
    assert manager.start([1, strange, 2]).failed == 1
    assert "task_key" in str(manager.error_dict[strange])
    assert store.tasks() == [1, 2]

    class Keys:
        @hookimpl
        def task_key(self, task: Any) -> Any:
            return "strange" if task is strange else None

    assert quiet(str, sinks=[store], plugins=[Keys()]).start([1, strange]).succeeded == 2


def test_resume_is_refused_where_it_cannot_be_kept() -> None:
    """Without a store, without the duplicate check, with a word that means nothing."""
    with pytest.raises(ValueError, match="needs a store"):
        quiet(abs, resume=True)
    with pytest.raises(ValueError, match="enable_duplicate_check"):
        quiet(abs, sinks=[Memory()], resume=True, enable_duplicate_check=False)
    with pytest.raises((TypeError, ValueError), match="unfinished"):
        quiet(abs, sinks=[Memory()], resume="all")

    class NoStore:
        def open(self, run: Manifest) -> None: ...
        def write(self, outcomes: Sequence[Outcome[Any, Any]]) -> None: ...
        def close(self, error: BaseException | None) -> None: ...

    with pytest.raises(ValueError, match="restore"):
        quiet(abs, sinks=[NoStore()], resume=True).start([1])
    with pytest.raises(TypeError, match="sinks must be a list"):
        quiet(abs, sinks="sqlite:x.db")


def test_stop_rule_and_interrupt_still_store_what_finished() -> None:
    """However the run ends."""
    store = Memory()
    with pytest.raises(TooManyErrors):
        quiet(odd_fails, sinks=[store], stop=3).start(range(100))
    assert {outcome.status for batch in store.batches for outcome in batch} == {"success", "error"}

    def interrupted() -> Any:
        yield from range(5)
        raise KeyboardInterrupt

    store = Memory(batch=(1000, 60.0))
    with pytest.raises(KeyboardInterrupt):
        quiet(abs, sinks=[store]).start(interrupted())
    assert store.tasks() == list(range(5))
    assert isinstance(store.closed[0], KeyboardInterrupt)


def test_dropped_stream_writes_nothing_more_and_releases_the_sink() -> None:
    """Nobody consumes it: its sinks are closed."""
    store = Memory()
    stream = quiet(abs, sinks=[store]).stream(range(10**6))
    next(stream)
    with pytest.warns(ResourceWarning, match="dropped"):
        del stream
    assert len(store.closed) == 1


def test_async_run_stores_in_its_loop() -> None:
    """start_async and stream_async."""

    async def job(task: int) -> int:
        await asyncio.sleep(0)
        return -task

    async def run() -> None:
        store = Memory()
        summary = await quiet(job, sinks=[store]).start_async(range(50))
        assert (summary.succeeded, len(store.rows)) == (50, 50)
        async with quiet(job, sinks=[store], resume=True).stream_async(range(60)) as outcomes:
            seen = [outcome async for outcome in outcomes]
        assert sum(outcome.status == "restored" for outcome in seen) == 50
        assert all(outcome.key in store.rows for outcome in seen)

    asyncio.run(run())


# ---------------------------------------------------------------------- graphs


def crawl(store: Memory, links: dict[int, list[int]], resume: bool = False) -> Any:
    """A cycle with a join."""
    ran: list[tuple[str, Any]] = []

    def fetch(page: int) -> list[int]:
        ran.append(("fetch", page))
        return links[page]

    def index(family: Any) -> list[int]:
        ran.append(("index", family.root.task))
        return sorted(leaf.task for leaf in family.leaves if leaf.ok)

    start = quiet(lambda task: [task], name="start")
    fetcher, indexer = quiet(fetch, name="fetch"), quiet(index, name="index", enable_success_cache=True)
    graph = TaskGraph("crawl", sinks=[store], resume=resume, log_dir=None)
    graph.connect(start, fetcher, each=True)
    graph.connect(fetcher, fetcher, each=True)
    graph.connect(start, indexer, gather=True)
    return graph, start, indexer, ran


def test_resumed_graph_goes_on_from_what_was_reached() -> None:
    """Restored pages lead to the pages that had not been reached; the join is made again since it has new leaves."""
    store = Memory()
    links = {0: [1, 2], 1: [3], 2: [], 3: []}
    graph, start, _, ran = crawl(store, links)
    graph.start({start: [0]})
    del store.rows[next(key for key, row in store.rows.items() if key.endswith("@fetch") and row.value == [3])]
    links[1] = [3, 4]
    links[4] = []
    graph, start, indexer, ran = crawl(store, links, resume=True)
    summary = graph.start({start: [0]})
    assert sorted(ran) == [("fetch", 1), ("fetch", 4), ("index", 0)]
    assert summary.restored == 4
    graph, start, indexer, ran = crawl(store, links, resume=True)
    again = graph.start({start: [0]})
    assert ran == []
    assert again.restored == 7
    assert len(indexer.success_dict) == 1
    assert graph.story(0).splitlines()[:2] == ["start 0 of 0: restored", "  fetch 1: restored"]
    assert '"start<br/>0 ok, 1 restored"' in graph.to_mermaid()


def test_graph_refuses_options_of_stores_in_its_managers() -> None:
    """They are the graph's."""
    a, b = quiet(abs, name="a"), quiet(abs, name="b", sinks=[Memory()])
    with pytest.raises(GraphError, match="'b' has sinks="):
        TaskGraph(log_dir=None).connect(a, b)
    loose = quiet(abs, name="loose", enable_duplicate_check=False)
    with pytest.raises(GraphError, match="duplicate check off"):
        TaskGraph(log_dir=None, sinks=[Memory()], resume=True).connect(a, loose)
