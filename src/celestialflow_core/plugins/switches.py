"""The environment variables that say which installed plugins are loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping

import attrs

__all__ = ["Switches", "normalise"]


@attrs.frozen
class Switches:
    """Which installed plugins are loaded. The core's own always are, and a disabled name is never.

    Attributes:
        only: Names in CELESTIALFLOW_PLUGINS, or None where it is not set; set but empty, it allows none.
        disabled: Names in CELESTIALFLOW_DISABLE_PLUGINS.
        autoload: False for CELESTIALFLOW_PLUGIN_AUTOLOAD=0: only what is named is loaded.
        strict: True for CELESTIALFLOW_STRICT_PLUGINS=1: a failed plugin is an error.
    """

    only: frozenset[str] | None = None
    disabled: frozenset[str] = frozenset()
    autoload: bool = True
    strict: bool = False

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Switches:
        """Read them from *environ*. A name is an entry point's or a distribution's."""
        only = environ.get("CELESTIALFLOW_PLUGINS")
        return cls(
            only=None if only is None else _names(only),
            disabled=_names(environ.get("CELESTIALFLOW_DISABLE_PLUGINS", "")),
            autoload=_truth(environ.get("CELESTIALFLOW_PLUGIN_AUTOLOAD", ""), True),
            strict=_truth(environ.get("CELESTIALFLOW_STRICT_PLUGINS", ""), False),
        )

    def reason_off(self, name: str, distribution: str | None) -> str:
        """Why a plugin is not loaded, as a sentence; "" if it is."""
        called = {normalise(name), normalise(distribution or name)}
        if called & self.disabled:
            return "CELESTIALFLOW_DISABLE_PLUGINS names it."
        if self.only is not None:
            return "" if called & self.only else "CELESTIALFLOW_PLUGINS is set and does not name it."
        return (
            ""
            if self.autoload
            else "With CELESTIALFLOW_PLUGIN_AUTOLOAD=0 it is loaded only where plugins=[...] names it."
        )

    def may_be_named(self, name: str, distribution: str | None) -> bool:
        """Whether a plugin that is off may still be loaded for a manager that asks for it by name."""
        return self.only is None and not {normalise(name), normalise(distribution or name)} & self.disabled


def normalise(name: str) -> str:
    """*name* as package indexes compare names: My_Plugin and my-plugin are one."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _names(text: str) -> frozenset[str]:
    return frozenset(normalise(name.strip()) for name in text.split(",") if name.strip())


def _truth(text: str, default: bool) -> bool:
    if not text.strip():
        return default
    return text.strip().lower() not in ("0", "false", "no", "off")
