"""I10: imports go one way; the linter that checks it runs here, with the contracts of pyproject.toml.

What it has no words for, that our plugins are like everyone's, is read from their source, installed or not.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import celestialflow_core

ROOT = Path(__file__).parents[2]


def test_import_linter_keeps_every_contract() -> None:
    """All contracts are kept; the output names the import that breaks one."""
    code = "import sys; from importlinter.cli import lint_imports_command as run; sys.exit(run())"
    done = subprocess.run(
        [sys.executable, "-c", code, "--no-cache", "--config", str(ROOT / "pyproject.toml")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout
    assert "KEPT" in done.stdout


def imported(source: str) -> Iterator[str]:
    """The dotted names that *source* imports, wherever in it that is."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from (f"{node.module}.{name.name}" for name in node.names)


def private(names: Iterator[str]) -> list[str]:
    """Those of *names* that are the core's own business."""
    public = {f"celestialflow_core.{name}" for name in (*celestialflow_core.__all__, "__version__")}
    own = (name for name in names if name.startswith("celestialflow_core.") and name not in public)
    return [name for name in own if any(part.startswith("_") or part == "*" for part in name.split("."))]


@pytest.mark.parametrize(
    "plugin", sorted(folder.name for folder in (ROOT / "plugins").iterdir() if (folder / "src").is_dir())
)
def test_plugins_import_public_names_only(plugin: str) -> None:
    """A plugin of ours could be anyone's: what it imports of the core has no underscore in its path."""
    files = sorted((ROOT / "plugins" / plugin).rglob("*.py"))
    assert files
    found = {file.name: private(imported(file.read_text(encoding="utf-8"))) for file in files}
    assert {name: names for name, names in found.items() if names} == {}


def test_private_import_is_found() -> None:
    """The check above can fail, in each form that an import has."""
    forms = [
        "import celestialflow_core._keys",
        "from celestialflow_core._keys import digest",
        "def late():\n    from celestialflow_core.executors import _flight",
        "from celestialflow_core import *",
    ]
    assert [len(private(imported(form))) for form in forms] == [1, 1, 1, 1]
    assert private(imported("from celestialflow_core import TaskManager, hookimpl")) == []
