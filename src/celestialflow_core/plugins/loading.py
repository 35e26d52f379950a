"""Makes a `Plugin` of an entry point or of an object. Whatever goes wrong in it is written down as its own failure."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Literal, Protocol

import attrs

from celestialflow_core.plugins.builtin import CORE
from celestialflow_core.plugins.implementations import Implementation, read

__all__ = ["EntryPointLike", "Plugin", "PluginInfo", "load", "raised", "take"]


class EntryPointLike(Protocol):
    """What is used of an ``importlib.metadata.EntryPoint``, beside its ``dist``: that is None where it is unknown."""

    @property
    def name(self) -> str:
        """The plugin's name."""
        ...

    @property
    def value(self) -> str:
        """Where it is: "module" or "module:attribute"."""
        ...

    def load(self) -> Any:
        """Import it."""
        ...


@attrs.frozen(kw_only=True)
class PluginInfo:
    """What is known of one plugin, whether or not it could be loaded.

    Attributes:
        name: The entry point's name, or one made for an object in ``plugins=[...]``.
        distribution: The distribution that installed it, or None for an object.
        version: The distribution's version.
        module: The module that it is in.
        hooks: The hooks that it implements.
        executors: The executors that it declares.
        sinks: The sinks that it declares.
        state: "active", "disabled" or "failed".
        reason: Why it is not active, in sentences.
        warnings: What is suspicious about it although it is active, a sentence each.
        details: The traceback of what failed, as text.
    """

    name: str
    distribution: str | None = None
    version: str | None = None
    module: str = ""
    hooks: tuple[str, ...] = ()
    executors: tuple[str, ...] = ()
    sinks: tuple[str, ...] = ()
    state: Literal["active", "disabled", "failed"] = "active"
    reason: str = ""
    warnings: tuple[str, ...] = ()
    details: str = ""

    @property
    def source(self) -> str:
        """Where it comes from, for messages: "celestialflow-dask 1.0"."""
        return " ".join(part for part in (self.distribution, self.version) if part) or self.module


@attrs.frozen(eq=False)
class Plugin:
    """A plugin with what it brings, which is nothing unless it is active.

    Attributes:
        info: What is known of it.
        object: The plugin itself, or None where it was not loaded.
        implementations: Its hooks.
        factories: Its executors.
        sinks: Its sinks.
        entry_point: For one that is off, but may be named: what to load.
    """

    info: PluginInfo
    object: object = None
    implementations: tuple[Implementation, ...] = ()
    factories: Mapping[str, Any] = attrs.field(factory=dict)
    sinks: Mapping[str, Any] = attrs.field(factory=dict)
    entry_point: EntryPointLike | None = None


def load(point: EntryPointLike, info: PluginInfo) -> Plugin:
    """Import the plugin of *point* and take it, unless it requires another core than this one."""
    refused = _refusal(point, info)
    if refused:
        return Plugin(attrs.evolve(info, state="failed", reason=refused))
    try:
        loaded = point.load()
    except (Exception, SystemExit) as error:
        # SystemExit: a module that calls sys.exit() where something is missing must not end the program.
        return _failed(info, raised(f"Importing {point.value}", error, info), error)
    return take(loaded, info)


def take(loaded: object, info: PluginInfo) -> Plugin:
    """Read the hooks of a plugin object, and ask it for its executors and sinks."""
    try:
        reading = read(loaded)
    except Exception as error:
        return _failed(info, f"Looking for its hooks raised {_text(error)}.", error)
    declared: dict[str, dict[str, Any]] = {"executor_factories": {}, "sink_factories": {}}
    errors = reading.errors
    details = ""
    for implementation in reading.implementations:
        hook = implementation.hook
        if hook not in declared:
            continue
        try:
            errors += _add(declared[hook], implementation.call(), hook)
        except (Exception, SystemExit) as error:
            errors.append(raised(hook, error, info))
            details = _traceback(error)
    executors, sinks = declared["executor_factories"], declared["sink_factories"]
    # A failed plugin keeps the names of what it declares, so that whoever asks for it is told why it is missing.
    info = attrs.evolve(
        info,
        hooks=tuple(sorted({implementation.hook for implementation in reading.implementations})),
        executors=tuple(sorted(executors)),
        sinks=tuple(sorted(sinks)),
        state="failed" if errors else "active",
        reason=" ".join(errors),
        warnings=tuple(reading.warnings),
        details=details,
    )
    if errors:
        return Plugin(info, loaded)
    return Plugin(info, loaded, tuple(reading.implementations), executors, sinks)


def raised(what: str, error: BaseException, info: PluginInfo) -> str:
    """That *what* of a plugin raised *error*, and what to do if something is not there."""
    text = f"{what} raised {_text(error)}."
    if isinstance(error, AttributeError) and isinstance(error.obj, ModuleType) and error.obj.__name__ == info.module:
        text = (
            f"{text} Its entry point names what the module does not have: whoever makes the distribution has to "
            f"correct that in its pyproject.toml."
        )
    elif isinstance(error, ImportError):
        from celestialflow_core.plugins.requirements import advice  # only ever needed on the way to an error

        text = f"{text} {advice(error, info)}".rstrip()
    return text


def _refusal(point: EntryPointLike, info: PluginInfo) -> str:
    distribution = getattr(point, "dist", None)
    requires = None if info.distribution in (None, CORE) else getattr(distribution, "requires", None)
    if not requires:
        return ""
    from celestialflow_core.plugins.requirements import refusal  # nothing to import where no plugin is installed

    return refusal(info.distribution or "", requires)


def _failed(info: PluginInfo, reason: str, error: BaseException) -> Plugin:
    return Plugin(attrs.evolve(info, state="failed", reason=reason, details=_traceback(error)))


def _add(factories: dict[str, Any], given: object, hook: str) -> list[str]:
    """Put what *hook* gave into *factories*; returns what is wrong with it."""
    if given is None:
        return []
    if not isinstance(given, Mapping):
        return [f"{hook} gave {_short(given)}; it must give a dict from names to factories."]
    errors = []
    for name, factory in given.items():
        if not isinstance(name, str) or not name:
            errors.append(f"{hook} gave the name {_short(name)}; a name is a str that is not empty.")
        elif not callable(factory):
            errors.append(f"{hook} gave {_short(factory)} for {name!r}; a factory must be callable.")
        elif not _takes_one(factory):
            wanted = "worker_limit, **options" if hook == "executor_factories" else "url"
            errors.append(
                f"{hook} gave {_short(factory)} for {name!r}, which takes no argument by position; it is called as "
                f"factory({wanted})."
            )
        elif name in factories:
            errors.append(f"{hook} gave two factories for {name!r}.")
        else:
            factories[name] = factory
    return errors


def _takes_one(factory: Callable[..., Any]) -> bool:
    """False for what cannot be called with one argument, whatever else it is given."""
    try:
        inspect.signature(factory).bind_partial(None)
    except TypeError:
        return False
    except ValueError:  # some builtins do not tell
        return True
    return True


def _text(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}".rstrip(": .")
    except Exception as second:
        return f"{type(error).__name__}, whose text raises {type(second).__name__}"


def _short(value: object) -> str:
    try:
        text = repr(value)
    except Exception as error:
        return f"a {type(value).__name__}, whose repr raises {type(error).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))
