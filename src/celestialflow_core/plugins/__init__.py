"""Hooks, and the plugins that implement them.

    installed()                    the plugins that are installed, found and loaded once a process
        .with_plugins([...])       and those given to one manager
        .executor_factory("dask")  what makes an executor
        .sink_factory("sqlite")    what makes a sink
    resolve(registry)              the hooks of a run, as plain callables

`hookspecs` is the reference of the hooks. The executors and sinks of the core come in through the same door as everyone
else's.
"""

from __future__ import annotations

from celestialflow_core.plugins.loading import PluginInfo
from celestialflow_core.plugins.markers import hookimpl
from celestialflow_core.plugins.messages import PluginWarning
from celestialflow_core.plugins.registry import Registry, installed
from celestialflow_core.plugins.resolve import Hook, Hooks, resolve

__all__ = ["Hook", "Hooks", "PluginInfo", "PluginWarning", "Registry", "hookimpl", "installed", "resolve"]
