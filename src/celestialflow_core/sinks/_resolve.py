"""What the user gave as a sink, a URL or an object, as a sink, and the name that it has in messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from celestialflow_core._text import cut, text_of
from celestialflow_core.errors import CelestialFlowError, PluginError, SinkError, UnknownSink
from celestialflow_core.sinks._urls import name_of, redacted, without_secrets
from celestialflow_core.sinks.interface import Sink

if TYPE_CHECKING:
    from celestialflow_core.plugins.registry import Registry

__all__ = ["label_of", "resolve_sink"]

_SUFFIXES = {
    ".db": "sqlite",
    ".sqlite": "sqlite",
    ".sqlite3": "sqlite",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}


def label_of(given: object) -> str:
    """What to call a sink in messages, logs and reprs: its URL without secrets, or its type."""
    return redacted(given) if isinstance(given, str) else type(given).__qualname__


def resolve_sink(given: object, registry: Registry | None = None) -> Sink:
    """The sink that *given* is, or that the plugins of *registry* make of it. Opens nothing.

    Args:
        given: A URL ("sqlite:results.db"), or an object with ``open``, ``write`` and ``close``.
        registry: The plugins of the run; by default those that are installed.

    Raises:
        UnknownSink: No plugin has a sink of this name, or there is no name.
        PluginError: The plugin that has it cannot be used: it misses what it imports, say, or makes no sink.
        SinkError: The URL is not one that its sink understands.
        TypeError: It is neither.
    """
    if not isinstance(given, str):
        return _checked(given)
    if registry is None:
        from celestialflow_core.plugins.registry import installed

        registry = installed()
    name = name_of(given)
    if name is None:
        raise UnknownSink(redacted(given), registry.sinks, _advice(given))
    # "postgresql+psycopg" is how people name the driver too; the sink is postgresql's unless one has the whole name.
    base = name.partition("+")[0]
    name = base if name not in registry.sinks and base in registry.sinks else name
    factory = registry.sink_factory(name)
    try:
        made = factory(given)
    except CelestialFlowError:
        raise
    except Exception as error:
        # Not chained where it speaks of a secret: tracebacks end up in logs.
        cause = error if without_secrets(text_of(error), given) == text_of(error) else None
        if isinstance(error, ImportError):
            raise PluginError(without_secrets(registry.cannot_make("sink", name, error), given)) from cause
        said = without_secrets(f"{type(error).__name__}: {text_of(error)}", given).rstrip(".")
        raise SinkError(redacted(given), f"This sink cannot be made ({said}).") from cause
    if _missing(made) or isinstance(made, type):
        raise PluginError(registry.cannot_make("sink", name, made))
    return made


def _missing(given: object) -> list[str]:
    """The verbs of a sink that *given* does not have."""
    return [verb for verb in ("open", "write", "close") if not callable(getattr(given, verb, None))]


def _checked(given: object) -> Sink:
    missing = _missing(given)
    if missing or isinstance(given, type):
        lacks = "is a class: give an object of it" if isinstance(given, type) else f"has no {missing[0]}()"
        raise TypeError(
            f"A sink is a URL like 'sqlite:results.db', or an object with open, write and close; {cut(given)} {lacks}."
        )
    return cast(Sink, given)


def _advice(given: str) -> str:
    for suffix, name in _SUFFIXES.items():
        if given.endswith(suffix):
            return f"A sink is named by a URL: write '{name}:{redacted(given)}'."
    return "A sink is named by a URL, such as 'sqlite:results.db'."
