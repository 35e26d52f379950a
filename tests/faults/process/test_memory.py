"""What does not fit in memory, on either side of the process boundary, and what is large (faults.md, 14 and 19)."""

from __future__ import annotations

import json
from typing import Any

import pytest

HEAD = """
import json, os, resource
from celestialflow_core import TaskManager

MB = 1_000_000

def room(megabytes):
    "From now on this process may have so much more memory, until it says otherwise."
    pages = int(open("/proc/self/statm").read().split()[0])
    limit = pages * resource.getpagesize() + megabytes * MB
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))

def unlimited():
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

def run(job, tasks, **options):
    manager = TaskManager(job, "process", 2, max_retries=0, enable_success_cache=True, enable_error_cache=True,
                          log_dir=None, log_level="ERROR", **options)
    summary = manager.start(tasks)
    return manager, summary

def report(manager, summary):
    unlimited()
    errors = sorted((str(task)[:8], type(error).__name__, str(error)[:200])
                    for task, error in manager.get_error_pairs())
    print(json.dumps([summary.succeeded, summary.crashes, errors]))
"""


def outcome(child: Any, source: str) -> Any:
    """What the scene reports."""
    with child(HEAD + source) as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert err == ""
    return json.loads(out)


@pytest.mark.parametrize("wrap", ["{}", "[{}]"])
def test_argument_that_does_not_fit_in_the_worker_is_the_calls_own_error(child: Any, wrap: str) -> None:
    """The worker is not lost over it, nor does anybody wait: its neighbours succeed, small and large."""
    argument = wrap.format("bytes(200 * MB)")
    succeeded, crashes, errors = outcome(
        child,
        f"""
def job(task):
    return len(task)
tasks = [b"a", b"bb", {argument}, b"ccc", {wrap.format("bytes(20 * MB)")}, b"dddd"]
report(*run(job, tasks, worker_setup=lambda: room(120), enable_duplicate_check=False))
""",
    )
    assert (succeeded, crashes) == (5, 0)
    ((_, kind, text),) = errors
    assert kind == "MemoryError"
    assert "do not fit in the memory of the worker process" in text


def test_allocation_and_result_beyond_the_workers_limit_are_memory_errors(child: Any) -> None:
    """In the function, while its result is pickled, and while a plain one is sent."""
    succeeded, crashes, errors = outcome(
        child,
        """
def job(task):
    if task == 3:
        return len(bytes(300 * MB))
    if task == 7:
        return [bytes(90 * MB)]
    if task == 11:
        return bytes(90 * MB)
    return task
report(*run(job, range(20), worker_setup=lambda: room(120)))
""",
    )
    assert (succeeded, crashes) == (17, 0)
    assert [error[:2] for error in errors] == [["11", "MemoryError"], ["3", "MemoryError"], ["7", "MemoryError"]]


def test_result_that_does_not_fit_in_the_parent_is_the_calls_own_error(child: Any) -> None:
    """Of one message or of one object, framed or plain; those that came with it are delivered."""
    succeeded, crashes, errors = outcome(
        child,
        """
def job(task):
    if task in (3, 5):
        unlimited()
        return bytes(300 * MB) if task == 3 else [bytes(300 * MB)]
    if task == 8:
        unlimited()
        return bytes(160 * MB)  # the message fits, and what is in it does not
    return task
run(job, [0])
room(250)
report(*run(job, range(20)))
""",
    )
    assert (succeeded, crashes) == (17, 0)
    assert [error[:2] for error in errors] == [["3", "MemoryError"], ["5", "MemoryError"], ["8", "MemoryError"]]
    assert all("does not fit in the memory of this process" in text for _, _, text in errors)


def test_argument_that_cannot_be_pickled_for_want_of_memory_is_a_memory_error(child: Any) -> None:
    """In the parent, which has the object and no room for its copy."""
    succeeded, crashes, errors = outcome(
        child,
        """
big, boxed = bytes(200 * MB), [bytes(200 * MB)]
def job(task):
    return len(task)
run(job, [b"x"])
room(150)
report(*run(job, [b"a", big, boxed, b"b"], enable_duplicate_check=False))
""",
    )
    assert (succeeded, crashes) == (2, 0)
    assert [kind for _, kind, _ in errors] == ["MemoryError", "MemoryError"]


def test_200_mb_cross_both_ways_with_two_copies_at_a_time(child: Any) -> None:
    """An argument and a result of 200 MB are right, and neither process ever holds a third copy."""
    out = outcome(
        child,
        """
SIZE = 200 * MB
def peak():
    "The most memory that this process has held, since it was last asked."
    text = open("/proc/self/status").read()
    return int(text[text.index("VmHWM:") + 6:].split(None, 1)[0]) * 1024
def job(task):
    if type(task) is int:
        return peak()
    return len(task), task[:3], task[-3:]
def give(task):
    return bytes(SIZE) if task else peak()
base = run(job, [1])[0].success_dict[1]
before = peak()
data = bytearray(SIZE)
data[:3], data[-3:] = b"abc", b"xyz"
data = bytes(data)
manager = TaskManager(job, "process", 1, enable_success_cache=True, log_dir=None, log_level="ERROR")
with manager:
    manager.start([data])
    got = manager.success_dict[data]
    right = got == (SIZE, b"abc", b"xyz")
    manager.start([1])
    worker = manager.success_dict[1] - base
parent = peak() - before
del data, got
manager = TaskManager(give, "process", 1, enable_success_cache=True, log_dir=None, log_level="ERROR")
with manager:
    manager.start([1])
    right = right and manager.success_dict[1] == bytes(SIZE)
    manager.start([0])
    giver = manager.success_dict[0] - base
print(json.dumps([right, parent / SIZE, worker / SIZE, giver / SIZE, (peak() - before) / SIZE]))
""",
    )
    right, *copies = out
    assert right
    assert max(copies) < 2.2, copies


@pytest.mark.parametrize("mode", ["serial", "thread", "async"], indirect=True)
def test_nothing_is_copied_where_nothing_crosses(mode: Any) -> None:
    """19: arguments and results of other modes are the very objects."""
    data = bytearray(1_000_000)
    (outcome,) = mode.manager(lambda task: task).stream([data])
    assert outcome.value is data
