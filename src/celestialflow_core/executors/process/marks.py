"""Marks in what a worker writes, that tell which call wrote it.

A worker's standard streams are pipes to the parent, so what was written is there whatever becomes of the worker. Where
one call's text ends and the next one's begins is said in the pipe itself: before the first text of a call, and after
the call if it wrote something. A call that writes nothing costs nothing.

    mark    \\x1e token > number \\x1e      call `number` writes what follows
            \\x1e token < number \\x1e      call `number` has ended

The token is random and the worker's own, so no text looks like a mark. Calls are numbered as in `memory`; number 0 is
the set-up. What goes to the descriptors directly (from C, from a child process) passes without marks of its own; the
parent then knows it from when it came (`output`).
"""

from __future__ import annotations

import io
import os
import select
import sys
from typing import Any

from celestialflow_core.executors.process.memory import STARTED

__all__ = ["BEGIN", "EDGE", "END", "Marker", "install", "prefix_of"]

EDGE = b"\x1e"
BEGIN = b">"
END = b"<"


def prefix_of(token: str) -> bytes:
    """How every mark of the worker begins."""
    return EDGE + token.encode()


class Marker:
    """Writes the marks of one stream. Lives in the worker.

    Args:
        fd: The stream's descriptor.
        prefix: How a mark begins.
        counts: The worker's line in the shared memory.
        written: Where to note that a mark has to follow at the end of the call.
    """

    def __init__(self, fd: int, prefix: bytes, counts: memoryview[int], written: list[Any]) -> None:
        # A copy of our own: a task may point its stdout at a file for a while, and marks do not belong in there.
        self._fd = os.dup(fd)
        self._inode = os.fstat(self._fd).st_ino
        self._prefix = prefix
        self._counts = counts
        self._written = written
        self._number = -1

    def begin(self) -> None:
        """The call that runs now is about to write."""
        number = self._counts[STARTED]
        if number != self._number:
            self._number = number
            self._written.append(self)
            self._put(BEGIN, number)

    def end(self) -> None:
        """The call that wrote has ended."""
        number, self._number = self._number, -1
        if number >= 0:
            self._put(END, number)

    def _put(self, kind: bytes, number: int) -> None:
        try:
            if os.fstat(self._fd).st_ino == self._inode:
                os.write(self._fd, self._prefix + kind + b"%d" % number + EDGE)
        except OSError:
            pass  # the task has closed every descriptor, or the parent is gone: nobody will miss the mark


class _Stream(io.FileIO):
    """Standard output or error of a worker: writes at once, and whole."""

    def __init__(self, fd: int, name: str, marker: Marker) -> None:
        super().__init__(fd, "w", closefd=False)
        self.name = name  # as Python names its own
        self._marker = marker

    def write(self, data: Any) -> int:
        self._marker.begin()
        left = memoryview(data).cast("B")
        size = len(left)
        while left:
            written = super().write(left)
            if written is None:  # a child process has made the pipe that we share with it non-blocking
                poller = select.poll()
                poller.register(self.fileno(), select.POLLOUT)
                poller.poll()
            else:
                left = left[written:]
        return size


def install(token: str, counts: memoryview[int], written: list[Any]) -> None:
    """Replace sys.stdout and sys.stderr by streams that mark what is written.

    Nothing is held back in them: what a task has printed when it is killed is in the pipe.
    """
    for fd, name in ((1, "stdout"), (2, "stderr")):
        raw = _Stream(fd, f"<{name}>", Marker(fd, prefix_of(token), counts, written))
        text = io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", write_through=True)
        setattr(sys, name, text)
        setattr(sys, f"__{name}__", text)
