"""The package of executors: every public name is there, and nothing is loaded before it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import celestialflow_core.executors as executors

pytestmark = pytest.mark.pure


def test_every_name_of_all_can_be_had() -> None:
    """Each is found where it is defined, and dir() shows it."""
    for name in executors.__all__:
        assert getattr(executors, name).__name__ == name
        assert name in dir(executors)


def test_unknown_name_is_an_attribute_error() -> None:
    """As for any module."""
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = executors.nothing


def test_import_loads_nothing_but_the_package() -> None:
    """No executor, no interface, no attrs."""
    code = (
        "import sys, celestialflow_core.executors;"
        "print(*sorted(n for n in sys.modules if n.startswith(('celestialflow_core.', 'attr', 'asyncio'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["celestialflow_core.executors"]
