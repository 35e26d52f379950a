"""I7: an executor knows nothing of retries, hooks, results or graphs; a hook knows nothing of executors."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import celestialflow_core
from celestialflow_core.executors.interface import Work
from celestialflow_core.plugins.implementations import SPECS

pytestmark = pytest.mark.pure

PACKAGE = Path(celestialflow_core.__file__).parent
STRANGERS = ("plugins", "_engine", "_outcome", "_policies", "_driver", "_manager", "_observe", "graph")


def imports_of(module: Path) -> set[str]:
    """The parts of this package that *module* imports, at any place in it."""
    found = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("celestialflow_core."):
            found.add((node.module or "").split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("celestialflow_core.")}
    return found


@pytest.mark.parametrize(
    "module", sorted((PACKAGE / "executors").rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_executor_imports_no_stranger(module: Path) -> None:
    """Executors import the interface, calls, errors and each other."""
    assert not imports_of(module) & set(STRANGERS)


@pytest.mark.parametrize("module", sorted((PACKAGE / "plugins").rglob("*.py")), ids=lambda path: path.stem)
def test_plugins_import_no_executor_before_it_is_used(module: Path) -> None:
    """Only the built-in factories name executors, inside of functions."""
    if module.stem == "builtin":
        tree = ast.parse(module.read_text(encoding="utf-8"))
        top = {node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)}
        assert not any(name.startswith("celestialflow_core.executors.") for name in top)
        return
    tree = ast.parse(module.read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            assert not (node.module or "").startswith("celestialflow_core.executors")


def test_executor_is_told_of_the_work_alone() -> None:
    """The function, its set-up, its time limit and the context; nothing of retries or hooks."""
    assert {field.name for field in Work.__attrs_attrs__} == {"func", "setup", "timeout", "context"}


def test_no_hook_is_given_an_executor() -> None:
    """Managers, tasks, results, errors, outcomes, summaries."""
    given = {argument for arguments in SPECS.values() for argument in arguments}
    assert given <= {"manager", "task", "result", "error", "attempt", "delay", "outcome", "summary", "cli"}
