"""The plugins that a run can use: the installed ones, loaded once a process, and those given to one manager.

A registry does not change once it is made, and holds nothing of a run. It decides what a broken plugin means:

- A run that needs it (by name, or by its executor or sink) ends with a `PluginError` that says what is wrong.
- Any other run goes on, after one `PluginWarning` a process. With ``CELESTIALFLOW_STRICT_PLUGINS=1`` it does not.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, cast

import attrs
import pluggy

from celestialflow_core._text import cut
from celestialflow_core.errors import PluginError, UnknownExecutor, UnknownSink
from celestialflow_core.plugins.discovery import discover
from celestialflow_core.plugins.loading import EntryPointLike, Plugin, PluginInfo, load, raised, take
from celestialflow_core.plugins.messages import clash, not_installed, plugin_error, title, unusable, warn
from celestialflow_core.plugins.relay import relay
from celestialflow_core.plugins.spelling import closest
from celestialflow_core.plugins.switches import Switches, normalise

if TYPE_CHECKING:
    from celestialflow_core.executors.interface import ExecutorFactory
    from celestialflow_core.sinks.interface import SinkFactory

__all__ = ["Registry", "installed"]

KNOWN_EXECUTORS = {"dask": "celestialflow-dask", "ray": "celestialflow-ray"}
"""Executors that have distributions of their own, for the advice when one is asked for and is not installed."""

KNOWN_SINKS = {
    "mariadb": "celestialflow-sql",
    "mysql": "celestialflow-sql",
    "parquet": "celestialflow-arrow",
    "postgresql": "celestialflow-sql",
}
"""The same for sinks."""


EXECUTOR = "start, submit, stop, slots and capabilities (see celestialflow_core.executors.Executor)"
"""What an executor has, for messages."""

SINK = "open, write and close (see celestialflow_core.sinks.Sink)"
"""What a sink has."""


class Registry:
    """Plugins, and what they declare.

    Args:
        plugins: All of them, in the order in which they are registered with pluggy: the last is called first.
        missing: Names that the environment asks for and that are not installed.
        strict: Whether a plugin that failed is an error for every run.
        base: The registry that this one adds to.
    """

    def __init__(
        self,
        plugins: Iterable[Plugin],
        *,
        missing: Iterable[str] = (),
        strict: bool = False,
        base: Registry | None = None,
    ) -> None:
        self._plugins = tuple(plugins)
        self._active = tuple(plugin for plugin in self._plugins if plugin.info.state == "active")
        self._missing = tuple(missing)
        self._base = base
        self._to_report = threading.Lock()
        self.strict = strict

    @classmethod
    def load(
        cls, entry_points: Iterable[EntryPointLike] | None = None, environ: Mapping[str, str] | None = None
    ) -> Registry:
        """The installed plugins, loaded anew; a run uses `installed`, which does so once.

        Args:
            entry_points: Those to look at; by default the installed ones.
            environ: Where the switches are; by default ``os.environ``.
        """
        switches = Switches.of(os.environ if environ is None else environ)
        plugins = discover(entry_points, switches)
        there = {name for plugin in plugins for name in _called(plugin.info)}
        return cls(plugins, missing=sorted((switches.only or frozenset()) - there), strict=switches.strict)

    @property
    def plugins(self) -> tuple[PluginInfo, ...]:
        """What is known of every plugin, also of those that are disabled or failed."""
        return tuple(plugin.info for plugin in self._plugins)

    @property
    def executors(self) -> tuple[str, ...]:
        """The names of the executors that can be used, sorted."""
        return tuple(sorted({name for plugin in self._active for name in plugin.factories}))

    @property
    def sinks(self) -> tuple[str, ...]:
        """The names of the sinks that can be used, sorted."""
        return tuple(sorted({name for plugin in self._active for name in plugin.sinks}))

    @property
    def failures(self) -> tuple[str, ...]:
        """What is wrong with plugins that cannot be used, a text each."""
        failed = [unusable(info) for info in self.plugins if info.state == "failed"]
        return (*failed, *(not_installed(name, self.plugins) for name in self._missing))

    @property
    def suspicions(self) -> tuple[str, ...]:
        """What may be wrong with the plugins that are active, a text each."""
        odd = [f"{title(info)}: {warning}" for info in self.plugins for warning in info.warnings]
        return (*odd, *(clash(what, owners) for what, owners in self._clashes().items()))

    def executor_factory(self, name: str) -> ExecutorFactory:
        """What makes the executor called *name*.

        Raises:
            UnknownExecutor: No plugin declares it.
            PluginError: More than one does, or the one that does cannot be used.
        """
        factory = self._factory("executor", name)
        if factory is None:
            raise UnknownExecutor(name, self.executors, self._advice(name, self.executors, KNOWN_EXECUTORS))
        return cast("ExecutorFactory", factory)

    def sink_factory(self, name: str) -> SinkFactory:
        """What makes the sink called *name*: what stands before the colon of its URL.

        Raises:
            UnknownSink: No plugin declares it.
            PluginError: More than one does, or the one that does cannot be used.
        """
        factory = self._factory("sink", name)
        if factory is None:
            raise UnknownSink(name, self.sinks, self._advice(name, self.sinks, KNOWN_SINKS))
        return cast("SinkFactory", factory)

    def cannot_make(self, kind: Literal["executor", "sink"], name: str, given: object) -> str:
        """Why the *kind* called *name* cannot be made, in sentences.

        Args:
            kind: What it is.
            name: That of one that is declared once.
            given: What its factory raised, an ImportError, or gave in its place.
        """
        (info,) = [plugin.info for plugin in self._active if name in _declared(plugin, kind)]
        text = f"The {kind} {name!r} cannot be made: the factory of the plugin {info.name!r} of {info.source}"
        if isinstance(given, ImportError):
            return raised(text, given, info)
        article, verbs = ("an", EXECUTOR) if kind == "executor" else ("a", SINK)
        return f"{text} gave {cut(given)}, which is not {article} {kind}: it needs {verbs}."

    def with_plugins(self, given: Iterable[object]) -> Registry:
        """These plugins and, for one manager, those that it was *given*.

        Args:
            given: Objects and modules, registered after the installed plugins; and names, which must be those of
                installed plugins.

        Raises:
            PluginError: One of them cannot be used.
        """
        if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
            raise TypeError(f"plugins must be a list of plugins and of names of plugins, got {given!r}.")
        added: list[Plugin] = []
        for item in given:
            if isinstance(item, str):
                added += self._named(item, added)
            elif item is None:
                raise TypeError("plugins must be a list of plugins and of names of plugins, got None in it.")
            elif any(plugin.object is item for plugin in added):
                raise PluginError(f"plugins=[...] holds one {_object_name(item)!r} twice: its hooks would run twice.")
            elif not any(plugin.object is item for plugin in self._active):
                added.append(self._taken(item, added))
        if not added:
            return self
        named = {id(plugin.entry_point) for plugin in added if plugin.entry_point is not None}
        kept = [plugin for plugin in self._plugins if id(plugin.entry_point) not in named]
        registry = Registry(kept + added, strict=self.strict, base=self._base or self)
        for text in registry.suspicions:
            if text not in self.suspicions:
                warn(text)
        return registry

    def require_strictness(self) -> None:
        """Refuse plugins that failed, where the environment asks for that.

        Raises:
            PluginError: One of them did.
        """
        if self.strict and self.failures:
            raise PluginError(" ".join(("CELESTIALFLOW_STRICT_PLUGINS=1 allows no such plugin.", *self.failures)))

    def report_problems(self) -> None:
        """Warn, once a process, of the installed plugins that cannot be used or are suspicious."""
        registry = self._base or self
        if registry._to_report.acquire(blocking=False):  # and never released: the first run speaks for all
            for text in registry.failures + registry.suspicions:
                warn(text)

    def info_of(self, plugin: object) -> PluginInfo | None:
        """What is known of *plugin*, a module or an object; None unless it is one of these plugins, and was loaded."""
        return next((known.info for known in self._plugins if plugin is not None and known.object is plugin), None)

    def implements(self, hook: str) -> bool:
        """Whether an active plugin implements *hook*."""
        return any(hook in plugin.info.hooks for plugin in self._active)

    def caller(self, hook: str) -> pluggy.HookCaller:
        """pluggy's caller of *hook*, with the implementations of the active plugins."""
        return cast(pluggy.HookCaller, getattr(self._manager.hook, hook))

    @cached_property
    def _manager(self) -> pluggy.PluginManager:
        return relay(self._active)

    def _named(self, name: str, added: Sequence[Plugin]) -> list[Plugin]:
        """What naming an installed plugin adds: nothing if it is active anyway."""
        meant = [plugin for plugin in self._plugins if normalise(name) in _called(plugin.info)]
        if not meant:
            raise PluginError(not_installed(name, self.plugins))
        if any(plugin.info.state == "active" for plugin in meant):
            meant = [plugin for plugin in meant if plugin.info.state == "failed"]
        loaded: list[Plugin] = []
        for plugin in meant:
            if plugin.entry_point is None:
                raise plugin_error(plugin.info)
            if any(plugin.entry_point is other.entry_point for other in added):
                continue
            fresh = load(plugin.entry_point, attrs.evolve(plugin.info, state="active", reason=""))
            if fresh.info.state == "failed":
                raise plugin_error(fresh.info)
            if any(fresh.info.name == other.info.name for other in (*self._active, *added, *loaded)):
                raise PluginError(f"More than one installed plugin is named {name!r}. Name one by its distribution.")
            loaded.append(attrs.evolve(fresh, entry_point=plugin.entry_point))
        return loaded

    def _taken(self, item: object, added: Sequence[Plugin]) -> Plugin:
        base = name = _object_name(item)
        taken = {plugin.info.name for plugin in (*self._plugins, *added)}
        number = 1
        while name in taken:
            number += 1
            name = f"{base}-{number}"
        module = item.__name__ if isinstance(item, ModuleType) else type(item).__module__
        plugin = take(item, PluginInfo(name=name, module=module))
        if plugin.info.state == "failed":
            raise plugin_error(plugin.info)
        return plugin

    def _factory(self, kind: Literal["executor", "sink"], name: str) -> object | None:
        """The factory of that *name*, or None where no plugin declares it.

        Raises:
            PluginError: More than one does, or the one that does cannot be used.
        """
        owners = [plugin for plugin in self._active if name in _declared(plugin, kind)]
        if len(owners) == 1:
            return cast(object, _declared(owners[0], kind)[name])
        if owners:
            raise PluginError(clash(f"the {kind} {name!r}", [plugin.info for plugin in owners]))
        for info in self.plugins:
            if info.state != "active" and _provides(info, name):
                raise plugin_error(info, f"The {kind} {name!r} is not there.")
        return None

    def _clashes(self) -> dict[str, list[PluginInfo]]:
        owners: dict[str, list[PluginInfo]] = {}
        for plugin in self._active:
            for kind in ("executor", "sink"):
                for name in _declared(plugin, kind):
                    owners.setdefault(f"the {kind} {name!r}", []).append(plugin.info)
        return {what: infos for what, infos in owners.items() if len(infos) > 1}

    def _advice(self, name: str, usable: Sequence[str], distributions: Mapping[str, str]) -> str:
        known = set(distributions).difference(usable)
        meant = name if name in known else closest(name, known.union(usable))
        advice = [] if meant in (None, name) else [f"Did you mean {meant!r}?"]
        if meant in known:
            advice.append(f"Install it: pip install {distributions[meant]}")
        if self.failures:
            advice.append("Some plugins could not be loaded; 'celestialflow plugins' says why.")
        return " ".join(advice)


def installed() -> Registry:
    """The installed plugins, loaded once a process.

    Raises:
        PluginError: One of them failed and CELESTIALFLOW_STRICT_PLUGINS=1 asks for an error, or a plugin needs the
            plugins while it is being imported.
    """
    registry = _INSTALLED.get()
    registry.require_strictness()
    return registry


class _Once:
    """Loads the installed plugins when they are first wanted, in one thread, while others wait."""

    def __init__(self, load: Callable[[], Registry]) -> None:
        self._load = load
        self._lock = threading.RLock()
        self._loading = False
        self._registry: Registry | None = None

    def get(self) -> Registry:
        with self._lock:
            if self._loading:
                raise PluginError("A plugin uses TaskManager while it is being imported. Do that when it is called.")
            if self._registry is None:
                self._loading = True
                try:
                    self._registry = self._load()
                finally:
                    self._loading = False
            return self._registry


_INSTALLED = _Once(Registry.load)


def _called(info: PluginInfo) -> tuple[str, ...]:
    """The names under which users may speak of a plugin, as they are compared."""
    return tuple(normalise(name) for name in (info.name, info.distribution) if name)


def _declared(plugin: Plugin, kind: str) -> Mapping[str, Any]:
    return plugin.factories if kind == "executor" else plugin.sinks


def _provides(info: PluginInfo, what: str) -> bool:
    """Whether a plugin that is not active declares the executor or sink *what*, or by its name most likely would."""
    names = {name.removeprefix("celestialflow-") for name in _called(info)}
    return what in (*info.executors, *info.sinks) or normalise(what) in names


def _object_name(item: object) -> str:
    return item.__name__ if isinstance(item, ModuleType) else type(item).__name__
