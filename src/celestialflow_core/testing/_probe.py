"""Loads a plugin as a run does, in a process of its own: ``python -m celestialflow_core.testing._probe MODULE``.

Prints, as one line of JSON, which modules that has imported beyond those of the core, and which threads it has started.
"""

from __future__ import annotations

import json
import sys
import threading
from importlib.metadata import entry_points

from celestialflow_core.plugins.discovery import GROUP
from celestialflow_core.plugins.registry import Registry

__all__ = ["main"]


def main(module: str) -> None:
    """Load the installed plugins that are in *module*."""
    points = [point for point in entry_points(group=GROUP) if point.module == module]
    # What the core imports, to read metadata for one, is there before.
    Registry.load([], {})
    for point in points:
        _ = point.dist and point.dist.version
    modules, threads = set(sys.modules), set(threading.enumerate())
    Registry.load(points, {})
    found = {
        "modules": sorted(set(sys.modules) - modules),
        "threads": sorted(thread.name for thread in set(threading.enumerate()) - threads),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
