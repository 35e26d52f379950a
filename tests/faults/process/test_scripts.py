"""Functions and classes of scripts, of standard input and of interactive sessions (faults.md, 18)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import celestialflow_core

SOURCE = """
import os, time
from celestialflow_core import TaskManager

print("top level", flush=True)
FACTOR = 3

class Transient(Exception):
    pass

class Row:
    def __init__(self, number):
        self.number = number
    def __eq__(self, other):
        return type(other) is Row and other.number == self.number
    def __hash__(self):
        return hash(self.number)

def helper(number):
    return number * FACTOR

def job(row):
    assert isinstance(row, Row)
    if row.number == 2 and not os.path.exists("tried"):
        open("tried", "w").close()
        raise Transient("once")
    if row.number == 3:
        raise Transient("for good")
    return Row(helper(row.number))

manager = TaskManager(job, "process", 2, max_retries=1, retry_exceptions=(Transient,), enable_success_cache=True,
                      enable_error_cache=True, log_dir=None, log_level="ERROR")
summary = manager.start([Row(n) for n in range(5)])
print(sorted(row.number for row in manager.success_dict.values()), summary.retries, flush=True)
print({type(row) is Row for row in manager.success_dict.values()}, flush=True)
print([isinstance(error, Transient) for error in manager.error_dict.values()], flush=True)

def closure(step):
    return lambda number: number + step
print(TaskManager(closure(5), "process", 1, log_dir=None, log_level="ERROR").start([1, 2]).succeeded, flush=True)
"""

# As a notebook does it: every statement is compiled by itself, and there is no file.
CELLS = """
import ast, __main__
for node in ast.parse(open("script.py").read()).body:
    exec(compile(ast.Module([node], []), "<cell>", "exec"), __main__.__dict__)
"""


@pytest.mark.parametrize("how", ["script", "stdin", "interactive"])
def test_what_the_program_itself_defines_works_without_a_guard(own_folder: Path, how: str) -> None:
    """Helpers, closures, classes and exceptions keep their identity there and back, and the top level runs once."""
    (own_folder / "script.py").write_text(SOURCE)
    command = {
        "script": [sys.executable, "script.py"],
        "stdin": [sys.executable, "-"],
        "interactive": [
            sys.executable,
            "-c",
            CELLS,
        ],
    }[how]
    done = subprocess.run(
        command,
        input=SOURCE if how == "stdin" else "",
        env={**os.environ, "PYTHONPATH": str(Path(celestialflow_core.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["top level", "[0, 3, 6, 12] 2", "{True}", "[True]", "2"]
