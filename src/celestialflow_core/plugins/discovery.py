"""Finds the installed plugins and loads each of them by itself, so that none can take another down.

    entry points -> sorted -> switched off? -> name taken? -> import -> hooks checked -> asked what it has -> Plugin

pluggy's own loader stops at the first import that fails and drops a second plugin of one name in silence; this one
gives a `Plugin` for every entry point, whatever happened to it. Entry points and switches are arguments, so that a test
has nothing to patch. What follows from a failed plugin is the registry's to decide.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from celestialflow_core.plugins.builtin import CORE, ENTRY_POINTS
from celestialflow_core.plugins.loading import EntryPointLike, Plugin, PluginInfo, load
from celestialflow_core.plugins.switches import Switches, normalise

__all__ = ["GROUP", "discover"]

GROUP = "celestialflow"


def discover(entry_points: Iterable[EntryPointLike] | None = None, switches: Switches | None = None) -> list[Plugin]:
    """Load every installed plugin that is switched on.

    Args:
        entry_points: Those to look at; by default the installed ones.
        switches: Which of them are loaded; by default all.

    Returns:
        All of them, sorted by distribution and name, so that nothing depends on the order of ``sys.path``.
    """
    if entry_points is None:
        from importlib.metadata import entry_points as installed

        entry_points = installed(group=GROUP)
    switches = switches or Switches()
    found = [(point, info, _reason_off(point, info, switches)) for point, info in _described(entry_points)]
    owners: dict[str, list[PluginInfo]] = {}
    for _, info, off in found:
        if not off:
            owners.setdefault(info.name, []).append(info)
    plugins = []
    for point, info, off in found:
        if off:
            info = attrs.evolve(info, state="disabled", reason=off)
            may_be_named = switches.may_be_named(info.name, info.distribution)
            plugins.append(Plugin(info, entry_point=point if may_be_named else None))
        elif len(owners[info.name]) > 1 and not _is_core(point):
            info = attrs.evolve(info, state="failed", reason=_name_taken(info, owners[info.name]))
            plugins.append(Plugin(info))
        else:
            plugins.append(load(point, info))
    return plugins


def _described(entry_points: Iterable[EntryPointLike]) -> list[tuple[EntryPointLike, PluginInfo]]:
    """The entry points, each once and sorted, with what is known of them before an import.

    The core's own are added where its metadata is missing: the package may be on the path without being installed.
    """
    described: dict[tuple[str | None, str, str], tuple[EntryPointLike, PluginInfo]] = {}
    missing = dict(ENTRY_POINTS)
    core_version = None
    for point in entry_points:
        distribution, version = _distribution(point)
        if _is_core(point):
            distribution, core_version = CORE, version
            missing.pop(point.name, None)
        info = _info(point, distribution, version)
        described.setdefault((info.distribution, point.name, point.value), (point, info))
    if missing:
        from importlib.metadata import EntryPoint

        for name, value in missing.items():
            point = EntryPoint(name=name, value=value, group=GROUP)
            described[CORE, name, value] = (point, _info(point, CORE, core_version))
    return sorted(described.values(), key=lambda pair: (normalise(pair[1].distribution or ""), pair[1].name))


def _info(point: EntryPointLike, distribution: str | None, version: str | None) -> PluginInfo:
    module = point.value.partition(":")[0].strip()
    return PluginInfo(name=point.name, distribution=distribution, version=version, module=module)


def _is_core(point: EntryPointLike) -> bool:
    return ENTRY_POINTS.get(point.name) == point.value


def _distribution(point: EntryPointLike) -> tuple[str | None, str | None]:
    """Name and version of the distribution of *point*, as far as its metadata can be read."""
    distribution = getattr(point, "dist", None)
    if distribution is None:
        return None, None
    try:
        return distribution.name, distribution.version
    except Exception:
        # Damaged metadata: the plugin may work all the same, only nobody can say whose it is.
        return None, None


def _reason_off(point: EntryPointLike, info: PluginInfo, switches: Switches) -> str:
    return "" if _is_core(point) else switches.reason_off(info.name, info.distribution)


def _name_taken(info: PluginInfo, owners: list[PluginInfo]) -> str:
    whose = " and ".join(owner.source for owner in owners)
    return (
        f"More than one distribution has a plugin named {info.name!r}: {whose}. "
        f"Uninstall one, or switch it off by its distribution: CELESTIALFLOW_DISABLE_PLUGINS={info.distribution}."
    )
