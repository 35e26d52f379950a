"""Real registries, scraped as Prometheus does, while runs begin, go on and end in every way."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import urllib.request
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.parser import text_string_to_metric_families

from celestialflow_core import Backoff, TaskGraph, TaskManager, TooManyErrors, hookimpl
from celestialflow_core.testing import Resources, wait_until
from celestialflow_prometheus import Prometheus

Values = dict[tuple[str, ...], float]


@pytest.fixture
def registry() -> CollectorRegistry:
    """A registry with nothing in it."""
    return CollectorRegistry()


@pytest.fixture
def plugin(registry: CollectorRegistry) -> Prometheus:
    """The plugin that reports to it."""
    return Prometheus(registry)


def parsed(text: str) -> Values:
    """The samples that are not zero: name without its prefix, manager, and the value of the other label, if any."""
    return {
        (
            sample.name.removeprefix("celestialflow_"),
            sample.labels.pop("manager"),
            *sample.labels.values(),
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.value
    }


def scraped(registry: CollectorRegistry) -> Values:
    """What a scrape of *registry* gives."""
    return parsed(generate_latest(registry).decode())


def make(func: Any, plugin: Prometheus, mode: Any = None, **options: Any) -> TaskManager[Any, Any]:
    """A manager that writes no files."""
    chosen: dict[str, Any] = {"name": "job", "log_dir": None, "log_level": "ERROR", "backoff": Backoff(initial=0.0)}
    return TaskManager(func, mode, plugins=[plugin], **{**chosen, **options})


@pytest.mark.parametrize("mode", ["serial", "thread", "process"])
def test_finished_run_is_counted(mode: str, registry: CollectorRegistry, plugin: Prometheus) -> None:
    """Every task is in the total of its status, when the run is long over."""
    make(int, plugin, mode, worker_limit=2).start(["1", "2", "x", "2"])

    assert scraped(registry) == {
        ("tasks_total", "job", "success"): 2,
        ("tasks_total", "job", "error"): 1,
        ("tasks_total", "job", "duplicate"): 1,
        ("runs_total", "job", "complete"): 1,
    }


def test_running_run_is_scraped_over_http(registry: CollectorRegistry, plugin: Prometheus) -> None:
    """While tasks run, a scrape sees what has ended, what runs and what waits; afterwards nothing is left running."""
    before = Resources()
    server, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
    gate = threading.Event()

    def job(task: int) -> int:
        if task >= 3:
            assert gate.wait(60)
        return task

    def page() -> Values:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics", timeout=10) as answer:
            return parsed(answer.read().decode())

    def held(values: Values) -> tuple[float, float]:
        return values.get(done, 0), sum(values.get((name, "job"), 0) for name in ("tasks_running", "tasks_pending"))

    done = ("tasks_total", "job", "success")
    manager = make(job, plugin, "thread", worker_limit=2)
    run = threading.Thread(target=manager.start, args=(range(10),))
    run.start()
    try:
        wait_until(lambda: held(page()) == (3, 7))
        values = page()
        assert values["tasks_running", "job"] >= 2
        assert not any(name == "runs_total" for name, *_ in values)
    finally:
        gate.set()
        run.join()
        after = page()
        server.shutdown()
        thread.join()
        server.server_close()
    assert after == {done: 10, ("runs_total", "job", "complete"): 1}
    before.expect_no_leaks()


def test_totals_go_on_from_run_to_run(registry: CollectorRegistry, plugin: Prometheus) -> None:
    """A manager that starts again, and another one of its name, add to what is there; totals never fall."""
    totals = [0.0]

    def job(task: int) -> int:
        totals.append(scraped(registry).get(("tasks_total", "job", "success"), 0.0))
        return task

    manager = make(job, plugin)
    manager.start(range(4))
    manager.start(range(3))
    make(job, plugin).start(range(2))

    assert totals == sorted(totals)
    assert scraped(registry)["tasks_total", "job", "success"] == 9
    assert scraped(registry)["runs_total", "job", "complete"] == 3


def test_managers_at_a_time_are_added_up(registry: CollectorRegistry, plugin: Prometheus) -> None:
    """Two managers of one name, the second of which runs inside a task of the first."""
    inner = make(abs, plugin)
    seen: list[Values] = []

    def job(task: int) -> int:
        summary = inner.start(range(5))
        seen.append(scraped(registry))
        return summary.succeeded

    make(job, plugin).start([0])

    assert seen[0]["tasks_total", "job", "success"] == 5
    assert seen[0]["tasks_running", "job"] == 1
    assert scraped(registry)["tasks_total", "job", "success"] == 6


def test_retries_are_counted(registry: CollectorRegistry, plugin: Prometheus) -> None:
    """Attempts beyond the first have a total of their own."""

    def job(task: int) -> int:
        raise TimeoutError

    make(job, plugin, max_retries=3).start(range(2))

    assert scraped(registry)["retries_total", "job"] == 6
    assert scraped(registry)["tasks_total", "job", "error"] == 2


def test_graph_has_a_series_for_each_manager(registry: CollectorRegistry, plugin: Prometheus) -> None:
    """The managers of a graph are told apart by their names."""
    first, second = make(str, plugin, name="first"), make(int, plugin, "thread", name="second")

    TaskGraph(log_dir=None).connect(first, second).start({first: range(20)})

    assert scraped(registry) == {
        ("tasks_total", "first", "success"): 20,
        ("tasks_total", "second", "success"): 20,
        ("runs_total", "first", "complete"): 1,
        ("runs_total", "second", "complete"): 1,
    }


def broken() -> Iterator[int]:
    """A task, and then an error."""
    yield 1
    raise LookupError("no more tasks")


def interrupted() -> Iterator[int]:
    """A task, and then Ctrl-C."""
    yield 1
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("tasks", "raised", "end"),
    [
        (lambda: iter(range(3)), None, "complete"),
        (lambda: iter(["x", "y"]), TooManyErrors, "stopped"),
        (interrupted, KeyboardInterrupt, "stopped"),
        (broken, LookupError, "failed"),
    ],
)
def test_end_of_a_run_is_told_apart(
    tasks: Any, raised: Any, end: str, registry: CollectorRegistry, plugin: Prometheus
) -> None:
    """Complete, stopped or failed: one of them, once."""
    manager = make(int, plugin, stop=1)
    if raised is None:
        manager.start(tasks())
    else:
        with pytest.raises(raised):
            manager.start(tasks())

    ends = {key: value for key, value in scraped(registry).items() if key[0] == "runs_total"}
    assert ends == {("runs_total", "job", end): 1}


def test_stream_that_is_left_is_stopped(registry: CollectorRegistry, plugin: Prometheus) -> None:
    """Leaving the block of a stream ends the run, and what was running or waiting does not stay so."""
    with make(abs, plugin).stream(range(100)) as outcomes:
        next(iter(outcomes))

    values = scraped(registry)
    assert values["runs_total", "job", "stopped"] == 1
    assert ("tasks_running", "job") not in values
    assert ("tasks_pending", "job") not in values


def test_manager_that_vanishes_leaves_its_totals(registry: CollectorRegistry, plugin: Prometheus) -> None:
    """A stream that is dropped calls no hook: the manager is not kept alive for it, and what was seen stays."""
    manager = make(abs, plugin)
    seen = dropped(manager, registry)
    gone = weakref.ref(manager)
    del manager
    gc.collect()
    assert gone() is None

    values = scraped(registry)
    assert values == {("tasks_total", "job", "success"): seen}
    assert scraped(registry) == values


def test_manager_of_a_dropped_stream_can_start_again(registry: CollectorRegistry, plugin: Prometheus) -> None:
    """What it had counted stays in the total, to which the new run adds."""
    manager = make(abs, plugin)
    seen = dropped(manager, registry)

    manager.start(range(3))

    assert scraped(registry)["tasks_total", "job", "success"] == seen + 3
    assert scraped(registry)["runs_total", "job", "complete"] == 1


def dropped(manager: TaskManager[Any, Any], registry: CollectorRegistry) -> float:
    """Begin a stream of *manager* and drop it; gives the successes that a scrape saw before."""
    outcomes = iter(manager.stream(range(100)))
    next(outcomes)
    seen = scraped(registry)["tasks_total", "job", "success"]
    assert seen >= 1
    with pytest.warns(ResourceWarning):
        del outcomes
        gc.collect()
    return seen


def test_nothing_is_called_for_a_task(plugin: Prometheus) -> None:
    """Of the hooks, only those that are called once a run are implemented."""
    marked = {name for name in dir(plugin) if hasattr(getattr(plugin, name), "celestialflow_impl")}

    assert marked == {"on_start", "on_finish"}


def test_taken_name_disturbs_no_run(registry: CollectorRegistry, plugin: Prometheus) -> None:
    """A second collector of the same names cannot enter a registry: a hook that raises, and the run goes on."""
    make(abs, plugin).start([1])

    summary = make(abs, Prometheus(registry)).start([1, 2])

    assert (summary.succeeded, summary.hook_errors) == (2, 1)
    assert scraped(registry)["tasks_total", "job", "success"] == 1


@pytest.fixture
def hurried() -> Iterator[None]:
    """Threads are switched as often as can be, so that what is not guarded goes wrong."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("hurried")
def test_scrapes_and_runs_in_many_threads_agree(registry: CollectorRegistry, plugin: Prometheus) -> None:
    """Runs begin and end in several threads while others scrape: no scrape fails, and all is counted."""
    over = threading.Event()
    failures: list[BaseException] = []

    def scrape() -> None:
        last = 0.0
        try:
            while not over.is_set():
                total = scraped(registry).get(("tasks_total", "job", "success"), 0.0)
                assert total >= last
                last = total
        except BaseException as error:
            failures.append(error)

    def work() -> None:
        for _ in range(20):
            make(abs, plugin).start(range(50))

    scrapers = [threading.Thread(target=scrape) for _ in range(2)]
    workers = [threading.Thread(target=work) for _ in range(3)]
    for thread in (*scrapers, *workers):
        thread.start()
    for thread in workers:
        thread.join()
    over.set()
    for thread in scrapers:
        thread.join()

    assert failures == []
    assert scraped(registry)["tasks_total", "job", "success"] == 3 * 20 * 50


def test_library_is_imported_by_the_first_run_alone() -> None:
    """To import the plugin does not import prometheus_client; a run does."""
    code = (
        "import sys, celestialflow_prometheus\n"
        "assert not any(name.startswith('prometheus_client') for name in sys.modules)\n"
        "from celestialflow_core import TaskManager\n"
        "TaskManager(abs, log_dir=None).start([1])\n"
        "print('prometheus_client' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout == "True\n"


def test_hooks_are_marked() -> None:
    """The mark that the tests look for is the one that ``hookimpl`` leaves."""
    assert hasattr(hookimpl(lambda: None), "celestialflow_impl")
