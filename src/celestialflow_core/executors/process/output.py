"""What workers write: passed on to the user by whole lines, and kept until it is known whether the call failed.

Every piece of text has two bounds: the first call that may have written it, and the last. The marks in the pipe make
them one and the same for all that Python writes (`marks`). For the rest the count of calls in the shared memory does,
as it was before the piece arrived and after. A failed call gets every piece that may be its own: rather a line of its
neighbour than one of its own too few.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable

from celestialflow_core.executors.process.marks import BEGIN, EDGE, END, prefix_of

__all__ = ["Emit", "Output", "to_own_streams"]

Emit = Callable[[int, str, bytes], None]
"""Takes the worker's index, "stdout" or "stderr", and whole lines."""

_OF_A_CALL = 64 * 1024  # bytes of its text that a failed call keeps
_KEPT = 1 << 20  # bytes that are kept for the calls of one worker whose results have not come yet
_LONGEST_LINE = 1 << 20  # a longer one is broken
_PIECE = 65_536  # what a pipe holds
_LONGEST_MARK = 64


class _Stream:
    """One pipe: where its text goes, what of it is not a whole line, and the first call that may write to it now."""

    __slots__ = ("carry", "ended", "fd", "line", "low", "name", "open")

    def __init__(self, fd: int, name: str) -> None:
        self.fd = fd
        self.name = name
        self.low = 0
        self.open = False  # whether a call has begun to write and not ended; all is its own then
        self.carry = b""
        self.line = bytearray()
        self.ended = False


class Output:
    """Reads what one worker writes.

    Args:
        index: The worker's index.
        stdout: The reading end of its standard output, which does not block.
        stderr: The same for standard error.
        started: Tells how many calls it has started.
        emit: Takes whole lines.

    Attributes:
        token: What its marks are known by.
    """

    def __init__(self, index: int, stdout: int, stderr: int, started: Callable[[], int], emit: Emit) -> None:
        self.token = os.urandom(8).hex()
        self._prefix = prefix_of(self.token)
        self._index = index
        self._streams = _Stream(stdout, "stdout"), _Stream(stderr, "stderr")
        self._started = started
        self._emit = emit
        self._pieces: deque[tuple[int, int, bytes]] = deque()
        self._size = 0

    def read(self, fd: int) -> bool:
        """Read from one of the pipes; False when nobody writes to it any more."""
        stream = self._streams[0] if fd == self._streams[0].fd else self._streams[1]
        self._read(stream)
        return not stream.ended

    def drain(self) -> None:
        """Read all that is there."""
        for stream in self._streams:
            if not stream.ended:
                self._read(stream)

    def finish(self) -> None:
        """Read the rest, and pass on lines that have no end: the worker is gone."""
        self.drain()
        for stream in self._streams:
            self._complete(stream)

    def of(self, number: int) -> str | None:
        """The last of what call *number* wrote, to either stream; None if that is nothing."""
        text = b"".join([piece for low, high, piece in self._pieces if low <= number <= high])
        return text[-_OF_A_CALL:].decode("utf-8", "replace") if text else None

    def forget(self, done: int) -> None:
        """The results of *done* calls are here; their text is not needed any more."""
        if self._pieces:
            self._pieces = deque(each for each in self._pieces if each[1] > done)
            self._size = sum(len(piece) for _, _, piece in self._pieces)

    def _read(self, stream: _Stream) -> None:
        for _ in range(16):  # a task that never stops writing must not keep us here
            before = self._started()
            try:
                data = os.read(stream.fd, _PIECE)
            except BlockingIOError:
                if not stream.open:
                    stream.low = max(stream.low, before)  # what comes from now on is written from now on
                return
            if not data:
                stream.ended = True
                return
            lines_from = len(stream.line)
            self._sort(stream, data)
            self._pass_on(stream, lines_from)

    def _sort(self, stream: _Stream, data: bytes) -> None:
        """Take the marks out of *data*, and note whose the pieces between them are."""
        prefix = self._prefix
        data = stream.carry + data
        stream.carry = b""
        start = 0
        while (at := data.find(prefix, start)) >= 0:
            stop = data.find(EDGE, at + len(prefix), at + _LONGEST_MARK)
            if stop < 0:
                break
            kind, number = data[at + len(prefix) : at + len(prefix) + 1], int(data[at + len(prefix) + 1 : stop])
            self._keep(stream, data[start:at], number)
            stream.open = kind == BEGIN
            stream.low = number if stream.open else number + 1
            if kind == END and stream.line and not stream.line.endswith(b"\n"):
                stream.line += b"\n"  # the next call must not go on in the same line
            start = stop + 1
        # A mark may be cut in two.
        edge = at if at >= 0 else data.rfind(EDGE, max(start, len(data) - len(prefix)))
        if edge >= 0 and (at >= 0 or prefix.startswith(data[edge:])):
            stream.carry = data[edge:]
            data = data[:edge]
        self._keep(stream, data[start:], stream.low if stream.open else self._started())

    def _keep(self, stream: _Stream, piece: bytes, high: int) -> None:
        if not piece:
            return
        stream.line += piece
        self._pieces.append((stream.low, max(stream.low, high), piece))
        self._size += len(piece)
        while self._size > _KEPT and len(self._pieces) > 1:
            self._size -= len(self._pieces.popleft()[2])

    def _pass_on(self, stream: _Stream, searched: int) -> None:
        """Emit the lines that are whole; in the first *searched* bytes no line ends."""
        end = stream.line.rfind(b"\n", searched) + 1
        if not end and len(stream.line) > _LONGEST_LINE:
            stream.line += b"\n"
            end = len(stream.line)
        if end:
            self._emit(self._index, stream.name, bytes(stream.line[:end]))
            del stream.line[:end]

    def _complete(self, stream: _Stream) -> None:
        if stream.line:
            self._emit(self._index, stream.name, bytes(stream.line) + b"\n")
            stream.line.clear()


def to_own_streams(index: int, name: str, lines: bytes) -> None:
    """Write *lines* to this program's own standard output or error, each marked with the worker."""
    target = sys.stdout if name == "stdout" else sys.stderr
    if target is None:
        return
    text = "".join(
        f"[worker {index}] {line}\n" for line in lines.decode("utf-8", "replace").removesuffix("\n").split("\n")
    )
    encoding = getattr(target, "encoding", None) or "utf-8"
    try:
        target.write(text.encode(encoding, "backslashreplace").decode(encoding))
        target.flush()
    except (OSError, ValueError):
        pass  # closed, or nobody reads it
