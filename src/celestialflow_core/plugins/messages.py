"""What is said about plugins that cannot be used: which one, whose it is, why, and what to do."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Sequence

from celestialflow_core.errors import PluginError
from celestialflow_core.plugins.builtin import CORE
from celestialflow_core.plugins.loading import PluginInfo
from celestialflow_core.plugins.spelling import closest

__all__ = ["PluginWarning", "clash", "not_installed", "plugin_error", "title", "unusable", "warn"]


class PluginWarning(UserWarning):
    """A plugin cannot be used, or does not do what its author meant; the run goes on without."""


def title(info: PluginInfo) -> str:
    """A plugin as the subject of a sentence."""
    return f"The plugin {info.name!r} of {info.source}"


def unusable(info: PluginInfo) -> str:
    """That a plugin is disabled or has failed, and why."""
    return f"{title(info)} {'is disabled' if info.state == 'disabled' else 'cannot be used'}: {info.reason}"


def plugin_error(info: PluginInfo, wanted: str = "") -> PluginError:
    """The error of a run that needs a plugin that it cannot have; the plugin's own traceback is its note.

    Args:
        info: The plugin.
        wanted: What was asked of it, as a sentence; "" for the plugin itself.
    """
    error = PluginError(f"{wanted} {unusable(info)}".lstrip())
    if info.details:
        error.add_note(info.details.rstrip())
    return error


def clash(what: str, owners: Sequence[PluginInfo]) -> str:
    """That more than one plugin declares *what*: "the executor 'dask'"."""
    whose = " and ".join(f"{info.name!r} of {info.source}" for info in owners)
    foreign = [info.distribution for info in owners if info.distribution not in (None, CORE)]
    switch = f", or switch it off: CELESTIALFLOW_DISABLE_PLUGINS={foreign[-1]}" if foreign else ""
    return f"More than one plugin declares {what}: {whose}. Remove one of them{switch}."


def not_installed(name: str, plugins: Iterable[PluginInfo]) -> str:
    """That a plugin was named that is not there."""
    names = sorted({info.name for info in plugins})
    meant = closest(name, names)
    guess = f" Did you mean {meant!r}?" if meant else ""
    return f"No installed plugin is named {name!r}. Installed: {', '.join(names)}.{guess}"


def warn(text: str) -> None:
    """Warn at the line outside of this package that led here."""
    level = 1
    frame = sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "celestialflow_core":
        frame = frame.f_back
        level += 1
    warnings.warn(PluginWarning(text), stacklevel=level)
