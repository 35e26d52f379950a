"""From the sinks that a user names to the storage of a run."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from typing import Any

from celestialflow_core._digest import FORMAT
from celestialflow_core._driver.storage import Storage
from celestialflow_core.plugins import Registry
from celestialflow_core.sinks._resolve import label_of, resolve_sink
from celestialflow_core.sinks.interface import Manifest, Store

__all__ = ["make_storage", "target_of"]


def make_storage(
    given: Sequence[Any],
    registry: Registry,
    *,
    name: str,
    stages: tuple[str, ...],
    version: str,
    target: str | None,
    resume: bool | str,
    shard: str | None = None,
) -> Storage | None:
    """The storage of a run, or None where it has neither sinks nor a shard, for which tasks need stable keys, too.

    Args:
        given: What the user gave as sinks: URLs and objects.
        registry: Where the sinks that are named come from.
        name, stages, version, target, shard: As in `Manifest`.
        resume: False, True, "unfinished" or "failed".

    Raises:
        UnknownSink: No sink has this name.
        ValueError: The run is to resume, and none of the sinks can restore anything.
    """
    if not given and shard is None:
        return None
    sinks = [(label_of(each), resolve_sink(each, registry)) for each in given]
    if resume and not any(isinstance(sink, Store) for _, sink in sinks):
        raise ValueError(
            f"resume={resume!r} needs a sink that can restore what it has stored, as sqlite: and jsonl: can; "
            f"{', '.join(name for name, _ in sinks)} cannot."
        )
    manifest = Manifest(
        name=name, stages=stages, version=version, keys=FORMAT, target=target, resume=bool(resume), shard=shard
    )
    return Storage(sinks, manifest)


def target_of(func: Callable[..., Any]) -> str | None:
    """The function as "module:function", if it is found there; None for a lambda, a closure, a partial, a method."""
    if isinstance(func, functools.partial):
        return None
    module, name = getattr(func, "__module__", None), getattr(func, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or module == "__main__":
        return None
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return None
    return f"{module}:{name}" if found is func else None
