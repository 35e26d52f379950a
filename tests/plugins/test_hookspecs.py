"""The specifications are the reference of the hooks: complete, in one order, with examples that run."""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path
from types import ModuleType

import pytest

from celestialflow_core.plugins import hookspecs
from celestialflow_core.plugins.implementations import SPECS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    """docs/generate_hooks.py as a module."""
    spec = importlib.util.spec_from_file_location("generate_hooks", ROOT / "docs" / "generate_hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_reference_page_is_current(generator: ModuleType) -> None:
    """docs/reference/hooks.md is what docs/generate_hooks.py writes now."""
    assert (ROOT / "docs" / "reference" / "hooks.md").read_text(encoding="utf-8") == generator.page()


def test_reference_page_has_every_hook(generator: ModuleType) -> None:
    """No hook is left out of the groups of the page."""
    assert sorted(SPECS) == sorted(hook for hooks in generator.GROUPS.values() for hook in hooks)


@pytest.mark.parametrize("hook", sorted(SPECS))
def test_specification_says_everything_in_order(generator: ModuleType, hook: str) -> None:
    """When, arguments, result, what happens if it raises, an example, and since when: each is there, in this order."""
    expected = [title for title in generator.SECTIONS if title != "Args" or SPECS[hook]]

    found = generator.sections(hook)

    assert ["", *expected] == list(found)
    assert all(text.strip() for text in found.values())
    assert SPECS[hook] == tuple(generator.arguments(found.get("Args", "")))


@pytest.mark.parametrize("hook", sorted(SPECS))
def test_specification_is_typed(hook: str) -> None:
    """Every argument and the result have a type."""
    signature = inspect.signature(getattr(hookspecs, hook))

    assert signature.return_annotation is not signature.empty
    assert all(parameter.annotation is not parameter.empty for parameter in signature.parameters.values())


@pytest.mark.parametrize("hook", sorted(SPECS))
def test_example_of_the_specification_runs(generator: ModuleType, hook: str) -> None:
    """The example of each hook does what it asserts."""
    code = generator.example(hook)

    assert "assert " in code
    exec(compile(code, f"<example of {hook}>", "exec"), {"__name__": "example"})
