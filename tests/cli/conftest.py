"""A command line whose plugins are made by the test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from celestialflow_core._cli.main import command_line
from celestialflow_core.plugins.registry import Registry


class FakeEntryPoint:
    """An entry point of a distribution of its own."""

    def __init__(self, name: str, plugin: object) -> None:
        self.name = name
        self.value = f"celestialflow_{name}:plugin"
        self.dist = SimpleNamespace(name=f"celestialflow-{name}", version="1.0")
        self._plugin = plugin

    def load(self) -> Any:
        if isinstance(self._plugin, BaseException):
            raise self._plugin
        return self._plugin


Invoke = Callable[..., Result]


@pytest.fixture
def invoke() -> Invoke:
    """Runs the command line with plugins given by name; an exception is what importing one raises."""

    def run(*arguments: str, environ: Mapping[str, str] | None = None, columns: int = 100, **plugins: object) -> Result:
        points = [FakeEntryPoint(name, plugin) for name, plugin in plugins.items()]
        cli = command_line(lambda: Registry.load(points, environ or {}))
        return CliRunner().invoke(cli, arguments, prog_name="celestialflow", env={"COLUMNS": str(columns)})

    return run
