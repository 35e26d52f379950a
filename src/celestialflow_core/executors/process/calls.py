"""A queue of calls, as columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["CallQueue"]

Columns = tuple[list[int], list[Any]]


class CallQueue:
    """Calls in their order, to be taken from both ends by the batch.

    Two plain lists: to cut a thousand calls off the front moves the rest by one memmove, which costs a thousandth of
    handling the calls one by one.
    """

    __slots__ = ("args", "ids")

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.args: list[Any] = []
        """The only argument of each call, or its arguments as a `Spread`."""

    def __len__(self) -> int:
        return len(self.ids)

    def append(self, ids: Sequence[int], args: Sequence[Any]) -> None:
        """Add calls behind the others."""
        self.ids += ids
        self.args += args

    def prepend(self, ids: Sequence[int], args: Sequence[Any]) -> None:
        """Add calls before the others."""
        self.ids[:0] = ids
        self.args[:0] = args

    def take(self, count: int) -> Columns:
        """Remove the first *count* calls."""
        taken = self.ids[:count], self.args[:count]
        del self.ids[:count], self.args[:count]
        return taken

    def take_last(self, count: int) -> Columns:
        """Remove the last *count* calls; they keep their order."""
        start = max(0, len(self.ids) - count)
        taken = self.ids[start:], self.args[start:]
        del self.ids[start:], self.args[start:]
        return taken

    def clear(self) -> None:
        """Drop everything."""
        self.ids.clear()
        self.args.clear()
