"""Entry points that never were installed."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest


class FakeEntryPoint:
    """An entry point whose load() gives *plugin*, or raises it if it is an exception."""

    def __init__(self, name: str, plugin: object, distribution: str | None, version: str) -> None:
        self.name = name
        self.value = f"{(distribution or 'nobody').replace('-', '_')}:plugin"
        self.dist = SimpleNamespace(name=distribution, version=version) if distribution else None
        self.loads = 0
        self._plugin = plugin

    def load(self) -> Any:
        self.loads += 1
        if isinstance(self._plugin, BaseException):
            raise self._plugin
        return self._plugin


@pytest.fixture
def entry_point() -> Callable[..., FakeEntryPoint]:
    """Makes an entry point of a name, a plugin (or what its import raises), and a distribution."""

    def make(
        name: str, plugin: object, distribution: str | None = "celestialflow-{}", version: str = "1.0"
    ) -> FakeEntryPoint:
        return FakeEntryPoint(name, plugin, distribution and distribution.format(name), version)

    return make
