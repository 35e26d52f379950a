"""What the kernel says about this process's share of the machine: cpus, and kills for want of memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["cpus_of_quota", "oom_kills", "usable_cpus"]

_ROOT = Path("/sys/fs/cgroup")


def usable_cpus() -> int:
    """How many cpus this process may use: its affinity, limited by the cpu quota of its control group."""
    try:
        cpus = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        cpus = os.cpu_count() or 1
    quota = cpus_of_quota()
    return cpus if quota is None else max(1, min(cpus, quota))


def cpus_of_quota(root: Path = _ROOT, membership: Path = Path("/proc/self/cgroup")) -> int | None:
    """The cpu quota in whole cpus, rounded up, or None without one. Control groups v1 and v2.

    Args:
        root: Where the control groups are mounted.
        membership: The file that says in which groups this process is.
    """
    quotas: list[int] = []
    for folder in _folders(root, membership, "cpu"):
        try:
            if (folder / "cpu.max").exists():
                quota, period = (folder / "cpu.max").read_text().split()
            else:
                quota = (folder / "cpu.cfs_quota_us").read_text().strip()
                period = (folder / "cpu.cfs_period_us").read_text().strip()
            if quota not in ("max", "-1"):
                quotas.append(max(1, -(-int(quota) // int(period))))
        except (OSError, ValueError, ZeroDivisionError):
            continue  # no quota at this level
    return min(quotas, default=None)


def oom_kills(root: Path = _ROOT, membership: Path = Path("/proc/self/cgroup")) -> int | None:
    """How many processes of this control group the kernel has killed for want of memory, or None if unknown."""
    for folder in _folders(root, membership, "memory"):
        for name in ("memory.events", "memory.oom_control"):
            try:
                lines = (folder / name).read_text().split("\n")
            except OSError:
                continue
            for line in lines:
                key, _, value = line.partition(" ")
                if key == "oom_kill" and value.strip().isdigit():
                    return int(value)
    return None


def _folders(root: Path, membership: Path, controller: str) -> Iterator[Path]:
    """The folders that may hold the group's files for *controller*, from the group itself up to the root."""
    try:
        groups = membership.read_text().splitlines()
    except OSError:
        groups = []
    for group in groups:
        _, _, rest = group.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        top = root / controllers if controllers else root
        for candidate in (top, root / controller) if controllers else (top, root / "unified"):
            inner = candidate / path.lstrip("/")
            while inner != candidate and candidate in inner.parents:
                yield inner
                inner = inner.parent
            # A container sees its own group as the root, whatever path it is told.
            yield candidate
