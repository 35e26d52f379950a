"""Descriptors that never land on 0, 1 or 2.

In a program whose standard streams are closed, a new descriptor gets one of their numbers, and then a print writes
into it. Everything that the process executor opens goes through here.
"""

from __future__ import annotations

import fcntl
import os

__all__ = ["above_stdio", "descriptors_left", "eventfd", "pair", "pipe"]


def above_stdio(fd: int) -> int:
    """*fd* itself where it is above 2, else a copy that is; the original is closed."""
    if fd > 2:
        return fd
    copy = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(fd)
    return copy


def pair() -> tuple[int, int]:
    """Two ends of a private connection; the first does not block."""
    import socket  # late: workers import this module too, and have no use for it

    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    fds = above_stdio(near.detach()), above_stdio(far.detach())
    os.set_blocking(fds[0], False)
    return fds


def pipe() -> tuple[int, int]:
    """A pipe whose reading end does not block."""
    reader, writer = os.pipe()
    fds = above_stdio(reader), above_stdio(writer)
    os.set_blocking(fds[0], False)
    return fds


def eventfd() -> int:
    """A descriptor that becomes readable when something is written to it."""
    return above_stdio(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))


def descriptors_left() -> int | None:
    """How many more descriptors this process may open, or None where it cannot be told."""
    import resource

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return None
    try:
        return limit - len(os.listdir("/proc/self/fd")) + 1  # the listing itself holds one
    except OSError:
        return None
