"""Counts the functions and classes of Python's standard library, on all cores, and how deep they are nested.

    python -m uv run examples/stdlib_census.py

Some files of the library's own tests are broken on purpose. They are the failing tasks, and no reason to stop.
"""

from __future__ import annotations

import ast
import sysconfig
import warnings
from pathlib import Path
from typing import NamedTuple

from celestialflow_core import TaskManager

LIBRARY = Path(sysconfig.get_path("stdlib"))
FOREIGN = {"site-packages", "dist-packages"}


class Census(NamedTuple):
    """What one file holds."""

    functions: int
    classes: int
    nesting: int


def take_census(path: str) -> Census:
    """Parse the file at *path*, relative to the library, and count."""
    functions = classes = nesting = 0
    found: list[tuple[ast.AST, int]] = [(ast.parse((LIBRARY / path).read_bytes(), path), 0)]
    while found:
        node, depth = found.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            functions, depth = functions + 1, depth + 1
        elif isinstance(node, ast.ClassDef):
            classes, depth = classes + 1, depth + 1
        nesting = max(nesting, depth)
        found += [(child, depth) for child in ast.iter_child_nodes(node)]
    return Census(functions, classes, nesting)


def ignore_warnings() -> None:
    """Runs once in each worker: what the compiler thinks of other people's strings is no news here."""
    warnings.simplefilter("ignore")


def main() -> None:
    """Take the census and print it."""
    paths = [path for path in sorted(LIBRARY.rglob("*.py")) if not FOREIGN & {*path.parts}]
    files = [str(path.relative_to(LIBRARY)) for path in paths]
    manager = TaskManager(
        take_census,
        "process",
        enable_success_cache=True,
        enable_error_cache=True,
        progress_desc="Parsing",
        show_progress=True,
        worker_setup=ignore_warnings,
    )
    summary = manager.start(files)
    print(summary)

    parsed, broken = manager.get_success_dict(), manager.get_error_dict()
    deepest = max(parsed, key=lambda path: parsed[path].nesting)
    print(f"Functions: {sum(census.functions for census in parsed.values())}")
    print(f"Classes: {sum(census.classes for census in parsed.values())}")
    print(f"Deepest nesting: {parsed[deepest].nesting}, in {deepest}")
    assert parsed.keys() | broken.keys() == set(files)
    assert summary.total == len(files) == len(parsed) + len(broken)
    print(f"The account adds up: {len(files)} files, {len(parsed)} parsed, {len(broken)} cannot be.")


if __name__ == "__main__":
    main()
