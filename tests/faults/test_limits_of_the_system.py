"""Limits that the kernel itself enforces, in every mode that meets them (faults.md, 14, 39 and 40).

Root is exempt from the limit on processes: each scene becomes a user of which nobody else is, with only the right to
read what root may read. Where that is not possible the scene is skipped; what can be simulated is in
`test_surroundings`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import celestialflow_core

MODES = ["serial", "thread", "async", "process"]
RIGHTS = "-all,+dac_override,+dac_read_search"
STRANGER = ["setpriv", "--reuid=54321", f"--inh-caps={RIGHTS}", f"--ambient-caps={RIGHTS}"]

HEAD = """
import asyncio, json, os, resource, sys, time, warnings
from celestialflow_core import TaskManager

mode, number = sys.argv[1], int(sys.argv[2])

def adapted(function):
    async def coroutine(task):
        await asyncio.sleep(0.001)
        return function(task)
    return coroutine if mode == "async" else function

def new(function, workers, **options):
    return TaskManager(adapted(function), mode, workers, max_retries=0, enable_success_cache=True,
                       enable_error_cache=True, log_dir=None, log_level="ERROR", **options)
"""

THREADS = """
def job(task):
    time.sleep(0.001)
    return task

manager = new(job, 8)
resource.setrlimit(resource.RLIMIT_NPROC, (number, number))
raised = None
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    try:
        manager.start(range(300))
    except Exception as error:
        raised = f"{type(error).__name__}: {error}"
counts = manager.counts
print(json.dumps([raised, counts.succeeded, counts.taken == counts.settled, [str(each.message) for each in caught]]))
"""


def under_a_limit(folder: Path, name: str, number: int) -> Any:
    """What the scene reports, with so many threads and processes for all of it."""
    if not shutil.which("setpriv") or subprocess.run([*STRANGER, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system does not let us become somebody else")
    (folder / "script.py").write_text(HEAD + THREADS)
    done = subprocess.run(
        [*STRANGER, sys.executable, "script.py", name, str(number)],
        env={**os.environ, "PYTHONPATH": str(Path(celestialflow_core.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("name", "number", "warned"),
    [
        ("thread", 2, "Only 1 threads could be started"),
        ("thread", 5, "Only 4 threads could be started"),
        ("async", 2, None),  # one thread for the loop, and none to spare
        ("async", 3, None),
        ("process", 4, "Running with 1 of 8 worker processes"),  # ours are two, and each worker needs two
        ("process", 5, "of 8 worker processes"),
        ("process", 9, "of 8 worker processes"),
    ],
)
def test_run_goes_on_with_the_workers_that_the_limit_leaves(
    own_folder: Path, name: str, number: int, warned: str | None
) -> None:
    """40: every task succeeds, and there is one warning that says why there are fewer."""
    raised, succeeded, whole, warnings = under_a_limit(own_folder, name, number)
    assert (raised, succeeded, whole) == (None, 300, True)
    assert len(warnings) == (1 if warned else 0), warnings
    assert not warned or warned in warnings[0]


@pytest.mark.parametrize(
    ("name", "number"), [("thread", 1), ("async", 1), ("process", 1), ("process", 2), ("process", 3)]
)
def test_no_worker_at_all_is_one_error_that_names_the_limit(own_folder: Path, name: str, number: int) -> None:
    """40: at once; no task is charged."""
    raised, succeeded, whole, _ = under_a_limit(own_folder, name, number)
    assert raised is not None
    assert raised.startswith("WorkerSetupError")
    assert "limit on processes and threads" in raised
    assert "Traceback" not in raised
    assert (succeeded, whole) == (0, True)


DESCRIPTORS = """
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
warnings.simplefilter("error")
manager = new(lambda task: task + 1, number, show_progress=True)
summary = manager.start(range(500))
print(json.dumps([summary.succeeded, summary.failed]))
"""


@pytest.mark.parametrize(("name", "workers"), [("serial", 1), ("thread", 40), ("async", 200)])
def test_modes_without_processes_need_few_descriptors(child: Any, name: str, workers: int) -> None:
    """39: 64 are enough for any number of threads and coroutines."""
    with child(HEAD + DESCRIPTORS, name, str(workers)) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert json.loads(out) == [500, 0]


MEMORY = """
def job(task):
    return len(bytes(2_000_000_000)) if task == 7 else task

manager = new(job, 2)
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + 1_000_000_000
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
summary = manager.start(range(20))
print(json.dumps([summary.succeeded, [[task, type(error).__name__] for task, error in manager.error_dict.items()]]))
"""


@pytest.mark.parametrize("name", MODES)
def test_allocation_beyond_the_limit_is_the_tasks_own_error(child: Any, name: str) -> None:
    """14: RLIMIT_AS; the neighbours succeed."""
    with child(HEAD + MEMORY, name, "0") as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert json.loads(out) == [19, [[7, "MemoryError"]]]
