"""One process holds a store: a lock of the operating system, on a file beside it.

The kernel drops the lock when its holder dies, however it dies. It belongs to the process and not to the descriptor
(``lockf``, not ``flock``): a worker that was forked while the store was open does not keep it when the parent is
killed. Such a lock does not keep two holders of one process apart, so those are known by a table.
"""

from __future__ import annotations

import fcntl
import os
import socket
import threading
from pathlib import Path

from celestialflow_core.errors import SinkError

__all__ = ["StoreLock"]

_HELD: set[tuple[int, int, int]] = set()
"""What this process holds: its pid (a fork has the table but not the locks), and device and inode of the file."""
_GUARD = threading.Lock()


class StoreLock:
    """The lock of a store, held from `acquire` to `release`; the file says who holds it, and goes with it."""

    def __init__(self, path: Path, fd: int, entry: tuple[int, int, int]) -> None:
        self._path = path
        self._fd = fd
        self._entry = entry

    @classmethod
    def acquire(cls, store: Path, label: str) -> StoreLock:
        """Take the lock of *store*, whose name in messages is *label*.

        Raises:
            SinkError: Another holds it, or the file cannot be made.
        """
        path = store.with_name(store.name + ".lock")
        while True:
            try:
                held = cls._try(path, label)
            except OSError as error:
                raise SinkError(label, cannot_write(store, error)) from error
            if held is not None:
                return held

    @classmethod
    def _try(cls, path: Path, label: str) -> StoreLock | None:
        """The lock, or None where the file was taken away meanwhile by the one who had held it."""
        with _GUARD:
            # Never opened while this process holds it: closing any descriptor of the file would drop the lock.
            if _entry(path) in _HELD:
                raise SinkError(label, _in_use(f"this process (pid {os.getpid()})"))
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                status = os.fstat(fd)
                entry = (os.getpid(), status.st_dev, status.st_ino)
                if _entry(path) == entry:
                    os.ftruncate(fd, 0)
                    os.pwrite(fd, f"{os.getpid()}\n{socket.gethostname()}\n".encode(), 0)
                    _HELD.add(entry)
                    held = cls(path, fd, entry)
                    fd = -1
                    return held
                return None
            except (BlockingIOError, PermissionError):
                raise SinkError(label, _in_use(_holder(fd))) from None
            finally:
                if fd >= 0:
                    os.close(fd)

    def release(self) -> None:
        """Give it up. May be called twice."""
        if self._fd < 0:
            return
        with _GUARD:
            fd, self._fd = self._fd, -1
            _HELD.discard(self._entry)
            try:
                if os.getpid() == self._entry[0]:
                    os.unlink(self._path)  # under the lock: whoever waits for this file sees that it is another one
            except OSError:
                pass  # the folder is gone, or read-only by now; a file that nobody has locked blocks nobody
            finally:
                os.close(fd)


def cannot_write(store: Path, error: OSError) -> str:
    """That *store* cannot be made or written, and what to do."""
    folder = store.parent
    if isinstance(error, FileNotFoundError | NotADirectoryError) and not os.path.isdir(folder):
        return f"The folder {folder} does not exist. Make it, or give another path."
    why = error.strerror or type(error).__name__
    return f"{store} cannot be written ({why}). Give a path where this user may write, on a disk with room."


def _entry(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return os.getpid(), status.st_dev, status.st_ino


def _holder(fd: int) -> str:
    """Who wrote the file: the pid, and the machine where that is another."""
    lines = os.pread(fd, 500, 0).decode("utf-8", "replace").split("\n")
    pid, host = (*lines, "", "")[:2]
    if not pid.isdigit():
        return "another process"  # which has it only just now
    return f"the process with pid {pid}" + (f" on {host}" if host and host != socket.gethostname() else "")


def _in_use(holder: str) -> str:
    return f"It is in use by {holder}. Wait until that has ended, end it, or give another store."
