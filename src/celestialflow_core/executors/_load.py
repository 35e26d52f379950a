"""How many of a batch's calls fit into one parcel, and which cannot travel at all."""

from __future__ import annotations

from typing import Any

import celestialflow_core.executors.worker as stub
from celestialflow_core._call import Calls

__all__ = ["Load"]

PARCEL_BYTES = 4 << 20
"""A parcel of more ends early: it would only sit in memory twice."""
_SIZED = (bytes, str)


class Load:
    """The calls of one parcel.

    Attributes:
        ids, args, frames: What goes, as it is and as it travels.
        unsent: What cannot be pickled: failures, each with the arguments of its call.
        left: The calls that would have made it too large; there is one at least that goes.
    """

    __slots__ = ("args", "frames", "ids", "left", "unsent")

    def __init__(self, calls: Calls) -> None:
        self.ids: list[int] = []
        self.args: list[tuple[Any, ...]] = []
        self.frames: list[Any] = []
        self.unsent: list[tuple[stub.Failure, tuple[Any, ...]]] = []
        self.left = Calls([], [])
        size = 0
        for position, (id, args) in enumerate(zip(calls.ids, calls.args, strict=True)):
            if size > PARCEL_BYTES:
                self.left = calls[position:]
                break
            frame = stub.freeze(args)
            if isinstance(frame, stub.Unsent):
                self.unsent.append(((id, 0.0, stub.ARGUMENT_DUMP, (frame.argument, frame.reason)), args))
                continue
            self.ids.append(id)
            self.args.append(args)
            self.frames.append(frame)
            size += len(frame) if isinstance(frame, bytes) else sum(len(arg) for arg in args if type(arg) in _SIZED)
