"""The benchmark runs, and what it writes can be read. What the figures are is no test's affair."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

COMPARE = Path(__file__).with_name("compare.py")


def compare(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the benchmark with *arguments*, as a user does."""
    return subprocess.run(
        [sys.executable, str(COMPARE), *map(str, arguments)], capture_output=True, text=True, check=False, timeout=200
    )


def test_every_scenario_gives_right_results_and_one_row_a_bound(tmp_path: Path) -> None:
    """With tiny sizes nothing fails, every contestant that is installed has a figure, and the table is whole."""
    data, table = tmp_path / "figures.json", tmp_path / "table.md"
    done = compare("--scale", 0.0005, "--rounds", 1, "--json", data, "--markdown", table)
    assert done.returncode == 0, done.stderr
    scenarios: list[dict[str, Any]] = json.loads(data.read_text())["scenarios"]
    assert {scenario["scenario"]: scenario["failures"] for scenario in scenarios} == {
        scenario["scenario"]: {} for scenario in scenarios
    }
    needed = {
        "pebble": ["pebble, chunks of 256"],
        "pypeln": ["pypeln.thread"],
        "dask": ["dask.bag"],
        "celestialflow_arrow": ["stream(), parquet"],
        "distributed": ["client.map", "client.map, batches of 256"],
        "celestialflow_dask": ["start() on Dask"],
        "ray": ["Ray tasks", "Ray tasks, batches of 256"],
        "celestialflow_ray": ["start() on Ray"],
    }
    absent = {name for module, names in needed.items() if importlib.util.find_spec(module) is None for name in names}
    assert {name for scenario in scenarios for name in scenario["missing"]} == absent
    for scenario in scenarios:
        compared = {bound[side] for bound in scenario["bounds"] for side in ("ours", "peer")} - {None}
        assert scenario["figures"].keys() == compared - absent
        assert all(len(figures) == 1 and figures[0] >= 0 for figures in scenario["figures"].values())
        for bound in scenario["bounds"]:
            assert (bound["ratio"] is None) == bool({bound["ours"], bound["peer"]} & absent)
    rows = [line for line in table.read_text().splitlines() if line.startswith("|")]
    assert len(rows) == 2 + sum(len(scenario["bounds"]) for scenario in scenarios)
    assert {row.count("|") for row in rows} == {7}
    assert table.read_text() == done.stdout


def test_a_contestant_that_fails_is_named_and_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that raises has no ratio, and is said below the table; the exit status stays 0."""
    broken = tmp_path / "pluggy"  # hides the real one, which only ours needs
    broken.mkdir()
    (broken / "__init__.py").write_text("raise ImportError('no pluggy today')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = compare("--scenario", "serial-noop", "--scale", 0.0005, "--rounds", 2)
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"^\| serial-noop \| start\(\) \| bare loop: .* us \| - \| 6 x \| 3 x \|$", done.stdout, re.MULTILINE
    )
    assert "serial-noop: start() failed. ImportError: no pluggy today" in done.stdout


def test_list_names_every_scenario_without_measuring(tmp_path: Path) -> None:
    """``--list`` says what there is; an unknown name is refused with what there is."""
    done = compare("--list")
    assert done.returncode == 0, done.stderr
    names = re.findall(r"^(\S+): ", done.stdout, re.MULTILINE)
    assert "thread-noop" in names
    refused = compare("--scenario", "thread-nop")
    assert refused.returncode == 2
    assert all(name in refused.stderr for name in names)
