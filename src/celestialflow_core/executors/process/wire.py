"""Messages between the parent and one worker: how they are laid out, sent and received.

A message is a header (kind, a count, the size of the body) and a body. Both ends read the header first and then read
the body straight into a buffer of its size, so a large argument or result is never copied together from pieces. The
parent never blocks, in either direction (`Sender`, `Receiver`); a worker always does (`send`, `receive`). That one
side always reads is why neither can block in a write while the other blocks in a write.

What the bodies mean is said in `leasing` (parent) and `_worker`.
"""

from __future__ import annotations

import os
import struct
from collections import deque
from collections.abc import Iterator, Sequence

__all__ = [
    "DEFINE",
    "EXIT",
    "FRAMED_LEASE",
    "FRAMED_RESULTS",
    "HANDED_BACK",
    "HAND_BACK",
    "PLAIN_LEASE",
    "PLAIN_RESULTS",
    "PREAMBLE",
    "READY",
    "SETUP_FAILED",
    "Buffer",
    "Message",
    "Receiver",
    "Sender",
    "frames_of",
    "message",
    "receive",
    "send",
    "table_of",
]

# Parent to worker.
PREAMBLE = 1  # who the worker is, the function, its set-up
DEFINE = 2  # classes that later frames refer to by their id
PLAIN_LEASE = 3  # calls whose arguments are immutable atoms: one pickle for all
FRAMED_LEASE = 4  # calls each in its own frame
HAND_BACK = 5  # give back up to `count` calls that have not started
EXIT = 6  # end normally, with the tear-down
# Worker to parent.
READY = 7
SETUP_FAILED = 8
PLAIN_RESULTS = 9
FRAMED_RESULTS = 10
HANDED_BACK = 11  # `count` calls, the last of those that the worker had

_HEADER = struct.Struct("<BxxxIQ")
_SMALL = 65_536
_MANY = 64  # buffers in one system call; the kernel's own limit is 1024

Buffer = bytes | bytearray | memoryview
Message = tuple[int, int, "bytearray | None"]
"""Kind, count and body; a body for which there was no memory is skipped and None."""


def message(kind: int, count: int = 0, body: Sequence[Buffer] = ()) -> list[Buffer]:
    """The buffers that make up one message; small ones are joined, large ones are left where they are."""
    out: list[Buffer] = [_HEADER.pack(kind, count, sum(map(len, body)))]
    small: list[Buffer] = out[:]
    out.clear()
    for part in body:
        if len(part) < _SMALL:
            small.append(part)
            continue
        if small:
            out.append(b"".join(small))
            small = []
        out.append(part)
    if small:
        out.append(b"".join(small))
    return out


def table_of(numbers: Sequence[int]) -> bytes:
    """*numbers* as unsigned 64-bit integers, to stand before the frames that they describe."""
    return struct.pack(f"={len(numbers)}Q", *numbers)


def frames_of(body: memoryview, lengths: Sequence[int]) -> Iterator[memoryview]:
    """Cut *body* into frames of these *lengths*."""
    start = 0
    for length in lengths:
        yield body[start : start + length]
        start += length


def send(fd: int, buffers: list[Buffer]) -> None:
    """Write *buffers* to a blocking descriptor."""
    left = deque(buffers)
    while left:
        _drop_written(left, os.writev(fd, list(left)[:_MANY]))


def receive(fd: int) -> Message | None:
    """Read one message from a blocking descriptor; None at the end of the stream."""
    header = bytearray(_HEADER.size)
    if not _fill(fd, header):
        return None
    kind, count, size = _HEADER.unpack(header)
    try:
        body = bytearray(size)
    except MemoryError:
        return (kind, count, None) if _skip(fd, size) else None
    return (kind, count, body) if _fill(fd, body) else None


def _skip(fd: int, size: int) -> bool:
    scrap = memoryview(bytearray(_SMALL))
    while size:
        got = os.readv(fd, [scrap[:size]])
        if not got:
            return False
        size -= got
    return True


def _fill(fd: int, buffer: bytearray) -> bool:
    view = memoryview(buffer)
    while view:
        got = os.readv(fd, [view])
        if not got:
            return False
        view = view[got:]
    return True


def _drop_written(left: deque[Buffer], written: int) -> None:
    while left and written >= len(left[0]):
        written -= len(left.popleft())
    if written:
        left[0] = memoryview(left[0])[written:]


class Sender:
    """Sends messages over a descriptor that does not block; what does not fit waits here."""

    __slots__ = ("_fd", "_left")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._left: deque[Buffer] = deque()

    def __bool__(self) -> bool:
        """Whether something is still to be written."""
        return bool(self._left)

    def put(self, buffers: list[Buffer]) -> None:
        """Send *buffers*, now as far as possible."""
        self._left.extend(buffers)
        self.flush()

    def flush(self) -> None:
        """Write what fits. A peer that is gone is noticed by whoever reads; here it only ends the writing."""
        left = self._left
        try:
            while left:
                buffers = list(left) if len(left) <= _MANY else [left[i] for i in range(_MANY)]
                _drop_written(left, os.writev(self._fd, buffers))
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):
            left.clear()


class Receiver:
    """Receives messages from a descriptor that does not block."""

    __slots__ = ("_at_head", "_body", "_count", "_fd", "_head", "_kind", "_to_skip", "_view", "ended")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._head = bytearray(_HEADER.size)
        self._view = memoryview(self._head)
        self._at_head = True
        self._body: bytearray | None = None
        self._kind = self._count = self._to_skip = 0
        self.ended = False
        """Whether the end of the stream was seen."""

    def messages(self) -> Iterator[Message]:
        """Every message that is complete by now."""
        while True:
            while self._view:
                try:
                    got = os.readv(self._fd, [self._view])
                except BlockingIOError:
                    return
                except ConnectionResetError:
                    got = 0
                if not got:
                    self.ended = True
                    return
                self._view = self._view[got:]
            if self._at_head:
                self._at_head = False
                self._kind, self._count, size = _HEADER.unpack(self._head)
                self._make_room(size)
            elif self._to_skip:
                self._skip(self._to_skip)
            else:
                whole = (self._kind, self._count, self._body)
                self._at_head = True
                self._body = None
                self._view = memoryview(self._head)
                yield whole

    def _make_room(self, size: int) -> None:
        try:
            self._body = bytearray(size)
        except MemoryError:
            self._skip(size)
        else:
            self._view = memoryview(self._body)

    def _skip(self, size: int) -> None:
        self._view = memoryview(bytearray(min(size, _SMALL)))
        self._to_skip = size - len(self._view)
