"""Compares celestialflow_core with its peers, and with the bare mechanisms that nothing can beat.

    python -m uv run python tests/benchmarks/compare.py                                  # everything, 10 minutes
    python -m uv run python tests/benchmarks/compare.py --scenario thread-noop --rounds 9

Read the ratios, not the figures: a round runs every contestant once, each in a fresh interpreter, and what is compared
is the median of the same-round ratios. Every other round goes in the reverse order. Nothing here is a gate: whatever
the figures are, the exit status is 0.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from measure import MeasurementFailed, measure
from report import Measured, as_data, as_markdown
from scenarios import SCENARIOS, Scenario

__all__ = ["main"]


def run_scenario(scenario: Scenario, rounds: int, scale: float) -> Measured:
    """Measure every entry of *scenario* once a round."""
    measured = Measured(scenario)
    present = []
    for entry in scenario.entries:
        if entry.needs is None or importlib.util.find_spec(entry.needs) is not None:
            present.append(entry)
        else:
            measured.missing.append(entry.name)
    for number in range(rounds):
        for entry in present if number % 2 == 0 else reversed(present):
            if entry.name in measured.failures:
                continue
            try:
                figure = measure(scenario, entry, scale)
            except MeasurementFailed as failure:
                measured.failures[entry.name] = str(failure)
            else:
                measured.figures.setdefault(entry.name, {})[number] = figure
        print(f"{scenario.name}: round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    return measured


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        description="Compares celestialflow_core with its peers and with the bare mechanisms; never fails."
    )
    names = [scenario.name for scenario in SCENARIOS]
    parser.add_argument("--scenario", nargs="+", choices=names, default=names, metavar="NAME", help="default: all")
    parser.add_argument("--rounds", type=int, help="rounds a scenario (default: 5, or 9 where a bound is under 1.2)")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the number of tasks, for a quick look")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure to FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table to FILE")
    parser.add_argument("--list", action="store_true", help="say what there is to measure, and end")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for, and print the table."""
    options = parse(arguments)
    chosen = [scenario for scenario in SCENARIOS if scenario.name in options.scenario]
    if options.list:
        for scenario in chosen:
            print(f"{scenario.name}: {scenario.title}")
            print("".join(f"    {entry.name}\n" for entry in scenario.entries), end="")
        return
    results: list[Measured] = []
    for scenario in chosen:
        results.append(run_scenario(scenario, options.rounds or scenario.rounds, options.scale))
        machine = {
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
            "cpus": os.cpu_count(),
            "load": os.getloadavg(),
        }
        # After each scenario, so that a run that is broken off has not been for nothing.
        if options.json is not None:
            text = json.dumps({"machine": machine, "scenarios": as_data(results)}, indent=1)
            options.json.write_text(text + "\n", encoding="utf-8")
        if options.markdown is not None:
            options.markdown.write_text(as_markdown(results), encoding="utf-8")
    print(as_markdown(results), end="")


if __name__ == "__main__":
    main()
