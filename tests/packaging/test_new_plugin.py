"""What ``celestialflow new-plugin`` makes, as its author has it a minute later: built, installed, tested, listed."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from celestialflow_core._cli.new_plugin import KINDS

ROOT = Path(__file__).parents[2]

every_kind = pytest.mark.parametrize("kind", KINDS)


def made(kind: str, folder: Path, environment: Any) -> Path:
    """A new distribution of *kind*, made by the command that the wheel of the core installs."""
    done = environment.celestialflow("new-plugin", f"own-{kind}", "--kind", kind, "--path", str(folder))
    assert (done.returncode, done.stderr) == (0, "")
    return folder / f"celestialflow-own-{kind}"


@every_kind
def test_new_plugin_passes_its_tests_and_is_listed(kind: str, environment: Any, tmp_path: Path) -> None:
    """With no edit it can be built, installed and tested, and nothing is wrong with it."""
    project = made(kind, tmp_path, environment)
    environment.install(project)

    tests = environment.pytest(project, project.name)
    assert tests.returncode == 0, tests.stdout + tests.stderr
    assert " passed" in tests.stdout

    answer = json.loads(environment.celestialflow("plugins", "--json", plugins=(project.name,)).stdout)
    (plugin,) = (plugin for plugin in answer["plugins"] if plugin["distribution"] == project.name)
    assert (plugin["name"], plugin["state"], plugin["version"]) == (f"own-{kind}", "active", "0.1.0")
    assert (plugin["executors"], plugin["sinks"]) == tuple(
        [f"own-{kind}"] if kind == declared else [] for declared in ("executor", "sink")
    )
    assert answer["problems"] == []


def test_new_sink_has_what_the_command_line_ran(environment: Any, tmp_path: Path) -> None:
    """Its name can be the store of a run."""
    project = made("sink", tmp_path, environment)
    environment.install(project)

    store = f"own-sink:{tmp_path}/results.csv"
    done = environment.celestialflow("run", "builtins:len", "a", "bb", "--store", store, plugins=(project.name,))

    assert done.returncode == 0, done.stderr
    with open(tmp_path / "results.csv", encoding="utf-8", newline="") as file:
        lines = [(line["task"], line["status"], line["value"]) for line in csv.DictReader(file)]
    assert lines == [('"a"', "success", "1"), ('"bb"', "success", "2")]


@every_kind
def test_new_plugin_is_what_its_tests_speak_of(kind: str, environment: Any, tmp_path: Path) -> None:
    """Its tests fail where it is not installed, so that they do not pass for nothing."""
    project = made(kind, tmp_path, environment)

    assert environment.pytest(project, "celestialflow-echo").returncode != 0


@every_kind
def test_new_plugin_is_clean(kind: str, environment: Any, tmp_path: Path) -> None:
    """Style and types are as strict as ours."""
    project = made(kind, tmp_path, environment)
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]
    rules = ",".join(settings["lint"]["select"])
    ruff = [sys.executable, "-m", "ruff"]
    length = f"--line-length={settings['line-length']}"
    for command in (
        [*ruff, "check", "--no-cache", "--isolated", length, f"--select={rules}", "--ignore=SIM105,N818", "."],
        [*ruff, "format", "--no-cache", "--isolated", length, "--check", "."],
        [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "--config-file", "", "src"],
    ):
        done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=280, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
