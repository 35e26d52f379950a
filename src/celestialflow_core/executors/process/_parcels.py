"""Messages to calls, and results to messages: the worker's side of what `leasing` is in the parent.

Whatever goes wrong with one value is noted as that call's own: its argument that cannot be rebuilt, its result that
cannot be pickled, and either of them where it does not fit in memory. So a large one always travels alone.
"""

from __future__ import annotations

import pickle
from collections import deque
from itertools import repeat
from typing import Any

import celestialflow_core.executors.process.failures as failures
import celestialflow_core.executors.process.wire as wire
from celestialflow_core.executors.process.pickling import decode, encode_from_worker

__all__ = ["Packed", "Unfit", "error_frame", "framed_items", "packed", "plain_items", "results", "unpacked"]

LARGE = 1 << 20
"""Results of more bytes than this go each in a message of its own."""


class Packed:
    """A value or an error as its frame."""

    __slots__ = ("frame", "is_error")

    def __init__(self, frame: bytes, is_error: bool) -> None:
        self.frame = frame
        self.is_error = is_error


class Unfit(BaseException):
    """What could not be unpickled or pickled: not raised by the function."""

    def __init__(self, kind: int, error: BaseException) -> None:
        super().__init__(kind, error)
        self.kind = kind
        self.error = error


def plain_items(count: int, body: bytearray) -> tuple[deque[Any], bool]:
    """The items of a lease of atoms, and whether each is all arguments of its call, not the only one."""
    view = memoryview(body)
    arity = int.from_bytes(view[:4], "little")
    if arity == 1:
        return deque(decode(view[4:])), False
    if not arity:
        return deque(repeat((), count)), True
    return deque(zip(*[iter(decode(view[4:]))] * arity, strict=True)), True


def framed_items(count: int, body: bytearray | None) -> deque[memoryview | None]:
    """The frames of a lease; None for each where there was no room for them."""
    if body is None:
        return deque(repeat(None, count))
    view = memoryview(body)
    return deque(wire.frames_of(view[8 * count :], view[: 8 * count].cast("Q").tolist()))


def unpacked(frame: memoryview | None) -> tuple[Any, ...]:
    """The arguments in *frame*."""
    if frame is None:
        raise MemoryError("The arguments do not fit in the memory of the worker process.")
    try:
        args: tuple[Any, ...] = decode(frame)
    except MemoryError:
        raise
    except BaseException as error:
        raise Unfit(failures.ARGUMENT, error) from None
    return args


def packed(value: object) -> Packed:
    """The frame of a result."""
    try:
        return Packed(encode_from_worker(value), False)
    except MemoryError:
        raise
    except BaseException as error:
        raise Unfit(failures.RESULT, error) from None


def error_frame(error: BaseException) -> Packed:
    """The frame of what was raised while a call ran, its arguments were unpacked or its result was packed."""
    if type(error) is Unfit:
        return Packed(failures.pack(error.error, error.kind), True)
    return Packed(failures.pack(error, failures.RAISED), True)


def results(values: list[Any]) -> list[tuple[int, int, list[bytes]]]:
    """The messages that carry *values*: of each its kind, how many values are in it, and its body."""
    try:
        kind, body = _together(values)
        if len(values) == 1 or sum(map(len, body)) <= LARGE:
            return [(kind, len(values), body)]
    except MemoryError as error:
        if len(values) == 1:
            return results([error_frame(error)])
    return [message for value in values for message in results([value])]


def _together(values: list[Any]) -> tuple[int, list[bytes]]:
    """The kind and the body of one message: one pickle where all are atoms, else a frame each."""
    if Packed not in set(map(type, values)):
        return wire.PLAIN_RESULTS, [pickle.dumps(values, 5)]
    table: list[int] = []
    frames: list[bytes] = []
    for value in values:
        is_error = isinstance(value, Packed) and value.is_error
        frame = value.frame if isinstance(value, Packed) else pickle.dumps(value, 5)
        table.append(len(frame) << 1 | is_error)
        frames.append(frame)
    return wire.FRAMED_RESULTS, [wire.table_of(table), *frames]
