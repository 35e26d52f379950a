"""Hands plugins to pluggy, which sorts their implementations and runs wrappers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import pluggy

import celestialflow_core.plugins.hookspecs as hookspecs
from celestialflow_core.plugins.loading import Plugin
from celestialflow_core.plugins.markers import PROJECT

__all__ = ["relay"]


def relay(plugins: Iterable[Plugin]) -> pluggy.PluginManager:
    """A plugin manager in which *plugins* are registered, in this order: the last is called first."""
    manager = _Manager(PROJECT)
    manager.add_hookspecs(hookspecs)
    for plugin in plugins:
        manager.register(_Registered(plugin), plugin.info.name)
    return manager


class _Registered:
    """A plugin as pluggy sees it.

    pluggy compares plugins by ``==``, which may take two of them for one or raise, and some versions run their
    properties. Here it meets an object of ours, which holds nothing but the checked functions.
    """

    def __init__(self, plugin: Plugin) -> None:
        self.options: dict[str, dict[str, Any]] = {}
        for number, implementation in enumerate(plugin.implementations):
            attribute = f"implementation_{number:03}"
            setattr(self, attribute, implementation.call)
            self.options[attribute] = {**implementation.options, "specname": implementation.hook}


class _Manager(pluggy.PluginManager):
    def parse_hookimpl_opts(self, plugin: object, name: str) -> pluggy.HookimplOpts | None:
        """pluggy's extension point for hosts that know themselves what is a hook."""
        return cast("pluggy.HookimplOpts | None", cast(_Registered, plugin).options.get(name))
