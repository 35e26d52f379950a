"""Classes of ``__main__``: the same class on the way there and on the way back. Needs cloudpickle as it is today."""

from __future__ import annotations

SCRIPT = """
from dataclasses import dataclass
from enum import Enum
from queue import SimpleQueue

from celestialflow_core._call import parts, Result
from celestialflow_core.executors.interface import Call, Work, current_worker
from celestialflow_core.executors.process import ProcessExecutor

print("top level")

class Color(Enum):
    RED = 1

class Base:
    made = 0
    def __init__(self, x):
        self.x = x

class Pair(Base):
    def twin(self):
        return Pair(self.x)      # refers to its own class
    def __eq__(self, other):
        return isinstance(other, Pair) and other.x == self.x

class Odd(ValueError):
    pass

def local():
    @dataclass
    class Local:
        x: int
    return Local

Local = local()
Local.__qualname__ = "local.<locals>.Local"

def job(task):
    assert isinstance(task, (Pair, Local)), type(task)
    if task.x == 5:
        raise Odd(task)
    Base.made += 1
    if isinstance(task, Local):
        return type(task)(task.x + 1)
    return [task.twin(), Color.RED, Base.made]

def setup():
    return Pair(0)

queue = SimpleQueue()
executor = ProcessExecutor(1)
executor.start(Work(job, setup), queue.put)
tasks = [Pair(1), Pair(2), Local(3), Pair(5), Pair(6)]
executor.submit([Call(n, (task,)) for n, task in enumerate(tasks)])
results = {}
while len(results) < len(tasks):
    for part in parts(queue.get(timeout=30)):
        for result in [part] if isinstance(part, Result) else part:
            results[result.id] = result
executor.stop(5)
first = results[0].value
assert type(first[0]) is Pair and first[0] == Pair(1) and first[1] is Color.RED, first
assert type(results[2].value) is Local and results[2].value == Local(4)
assert type(results[3].error) is Odd and type(results[3].error.args[0]) is Pair
assert Base.made == 0
# The class was sent once: what the worker counts on it is not reset by the next argument.
assert [results[n].value[2] for n in (0, 1, 4)] == [1, 2, 4], [results[n].value for n in (0, 1, 4)]
print("fine")
"""


def test_classes_of_a_script_keep_their_identity(script):
    """Arguments, results, exceptions and enum members, of a script without a guard whose top level runs once."""
    done = script(SCRIPT)
    assert done.stderr == ""
    assert done.stdout.split("\n") == ["top level", "fine", ""]
    assert done.returncode == 0


def test_class_that_is_born_in_a_worker_arrives(run):
    """A class made inside a task comes back by value, and two of its instances are of one class."""

    def job(x):
        global Born
        try:
            Born  # noqa: B018
        except NameError:

            class Born:
                def __init__(self, x):
                    self.x = x

        return Born(x)

    results = run(job, range(3), workers=1)
    assert [result.value.x for result in results] == [0, 1, 2]
    assert len({type(result.value) for result in results}) == 1
