"""One measurement, in an interpreter of its own, so that nobody inherits another's threads, pools or heap.

`measure` starts it and gives its figure; run as a script, this module is what is started.
"""

from __future__ import annotations

import gc
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from time import perf_counter

import stores
from scenarios import SCENARIOS, Entry, Scenario

__all__ = ["MeasurementFailed", "measure"]

TIMEOUT = 300.0  # seconds
LAUNCHES = 5  # interpreters that are started for one figure: a single start may meet anything


class MeasurementFailed(Exception):
    """A contestant raised, gave wrong results, or did not end."""


def measure(scenario: Scenario, entry: Entry, scale: float = 1.0) -> float:
    """The figure of *entry*: us a task, MB above the warm-up, or ms a launch.

    Args:
        scenario: What is run.
        entry: By whom.
        scale: Multiplies the number of tasks.

    Raises:
        MeasurementFailed: There is no figure; the message says why.
    """
    with tempfile.TemporaryDirectory() as folder:  # logs are written to the working directory
        if scenario.kind == "launch":
            return _launch_time(entry.code, folder)
        size = max(scenario.workers, int(scenario.size * entry.share * scale))
        return _in_child([__file__, scenario.name, entry.name, str(size)], folder)


def _launch_time(code: str, folder: str) -> float:
    # With bytecode, as every installed package has it; here it lies in the folder, and the first start writes it.
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environ["PYTHONPYCACHEPREFIX"] = folder
    times: list[float] = []
    for _ in range(1 + LAUNCHES):
        began = perf_counter()
        # No timeout: a wait with one polls, and would be seen in the figure.
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=folder, env=environ, stdin=subprocess.DEVNULL, check=False
        )
        times.append((perf_counter() - began) * 1e3)
        if done.returncode:
            raise MeasurementFailed(f"The interpreter ended with status {done.returncode}.")
    return statistics.median(times[1:])


def _in_child(arguments: list[str], folder: str) -> float:
    with (
        tempfile.TemporaryFile("w+") as errors,  # no pipe: a worker that outlives the child would keep it open
        tempfile.TemporaryFile("w+") as output,
        subprocess.Popen(
            [sys.executable, *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,
        ) as child,
    ):
        try:
            status = child.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            raise MeasurementFailed(f"It was not done after {TIMEOUT:.0f} s.") from None
        finally:
            _end_session(child.pid)
        output.seek(0)
        errors.seek(0)
        if status:
            lines = errors.read().strip().splitlines() or [f"It ended with status {status} and said nothing."]
            raise MeasurementFailed(lines[-1])
        return float(json.load(output))


def _end_session(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        pass  # as it should be: nothing is left


# ---------------------------------------------------------------------- in the child


def _figure(scenario: Scenario, entry: Entry, size: int) -> float:
    def tasks(count: int) -> Iterable[int]:
        return (number for number in range(count)) if scenario.kind == "memory" else list(range(count))

    with entry.contestant(scenario.function, scenario.workers) as run:
        run(tasks(min(size, scenario.warm_up)))
        todo = tasks(size)
        gc.collect()
        before = _memory_kb("VmRSS")
        began = perf_counter()
        results = run(todo)
        seconds = perf_counter() - began
        peak = _memory_kb("VmHWM")
        total = results if isinstance(results, int) else sum(results)
        if total != size * (size + 1) // 2:
            raise MeasurementFailed(f"The results of {size} tasks add up to {total}, not {size * (size + 1) // 2}.")
    return (peak - before) / 1024 if scenario.kind == "memory" else seconds / size * 1e6


def _memory_kb(field: str) -> int:
    found = re.search(rf"^{field}:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    if found is None:
        raise MeasurementFailed(f"/proc/self/status has no {field}.")
    return int(found[1])


def main(scenario_name: str, entry_name: str, size: str) -> None:
    """Take one measurement and print its figure."""
    scenario = next(scenario for scenario in SCENARIOS if scenario.name == scenario_name)
    stores.prepare(max(int(size), scenario.warm_up))
    print(json.dumps(_figure(scenario, scenario.entry(entry_name), int(size))))


if __name__ == "__main__":
    main(*sys.argv[1:])
