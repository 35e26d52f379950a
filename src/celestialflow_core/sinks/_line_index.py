"""Where the line of each task is in a `JsonlStore`, in 16 bytes a row: one scan, one table of integers.

A slot holds 24 bits of the key's hash and the offset of its line; the key itself is read from the line when a slot
matches. So a million rows cost 16 MB where a dict would cost 190. The hash is Python's own, which is salted anew in
each process; the table never leaves it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from celestialflow_core.sinks._lines import FIRST_START, key_in, key_text
from celestialflow_core.sinks._slots import empty_slots

__all__ = ["Damaged", "LineIndex", "Window", "complete_size", "last_line", "lines_up_to"]

_BLOCK: Final = 1 << 20
_WINDOW: Final = 1 << 18
_OFFSET: Final = (1 << 40) - 1  # a file of up to a terabyte
_HASH: Final = (1 << 64) - 1


class Damaged(ValueError):
    """A line is no row. Its text says which one and why."""


class LineIndex:
    """The last line of each key among the first *size* bytes of the file.

    Attributes:
        count: How many keys there are.
        lines: How many lines, of which those that are not the last of their key are superseded.

    Raises:
        Damaged: A line is no row.
    """

    def __init__(self, path: Path, fd: int, size: int) -> None:
        self._fd = fd
        self.count = 0
        self.lines = 0
        self._slots = 2 * _count_lines(path, size) + 1
        self._table = empty_slots(self._slots)
        self._fill(path, size)

    def lines_of(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """The lines of those of *keys* that are there, in the order of the file."""
        wanted = {}
        for key in keys:
            stored = key_text(key).encode()
            for offset in self._candidates(stored):
                wanted[offset] = (key, stored)
        window = Window(self._fd)
        for offset in sorted(wanted):
            key, stored = wanted[offset]
            line = window.line_at(offset)
            if _key(line, offset) == stored:
                yield key, line

    def is_last(self, line: bytes, offset: int) -> bool:
        """Whether the line at *offset* is the last one of its key."""
        return self.count == self.lines or offset in self._candidates(key_in(line))

    def _fill(self, path: Path, size: int) -> None:
        table, slots, window = self._table, self._slots, Window(self._fd)
        for offset, line in lines_up_to(path, size):
            if line.startswith(FIRST_START):
                continue
            if line == b"\n":
                continue
            key = _key(line, offset)
            hashed = hash(key) & _HASH
            tag = hashed & ~_OFFSET
            slot = hashed % slots
            self.lines += 1
            while table[slot]:
                if table[slot] & ~_OFFSET == tag and key_in(window.line_at((table[slot] & _OFFSET) - 1)) == key:
                    break  # a later line of the same key
                slot = slot + 1 if slot + 1 < slots else 0
            else:
                self.count += 1
            table[slot] = tag | (offset + 1)

    def _candidates(self, key: bytes) -> list[int]:
        """The offsets of the lines that may be *key*'s: one, but for a coincidence in 16 million."""
        table, slots = self._table, self._slots
        hashed = hash(key) & _HASH
        tag = hashed & ~_OFFSET
        slot = hashed % slots
        found = []
        while table[slot]:
            if table[slot] & ~_OFFSET == tag:
                found.append((table[slot] & _OFFSET) - 1)
            slot = slot + 1 if slot + 1 < slots else 0
        return found


class Window:
    """Lines of a file by their offsets; neighbours cost one read together."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._start = 0
        self._data = b""

    def line_at(self, offset: int) -> bytes:
        """The line that begins at *offset*."""
        begin = offset - self._start
        if begin >= 0:
            end = self._data.find(b"\n", begin)
            if end >= 0:
                return self._data[begin : end + 1]
        size = _WINDOW
        while True:
            self._start, self._data = offset, _read(self._fd, size, offset)
            end = self._data.find(b"\n")
            if end >= 0 or len(self._data) < size:
                return self._data[: end + 1] if end >= 0 else self._data
            size *= 4


def lines_up_to(path: Path, size: int) -> Iterator[tuple[int, bytes]]:
    """The complete lines among the first *size* bytes, each with its offset."""
    offset = 0
    with open(path, "rb", buffering=_BLOCK) as file:
        for line in file:
            if offset + len(line) > size:
                return
            yield offset, line
            offset += len(line)


def complete_size(fd: int, size: int) -> int:
    """How many of the first *size* bytes are complete lines."""
    while size:
        begin = max(0, size - _BLOCK)
        end = _read(fd, size - begin, begin).rfind(b"\n")
        if end >= 0:
            return begin + end + 1
        size = begin
    return 0


def last_line(fd: int, size: int, start: bytes) -> bytes:
    """The last complete line of the first *size* bytes that begins with *start*, where the first one does."""
    needle = b"\n" + start
    end = size
    while end > 0:
        begin = max(0, end - _BLOCK)
        # As far into the block behind it as a line that begins at its end would show, and never into a torn line.
        found = _read(fd, min(end + len(needle) - 1, size) - begin, begin).rfind(needle)
        if found >= 0:
            return Window(fd).line_at(begin + found + 1)
        end = begin
    return Window(fd).line_at(0)


def _count_lines(path: Path, size: int) -> int:
    lines = left = 0
    left = size
    with open(path, "rb", buffering=0) as file:
        while left > 0 and (block := file.read(min(left, _BLOCK))):
            lines += block.count(b"\n")
            left -= len(block)
    return lines


def _read(fd: int, size: int, offset: int) -> bytes:
    """*size* bytes, or fewer at the end of the file: one read may give less than it could."""
    data = os.pread(fd, size, offset)
    if len(data) == size or not data:
        return data
    parts = [data]
    got = len(data)
    while got < size and (more := os.pread(fd, size - got, offset + got)):
        parts.append(more)
        got += len(more)
    return b"".join(parts)


def _key(line: bytes, offset: int) -> bytes:
    try:
        return key_in(line)
    except ValueError as error:
        raise Damaged(f"the line at byte {offset} is no row: {error}") from error
