"""Whether any plugin is installed at all, for ``--help``: a look that takes 3 ms, where importlib.metadata takes 40."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence

__all__ = ["any_plugins"]

HEADER = b"[celestialflow]"
OURS = b"celestialflow_core.plugins.builtin:"


def any_plugins(path: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> bool:
    """False where it is certain that nobody but the core has entry points of ours.

    Args:
        path: Where distributions are looked for; by default ``sys.path``.
        environ: Where plugins may be asked for by name; by default ``os.environ``.
    """
    if (os.environ if environ is None else environ).get("CELESTIALFLOW_PLUGINS"):
        return True
    if path is None:
        path = sys.path
        if any(hasattr(finder, "find_distributions") for finder in sys.meta_path if not _is_pythons(finder)):
            return True  # as of an editable install, or of a program in one file
    return any(map(_has_plugins, path))


def _is_pythons(finder: object) -> bool:
    module = getattr(finder, "__module__", None) or type(finder).__module__
    return module in ("_frozen_importlib", "_frozen_importlib_external")


def _has_plugins(folder: str) -> bool:
    try:
        metadata = [entry.path for entry in os.scandir(folder or ".") if entry.name.endswith(("-info", ".egg"))]
    except FileNotFoundError:
        return False
    except OSError:  # a zip file, or something that cannot be read
        return True
    return any(map(_declares, metadata))


def _declares(metadata: str) -> bool:
    for name in ("entry_points.txt", "EGG-INFO/entry_points.txt"):
        try:
            with open(os.path.join(metadata, name), "rb") as file:
                text = file.read()
        except OSError:
            continue
        if HEADER in text and any(OURS not in line for line in _section(text)):
            return True
    return False


def _section(text: bytes) -> Iterator[bytes]:
    """The lines of the entry points of our group."""
    inside = False
    for line in map(bytes.strip, text.splitlines()):
        if line.startswith(b"["):
            inside = line == HEADER
        elif inside and line and not line.startswith((b"#", b";")):
            yield line
