"""The code of the document that this package answers, run as the scripts that its readers write.

It is the document's own code with the import name of this package, ``self`` in the three methods that lack it, and
``num2 < 0:`` where the document has a slip; in async mode the task function is a coroutine function.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

QUICK_START = """
import json
from celestialflow_core import TaskManager

def example_task(x, y):
    return x + y

task_manager = TaskManager(
    func=example_task,
    execution_mode='thread',
    worker_limit=5,
    max_retries=3,
    max_info=50,
    unpack_task_args=True,
    enable_success_cache=False,
    enable_error_cache=False,
    enable_duplicate_check=True,
    progress_desc="Processing",
    show_progress=True,
)

tasks = [(1, 2), (3, 4), (5, 6), (7, 8)]
task_manager.start(tasks)

results = task_manager.get_success_dict()
errors = task_manager.get_error_dict()
print(json.dumps({"results": sorted(results.items()), "errors": sorted(errors)}))
"""

CLASS_EXAMPLE = """
import json
from collections import defaultdict
from celestialflow_core import TaskManager

class ExampleTaskManager(TaskManager):
    def get_args(self, task):
        num1, num2 = task
        if num1 < 0 or num2 < 0:
            raise ValueError("num must large than 0.")
        return num1, num2

    def process_result(self, task, result):
        num1, num2 = task
        return f"{num1} + {num2} = {result}"

    def process_result_dict(self):
        return {**self.success_dict, **self.error_dict}

    def handle_error_dict(self):
        error_groups = defaultdict(list)
        for task, error in self.error_dict.items():
            error_groups[error].append(task)

        return dict(error_groups)


def example_task(x, y):
    return x + y

example_task_manager = ExampleTaskManager(
    func=example_task,
    execution_mode='thread',
    worker_limit=50,
    unpack_task_args=False,
    enable_success_cache=True,
    enable_error_cache=True,
    progress_desc="Example Processing",
    show_progress=True,
)

tasks = [(1, 2), (3, 4), (-1, 5), (5, 6), (6, -2), (1, 2)]
example_task_manager.start(tasks)
summary = example_task_manager.summary
print(json.dumps({
    "results": sorted(example_task_manager.get_success_dict().items()),
    "errors": sorted((task, repr(error)) for task, error in example_task_manager.get_error_dict().items()),
    "both": sorted(example_task_manager.process_result_dict()),
    "groups": sorted((str(error), tasks) for error, tasks in example_task_manager.handle_error_dict().items()),
    "kept": [sorted(summary.processed), len(summary.handled)],
    "duplicates": summary.duplicates,
}))
"""

RETRIES = """
import json
from celestialflow_core import Backoff, TaskManager

class Busy(Exception):
    pass

calls = []

def example_task(x):
    calls.append(x)
    if len(calls) < 4:
        raise Busy(x)
    return x

manager = TaskManager(
    example_task, execution_mode='thread', max_retries=3, enable_success_cache=True, backoff=Backoff(initial=0.001)
)
manager.retry_exceptions = (Busy,)
manager.start([5])
print(json.dumps({"results": sorted(manager.get_success_dict().items()), "calls": len(calls)}))
"""

MODES = ("serial", "thread", "process", "async")
SUM = "In 'example_task', task (3, 4) completed"


def run_script(source: str, mode: str, folder: Path, *, in_loop: bool = False) -> Any:
    """What the script prints, as *mode* has it; *in_loop* starts it by ``start_async``."""
    source = source.replace("execution_mode='thread'", f"execution_mode={mode!r}")
    if mode == "async":
        source = source.replace("def example_task", "async def example_task")
    if in_loop:
        source = re.sub(
            r"(?m)^(\w+)\.start\(tasks\)", r"asyncio.run(\1.start_async(tasks))", f"import asyncio\n{source}"
        )
    script = folder / "script.py"
    script.write_text(source)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    return json.loads(done.stdout)


def log_text(folder: Path) -> str:
    """The one log file under logs/."""
    (path,) = (folder / "logs").iterdir()
    assert path.name.startswith("task_logger(")
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("in_loop", [False, True], ids=["start", "start_async"])
@pytest.mark.parametrize("mode", MODES)
def test_quick_start_keeps_nothing_without_caches(mode: str, in_loop: bool, tmp_path: Path) -> None:
    """The first example runs, and with both caches off the dicts are empty, as its note says."""
    assert run_script(QUICK_START, mode, tmp_path, in_loop=in_loop) == {"results": [], "errors": []}
    assert log_text(tmp_path).count(" SUCCESS ") == 4


@pytest.mark.parametrize("mode", MODES)
def test_quick_start_gives_results_with_caches(mode: str, tmp_path: Path) -> None:
    """The first example with its caches on has every result under its task."""
    source = QUICK_START.replace("cache=False", "cache=True")
    expected = [[[1, 2], 3], [[3, 4], 7], [[5, 6], 11], [[7, 8], 15]]
    assert run_script(source, mode, tmp_path) == {"results": expected, "errors": []}


@pytest.mark.parametrize("in_loop", [False, True], ids=["start", "start_async"])
@pytest.mark.parametrize("mode", MODES)
def test_class_example_does_what_it_says(mode: str, in_loop: bool, tmp_path: Path) -> None:
    """The subclass gives its arguments, its results, its errors and its groups, and all of it is in the log."""
    refused = [[-1, 5], [6, -2]]
    expected = {
        "results": [[[1, 2], "1 + 2 = 3"], [[3, 4], "3 + 4 = 7"], [[5, 6], "5 + 6 = 11"]],
        "errors": [[task, "ValueError('num must large than 0.')"] for task in refused],
        "both": [[-1, 5], [1, 2], [3, 4], [5, 6], [6, -2]],
        "groups": [["num must large than 0.", [task]] for task in refused],
        "kept": [[[-1, 5], [1, 2], [3, 4], [5, 6], [6, -2]], 2],
        "duplicates": 1,
    }
    assert run_script(CLASS_EXAMPLE, mode, tmp_path, in_loop=in_loop) == expected
    text = log_text(tmp_path)
    assert SUM in text
    assert "num must large than 0." in text


@pytest.mark.parametrize("mode", ["serial", "thread", "async"])
def test_retry_exceptions_extend_by_assignment(mode: str, tmp_path: Path) -> None:
    """A class set as ``retry_exceptions`` is retried ``max_retries`` times after the first try."""
    assert run_script(RETRIES, mode, tmp_path) == {"results": [[5, 5]], "calls": 4}
    assert log_text(tmp_path).count(" WARNING ") == 3
