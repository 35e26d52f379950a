"""The two pluggy markers: `hookimpl` for plugins, `hookspec` for the hooks that they may implement."""

from __future__ import annotations

import pluggy

__all__ = ["MARK", "PROJECT", "hookimpl", "hookspec"]

PROJECT = "celestialflow"

MARK = f"{PROJECT}_impl"
"""The attribute in which pluggy's marker leaves its options; documented by pluggy, and the same in all its versions."""

hookspec = pluggy.HookspecMarker(PROJECT)

hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a function or method as the implementation of the hook of its name."""
