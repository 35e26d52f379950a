"""What is measured, and what each comparison has to reach.

A scenario has entries, measured in turn, and bounds: each compares one entry of ours with a peer, or with the bare
mechanism that nothing can beat, and says what must be reached and what is aimed at.
"""

from __future__ import annotations

from typing import Literal

import attrs
import clusters
import contestants
import graphs
import stores
import tasks
from contestants import Contestant, Function

__all__ = ["SCENARIOS", "Bound", "Entry", "Scenario"]

Kind = Literal["time", "memory", "launch"]

ROUNDS, ROUNDS_OF_TIGHT_BOUNDS = 5, 9
TIGHT = 1.2


@attrs.frozen
class Entry:
    """One contestant of a scenario.

    Attributes:
        name: Its name in tables.
        contestant: What runs the tasks.
        share: The part of the scenario's tasks that it is given; figures are by the task.
        needs: A module that it cannot do without, and that the project does not depend on.
        code: Of a launch: what the interpreter is started for, in place of a contestant.
    """

    name: str
    contestant: Contestant = contestants.bare_loop
    share: float = attrs.field(default=1.0, kw_only=True)
    needs: str | None = attrs.field(default=None, kw_only=True)
    code: str = attrs.field(default="", kw_only=True)


@attrs.frozen(kw_only=True)
class Bound:
    """What the median of the same-round ratios of two entries should be.

    Attributes:
        ours: The entry that is judged.
        peer: The one it is judged by, in memory by the difference; None where the figure itself is judged.
        must: What it has to reach.
        aim: What it should reach.
        faster: The ratio says how many times faster ours is, so the more the better; else how many times as long ours
            takes, so the less the better.
    """

    ours: str
    peer: str | None = None
    must: float
    aim: float | None = None
    faster: bool = False


@attrs.frozen(kw_only=True)
class Scenario:
    """One kind of work.

    Attributes:
        name: What ``--scenario`` calls it.
        title: The work, in words.
        entries: Who does it.
        bounds: What is compared.
        kind: What is measured: us a task, MB above the warm-up, or ms to start an interpreter.
        size: How many tasks.
        workers: How many threads, processes or coroutines may run.
        function: What is run on each task.
        warm_up: How many tasks are run before the measurement.
    """

    name: str
    title: str
    entries: tuple[Entry, ...]
    bounds: tuple[Bound, ...]
    kind: Kind = "time"
    size: int = 1
    workers: int = 1
    function: Function = tasks.add_one
    warm_up: int = 64

    @property
    def rounds(self) -> int:
        """How many rounds it takes to tell whether the bounds are kept."""
        tight = self.kind == "time" and any(bound.must < TIGHT and not bound.faster for bound in self.bounds)
        return ROUNDS_OF_TIGHT_BOUNDS if tight else ROUNDS

    def entry(self, name: str) -> Entry:
        """The entry called *name*."""
        return next(entry for entry in self.entries if entry.name == name)


OURS, OURS_WITH_LOG = "start()", "start(), log file on"
BARE_LOOP, BARE_THREADS, BARE_COROUTINES = "bare loop", "bare threads", "bare worker coroutines"
PIPES, SINGLE_PIPES = "raw pipes, batches of 256", "raw pipes, one by one"
THREAD_POOL, PROCESS_POOL = "ThreadPoolExecutor.submit", "ProcessPoolExecutor.submit"
PEBBLE, GATHER = "pebble, chunks of 256", "gather + Semaphore"
INTERPRETER, PARTS = "bare interpreter", "import pluggy, attrs"
ON_DASK, MAP, DASK_BATCHES = "start() on Dask", "client.map", "client.map, batches of 256"
ON_RAY, RAY_TASKS, RAY_BATCHES = "start() on Ray", "Ray tasks", "Ray tasks, batches of 256"
GENERATORS, PYPELN, DASK_BAG = "generators", "pypeln.thread", "dask.bag"
EXECUTEMANY, SELECT, LINES = "bare executemany", "bare select by keys", "bare json.dumps and write"
HELP, CLICK = "celestialflow --help", "import click"
HELP_CODE = (
    "import io, sys; sys.stdout = io.StringIO(); from celestialflow_core._cli.main import command_line; "
    "command_line()(['--help'])"
)
PACKAGE, MANAGER = "import celestialflow_core", "from celestialflow_core import TaskManager"


def _within(mechanism: str, must: float, aim: float) -> tuple[Bound, ...]:
    return (Bound(ours=OURS, peer=mechanism, must=must, aim=aim),)


def _cluster(name: str, where: str, each: Entry, batches: Entry, ours: Entry) -> Scenario:
    return Scenario(
        name=f"cluster-{name}",
        title=f"10,000 x + 1 on {where} of this machine",
        size=10_000,
        workers=2,
        entries=(each, batches, ours),
        bounds=(
            Bound(ours=ours.name, peer=each.name, must=20, faster=True),
            Bound(ours=ours.name, peer=batches.name, must=1.5, aim=1),
        ),
    )


def _memory(mode: str, function: Function) -> Scenario:
    name = "stream()"
    return Scenario(
        name=f"memory-{mode}",
        title=f"a million x + 1 from a generator, nothing kept, {mode}: peak of the parent above a warm-up of 10,000",
        kind="memory",
        size=1_000_000,
        workers=2,
        function=function,
        warm_up=10_000,
        entries=(Entry(name, contestants.manager_stream(mode)),),
        bounds=(Bound(ours=name, must=5, aim=1),),
    )


def _store_memory(kind: str, must: float = 25, needs: str | None = None) -> tuple[Scenario, ...]:
    without, beside = "stream()", f"stream(), {kind}"
    bound = Bound(ours=beside, peer=without, must=must, aim=5)
    return tuple(
        Scenario(
            name=f"memory-{what}-{kind}",
            title=f"a million x + 1 from a generator, {title}: peak beyond that of a run without a store",
            kind="memory",
            size=stores.ROWS,
            warm_up=10_000,
            entries=(
                Entry(without, contestants.manager_stream("serial", enable_duplicate_check=what == "resume")),
                Entry(beside, contestant(kind), needs=needs),
            ),
            bounds=(bound,),
        )
        for what, title, contestant in (
            ("store", "into a store", stores.streaming_into),
            ("resume", "all of them in a store", stores.streaming_again),
        )
    )


def _launch(name: str, ours: str, peer: str, code: str, must: float, aim: float) -> Scenario:
    return Scenario(
        name=name,
        title=f"starting an interpreter for: {ours}",
        kind="launch",
        entries=(Entry(peer, code=code), Entry(ours, code=ours)),
        bounds=(Bound(ours=ours, peer=peer, must=must, aim=aim),),
    )


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        name="serial-noop",
        title="100,000 x + 1 in one thread",
        size=100_000,
        entries=(Entry(BARE_LOOP, contestants.bare_loop), Entry(OURS, contestants.manager("serial"))),
        bounds=_within(BARE_LOOP, 6, 3),
    ),
    Scenario(
        name="thread-noop",
        title="40,000 x + 1 on 8 threads",
        size=40_000,
        workers=8,
        entries=(
            Entry(THREAD_POOL, contestants.thread_pool_executor),
            Entry(OURS, contestants.manager("thread")),
            Entry(OURS_WITH_LOG, contestants.manager("thread", log_dir="logs")),
        ),
        bounds=(
            Bound(ours=OURS, peer=THREAD_POOL, must=10, aim=20, faster=True),
            Bound(ours=OURS_WITH_LOG, peer=THREAD_POOL, must=1, aim=3, faster=True),
        ),
    ),
    Scenario(
        name="process-noop",
        title="100,000 x + 1 on 2 processes",
        size=100_000,
        workers=2,
        entries=(
            Entry(PIPES, contestants.raw_pipes(256)),
            Entry(OURS, contestants.manager("process")),
            Entry(PEBBLE, contestants.pebble_chunks(256), needs="pebble"),
            Entry(PROCESS_POOL, contestants.process_pool_executor, share=0.1),
        ),
        bounds=(
            Bound(ours=OURS, peer=PIPES, must=4, aim=2),
            Bound(ours=OURS, peer=PEBBLE, must=1.5, faster=True),
            Bound(ours=OURS, peer=PROCESS_POOL, must=50, faster=True),
        ),
    ),
    Scenario(
        name="async-noop",
        title="100,000 async x + 1, 50 at a time",
        size=100_000,
        workers=50,
        function=tasks.add_one_async,
        entries=(
            Entry(BARE_COROUTINES, contestants.bare_coroutines),
            Entry(OURS, contestants.manager("async")),
            Entry(GATHER, contestants.gather_with_semaphore),
        ),
        bounds=(
            Bound(ours=OURS, peer=BARE_COROUTINES, must=4, aim=2),
            Bound(ours=OURS, peer=GATHER, must=6, faster=True),
        ),
    ),
    Scenario(
        name="thread-io",
        title="2,000 waits of 10 ms on 50 threads",
        size=2_000,
        workers=50,
        function=tasks.wait,
        entries=(Entry(BARE_THREADS, contestants.bare_threads), Entry(OURS, contestants.manager("thread"))),
        bounds=_within(BARE_THREADS, 1.10, 1.0),
    ),
    Scenario(
        name="process-cpu",
        title="400 tasks of about 5 ms of Python on 2 processes",
        size=400,
        workers=2,
        function=tasks.compute,
        warm_up=4,
        entries=(Entry(SINGLE_PIPES, contestants.raw_pipes(1)), Entry(OURS, contestants.manager("process"))),
        bounds=_within(SINGLE_PIPES, 1.10, 1.0),
    ),
    Scenario(
        name="process-uneven",
        title="800 tasks of 1 us to 100 ms of Python, log-uniform, on 2 processes",
        size=800,
        workers=2,
        function=tasks.compute_unevenly,
        warm_up=4,
        # One task at a time: a second one in a pipe could wait behind 100 ms while the other process idles.
        entries=(Entry(SINGLE_PIPES, contestants.raw_pipes(1, ahead=1)), Entry(OURS, contestants.manager("process"))),
        bounds=_within(SINGLE_PIPES, 1.10, 1.0),
    ),
    Scenario(
        name="async-io",
        title="10,000 waits of 10 ms in an event loop, 500 at a time",
        size=10_000,
        workers=500,
        function=tasks.wait_async,
        entries=(Entry(BARE_COROUTINES, contestants.bare_coroutines), Entry(OURS, contestants.manager("async"))),
        bounds=_within(BARE_COROUTINES, 1.15, 1.0),
    ),
    _cluster(
        "dask",
        "a Dask cluster of two processes",
        Entry(MAP, clusters.dask(batches=False), share=0.1, needs="distributed"),
        Entry(DASK_BATCHES, clusters.dask(batches=True), needs="distributed"),
        Entry(ON_DASK, clusters.manager_on_dask, needs="celestialflow_dask"),
    ),
    _cluster(
        "ray",
        "Ray with two CPUs",
        Entry(RAY_TASKS, clusters.ray(batches=False), share=0.1, needs="ray"),
        Entry(RAY_BATCHES, clusters.ray(batches=True), needs="ray"),
        Entry(ON_RAY, clusters.manager_on_ray, needs="celestialflow_ray"),
    ),
    _memory("serial", tasks.add_one),
    _memory("thread", tasks.add_one),
    _memory("process", tasks.add_one),
    _memory("async", tasks.add_one_async),
    Scenario(
        name="graph-serial",
        title="10,000 items through x + 1 and two stages that do nothing, in series",
        size=10_000,
        entries=(
            Entry(GENERATORS, graphs.generator_chain),
            Entry(OURS, graphs.graph("serial")),
            Entry(DASK_BAG, graphs.dask_bag, needs="dask"),
        ),
        bounds=(
            Bound(ours=OURS, peer=GENERATORS, must=10, aim=5),
            Bound(ours=OURS, peer=DASK_BAG, must=1, faster=True),
        ),
    ),
    Scenario(
        name="graph-thread",
        title="10,000 items through x + 1 and two stages that do nothing, 8 threads each",
        size=10_000,
        workers=8,
        entries=(
            Entry(PYPELN, graphs.pypeln_threads, share=0.5, needs="pypeln"),
            Entry(OURS, graphs.graph("thread")),
        ),
        bounds=(Bound(ours=OURS, peer=PYPELN, must=6, aim=15, faster=True),),
    ),
    Scenario(
        name="graph-size",
        title="three stages in series, an item of a million and of ten thousand",
        size=1_000_000,
        entries=(
            Entry("10,000 items", graphs.graph("serial"), share=0.01),
            Entry("1,000,000 items", graphs.graph("serial")),
        ),
        bounds=(Bound(ours="1,000,000 items", peer="10,000 items", must=1.25, aim=1.0),),
    ),
    Scenario(
        name="graph-depth",
        title="10,000 items in series through 30 stages and through 3",
        size=10_000,
        entries=(Entry("3 stages", graphs.graph("serial")), Entry("30 stages", graphs.graph("serial", 30))),
        bounds=(Bound(ours="30 stages", peer="3 stages", must=12, aim=10),),
    ),
    Scenario(
        name="store-sqlite",
        title="a million x + 1 into a store",
        size=stores.ROWS,
        entries=(Entry(EXECUTEMANY, stores.bare_executemany), Entry(OURS, stores.storing("sqlite"))),
        bounds=_within(EXECUTEMANY, 2, 1.2),
    ),
    Scenario(
        name="store-jsonl",
        title="a million x + 1 into a store",
        size=stores.ROWS,
        entries=(Entry(LINES, stores.bare_lines), Entry(OURS, stores.storing("jsonl"))),
        bounds=_within(LINES, 2, 1.2),
    ),
    Scenario(
        name="resume-sqlite",
        title="a million tasks that are all in a store",
        size=stores.ROWS,
        entries=(Entry(SELECT, stores.bare_select), Entry(OURS, stores.resuming("sqlite"))),
        bounds=_within(SELECT, 3, 2),
    ),
    *_store_memory("sqlite"),
    *_store_memory("jsonl"),
    *_store_memory("parquet", 40, "celestialflow_arrow"),  # with what pyarrow needs to write a part
    Scenario(
        name="help",
        title=f"starting an interpreter for: {HELP}",
        kind="launch",
        entries=(Entry(CLICK, code=CLICK), Entry(HELP, code=HELP_CODE)),
        bounds=(Bound(ours=HELP, peer=CLICK, must=2, aim=1.5),),
    ),
    _launch("import", PACKAGE, INTERPRETER, "pass", 1.5, 1.1),
    _launch("import-manager", MANAGER, PARTS, PARTS, 1.5, 1.2),
)
