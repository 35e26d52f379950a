"""Batches of calls to messages, and messages to batches of results: the parent's side.

Each call has a frame of its own, so one that cannot be pickled cannot take its neighbours along, and no object is
shared between two calls. Where every argument of the batch is an immutable atom that cannot be told apart, one pickle
holds all of them and costs a tenth; the test is made by ``set(map(type, ...))``, at the speed of C.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from typing import Any

import celestialflow_core.executors.process.failures as failures
import celestialflow_core.executors.process.wire as wire
from celestialflow_core._call import Result, Spread, args_of
from celestialflow_core.errors import NotPicklable
from celestialflow_core.executors.interface import describe
from celestialflow_core.executors.process.pickling import ATOMS, Outgoing, decode

__all__ = ["Packing", "atoms_of", "pack", "result_of", "results_of", "unframed"]

_LEASE_BYTES = 1 << 20
"""A lease of more bytes than this ends early: it would only sit in memory twice."""

Args = tuple[Any, ...]
OutputOf = Callable[[], "str | None"]


class Packing:
    """A lease on its way: the messages, the calls that are in it, and those that cannot be sent.

    Attributes:
        buffers: What to send.
        taken: How many calls were looked at; the others stay where they are.
        refused: Position and error of each call that is not in the lease.
    """

    __slots__ = ("buffers", "refused", "taken")

    def __init__(self, buffers: list[wire.Buffer], taken: int, refused: list[tuple[int, Exception]]) -> None:
        self.buffers = buffers
        self.taken = taken
        self.refused = refused


def atoms_of(args: Sequence[Any]) -> tuple[int, Sequence[Any]] | None:
    """The arity and all arguments in a row, if every argument is an atom and the batch is of one arity, else None."""
    arity, flat = 1, args
    kinds = set(map(type, args))
    if Spread in kinds:
        arities = set(map(len, map(args_of, args)))
        if len(arities) != 1:
            return None
        arity = arities.pop()
        flat = list(chain.from_iterable(map(args_of, args)))
        kinds = set(map(type, flat))
    if not kinds <= ATOMS:
        return None
    if len(args) > 1 and not kinds.isdisjoint((str, bytes)):
        size = sum([len(value) for value in flat if type(value) is str or type(value) is bytes])
        if size > _LEASE_BYTES:
            return None
    return arity, flat


def pack(args: Sequence[Any], outgoing: Outgoing) -> Packing:
    """Pack a lease of calls with these *args* for the worker that *outgoing* leads to."""
    plain = atoms_of(args)
    if plain is not None:
        arity, flat = plain
        try:
            body = [arity.to_bytes(4, "little"), pickle.dumps(flat, 5)]
        except MemoryError:
            pass  # tried again below, call by call
        else:
            return Packing(wire.message(wire.PLAIN_LEASE, len(args), body), len(args), [])
    buffers: list[wire.Buffer] = []
    frames: list[bytes] = []
    refused: list[tuple[int, Exception]] = []
    size = taken = 0
    for position, each in enumerate(map(args_of, args)):
        taken += 1
        try:
            frame, definitions = outgoing.encode(each)
        except MemoryError:
            refused.append((position, MemoryError(f"There is not enough memory to pickle {describe(each)}.")))
            continue
        except BaseException as error:  # code of the user's runs in a pickler, and may raise anything
            refused.append((position, _not_picklable(each, error)))
            continue
        if definitions is not None:
            buffers += wire.message(wire.DEFINE, 0, [definitions])
        if frames and len(frame) > _LEASE_BYTES:
            taken -= 1  # it goes alone: should it not fit in the worker's memory, no other call is the worse for it
            break
        frames.append(frame)
        size += len(frame)
        if size > _LEASE_BYTES:
            break
    if frames:
        body = [wire.table_of(list(map(len, frames))), *frames]
        buffers += wire.message(wire.FRAMED_LEASE, len(frames), body)
    return Packing(buffers, taken, refused)


def _not_picklable(args: Args, error: BaseException) -> NotPicklable:
    number = _culprit(args, lambda value, outgoing: outgoing.encode(value))
    advice = "Pass something that can be pickled, such as plain data or a path, or use threads."
    return NotPicklable(_blame(args, number), failures.reason_of(error), advice)


def _culprit(args: Args, attempt: Any) -> int | None:
    for number, value in enumerate(args, 1):
        try:
            attempt(value, Outgoing())
        except BaseException:  # as in pack
            return number
    return None


def _blame(args: Args, number: int | None) -> str:
    return f"Argument {number} of {describe(args)}" if number else f"An argument of {describe(args)}"


def results_of(
    kind: int, count: int, body: bytearray | None
) -> tuple[list[float], list[Any] | None, list[tuple[bool, Any]]]:
    """Take a message of results apart.

    Returns:
        The seconds of each, 0.0 where they are lost; the values if all are there at once, else None; else each as
        (is it an error, its frame), the frame None where there was no memory for it.
    """
    if body is None:
        return [0.0] * count, None, [(False, None)] * count
    view = memoryview(body)
    seconds: list[float] = list(view[: 8 * count].cast("d"))
    if kind == wire.PLAIN_RESULTS:
        try:
            return seconds, decode(view[8 * count :]), []
        except MemoryError:
            return seconds, None, [(False, None)] * count
    table = view[8 * count : 16 * count].cast("Q").tolist()
    frames = wire.frames_of(view[16 * count :], [entry >> 1 for entry in table])
    return seconds, None, [(bool(entry & 1), frame) for entry, frame in zip(table, frames, strict=True)]


def result_of(
    id: int,
    args: Args,
    seconds: float | None,
    worker: int,
    is_error: bool,
    frame: Any,
    *,
    reruns: int,
    output: OutputOf,
) -> Result:
    """The result in one *frame*."""
    if is_error:
        error, trace = failures.unpack(frame, describe(args), lambda: _blame(args, _unpickling_culprit(args)))
        return Result(id, None, error, seconds, worker, trace, output(), reruns)
    try:
        if frame is None:
            raise MemoryError
        return Result(id, decode(frame), None, seconds, worker, reruns=reruns)
    except MemoryError:
        lack = MemoryError(f"The result of {describe(args)} does not fit in the memory of this process.")
        return Result(id, None, lack, seconds or None, worker, None, output(), reruns)
    except BaseException as error:  # code of the user's runs in an unpickler, and may raise anything
        advice = "It was pickled in the worker, but could not be rebuilt here; look at its __reduce__ or __setstate__."
        reason = NotPicklable(f"The result of {describe(args)}", failures.reason_of(error), advice)
        return Result(id, None, reason, seconds, worker, failures.traceback_text(error, skip=1), output(), reruns)


def _unpickling_culprit(args: Args) -> int | None:
    """Which argument cannot be unpickled. It failed in the worker; here it is tried again, each by itself."""
    if len(args) == 1:
        return 1
    return _culprit(args, lambda value, outgoing: decode(pickle.dumps(value, 5)))


def unframed(
    ids: list[int],
    args: list[Any],
    seconds: list[float],
    worker: int,
    framed: list[tuple[bool, Any]],
    reruns: list[int],
    output: Callable[[int], str | None],
) -> list[Result]:
    """The results in *framed*, in their order.

    Args:
        ids, args, seconds, framed, reruns: A row for each.
        worker: Which worker they come from.
        output: Tells what the call at a position has written; asked for failures only.
    """
    rows = zip(ids, args, seconds, framed, reruns, strict=True)
    return [
        result_of(id, args_of(each), took, worker, *frame, reruns=again, output=partial(output, position))
        for position, (id, each, took, frame, again) in enumerate(rows)
    ]
