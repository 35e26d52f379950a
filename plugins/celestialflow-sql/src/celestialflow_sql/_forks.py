"""A process that the user's code forks does not keep the connection of a store.

The server lets go of the lock when the connection ends, and a connection has ended when the last process that has its
socket has closed it. A fork would keep that open after its parent was killed. So in each fork /dev/null takes the place
of the socket; what the drivers do there with the copies of their objects then reaches nobody.
"""

from __future__ import annotations

import os

__all__ = ["keep", "let_go"]

_SOCKETS: dict[int, int] = {}
"""Descriptors, each with the inode of its socket: a driver may have closed one that is somebody else's file by now."""


def keep(descriptor: int) -> None:
    """From now on *descriptor* is a socket that forks are not to have."""
    _SOCKETS[descriptor] = os.fstat(descriptor).st_ino


def let_go(descriptor: int) -> None:
    """*descriptor* is about to be closed."""
    _SOCKETS.pop(descriptor, None)


def _replace() -> None:
    if not _SOCKETS:
        return
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for descriptor, inode in _SOCKETS.items():
        try:
            if os.fstat(descriptor).st_ino == inode:
                os.dup2(nothing, descriptor, inheritable=False)
        except OSError:  # it is closed
            pass
    os.close(nothing)
    _SOCKETS.clear()


os.register_at_fork(after_in_child=_replace)
