"""For authors of stores that are files: the URL of one, and the lock that one process at a time has.

`FileUrl` reads ``name:path?option=value``. `StoreLock` is dropped by the kernel when its holder dies, and names the
holder to others. `cannot_write` says why a file cannot be written, and what to do.
"""

from __future__ import annotations

from celestialflow_core.sinks._lock import StoreLock, cannot_write
from celestialflow_core.sinks._urls import FileUrl

__all__ = ["FileUrl", "StoreLock", "cannot_write"]
