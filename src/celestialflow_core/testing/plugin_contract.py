"""What every plugin keeps, as tests: subclass `PluginContract` in a test file and say which plugin.

    class TestMyPlugin(PluginContract):
        plugin = "my_distribution:plugin"
        forbidden = ("dask",)

The distribution has to be installed (``pip install -e .`` will do), since the entry point is a part of what is tested.
"""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import pytest

from celestialflow_core.plugins.discovery import GROUP
from celestialflow_core.plugins.implementations import read
from celestialflow_core.plugins.loading import Plugin, PluginInfo, take
from celestialflow_core.plugins.registry import installed
from celestialflow_core.plugins.switches import normalise

__all__ = ["PluginContract"]


class PluginContract:
    """Tests for one plugin. They say nothing of what its hooks, executors and sinks do.

    Attributes:
        plugin: What the entry point says ("module" or "module:object"), or the module or object itself.
        forbidden: Modules that loading the plugin must not import, with what is in them: the engine that it is for.
        patience: Seconds that a fresh interpreter may take to load it.
    """

    plugin: object = None
    forbidden: Sequence[str] = ()
    patience: float = 60.0

    def test_plugin_is_installed_and_active(self) -> None:
        """An entry point leads to it, and it is neither switched off nor failed."""
        info = self._info()

        assert info.state == "active", info.reason

    def test_every_hook_is_known(self) -> None:
        """Each marked function is a hook with arguments that there are, and none that is named like one has no mark."""
        reading = read(self._loaded())

        wrong = [*reading.errors, *reading.warnings]
        assert wrong == [], " ".join(wrong)
        assert reading.implementations, "It implements no hook."

    def test_factories_can_be_called(self) -> None:
        """Each executor and sink has a name and a callable that takes what it will be given; so every time."""
        first, second = self._taken(), self._taken()

        assert first.info.state == "active", first.info.reason
        for name, factory in first.factories.items():
            _check_call(name, factory, None)
            for fact, kind in (("capabilities", frozenset), ("is_async", bool)):
                known = getattr(factory, fact, None)
                assert known is None or isinstance(known, kind), f"{fact} of {name!r} must be a {kind.__name__}."
        for name, factory in first.sinks.items():
            _check_call(name, factory, f"{name}:somewhere")
        names, again = (first.info.executors, first.info.sinks), (second.info.executors, second.info.sinks)
        assert names == again, f"It declares other names each time: first {names}, then {again}."

    def test_names_are_its_own(self) -> None:
        """No other plugin that is installed has its name, or an executor or a sink that is called the same."""
        own = self._info()
        others = [info for info in installed().plugins if info is not own]
        taken = self._taken().info

        for other in others:
            assert normalise(other.name) != normalise(own.name), f"{other.source} has a plugin {own.name!r} too."
            for kind, mine, theirs in (
                ("executor", taken.executors, other.executors),
                ("sink", taken.sinks, other.sinks),
            ):
                for name in set(mine) & set(theirs):
                    pytest.fail(f"{other.source} declares the {kind} {name!r} too.", pytrace=False)

    def test_import_is_thin(self) -> None:
        """Loaded as by every run it imports nothing that is forbidden, starts no thread and prints nothing."""
        for name in self.forbidden:
            assert _exists(name), f"There is no module {name!r}, so that forbidding it proves nothing."

        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        done = subprocess.run(
            [sys.executable, "-m", "celestialflow_core.testing._probe", self._info().module],
            env=environ,
            capture_output=True,
            text=True,
            timeout=self.patience,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        *printed, answer = done.stdout.splitlines()
        found = json.loads(answer)
        heavy = [name for name in found["modules"] if any(_is_in(name, above) for above in self.forbidden)]
        assert heavy == [], f"Loading it imports {heavy[0]}. Import that when a hook or a factory is called."
        assert found["threads"] == [], "Loading it starts threads."
        assert printed == [], "Loading it prints something."

    def _loaded(self) -> object:
        """The plugin itself."""
        if self.plugin is None:
            raise TypeError(f"{type(self).__name__} must define plugin: what its entry point says.")
        if isinstance(self.plugin, str):
            return EntryPoint("plugin", self.plugin, GROUP).load()
        return self.plugin

    def _taken(self) -> Plugin:
        """The plugin with what it declares when it is asked now."""
        return take(self._loaded(), PluginInfo(name="plugin"))

    def _info(self) -> PluginInfo:
        """What is known of the plugin as it is installed."""
        loaded = self._loaded()
        info = installed().info_of(loaded)
        if info is not None:
            return info
        if isinstance(self.plugin, str):
            module = self.plugin.partition(":")[0]
        else:
            module = loaded.__name__ if isinstance(loaded, ModuleType) else type(loaded).__module__
        unloaded = [info for info in installed().plugins if info.module == module and info.state != "active"]
        if not unloaded:
            pytest.fail(
                f"No installed distribution has an entry point in the group {GROUP!r} that leads to this plugin of "
                f"{module}. Write one in pyproject.toml, and install: python -m pip install -e .",
                pytrace=False,
            )
        return unloaded[0]


def _check_call(name: str, factory: Callable[..., Any], argument: object) -> None:
    """Fail unless *factory* can be called with *argument*."""
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):  # of C: nobody knows before it is called
        return
    try:
        signature.bind(argument)
    except TypeError as error:
        text = f"The factory of {name!r} takes {signature}, and is called with {argument!r}: {error}."
        pytest.fail(text, pytrace=False)


def _exists(name: str) -> bool:
    """Whether there is such a module."""
    try:
        return name in sys.modules or find_spec(name) is not None
    except ModuleNotFoundError:  # a package above it
        return False


def _is_in(name: str, above: str) -> bool:
    return name == above or name.startswith(f"{above}.")
