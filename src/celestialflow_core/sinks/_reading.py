"""Reading a store without loading a pickle, and carrying rows from one store to another.

A store that can be read has a method ``reader()``, which gives a `Reader`; one that rows can be merged into has
``put(rows)``, called between ``open`` and ``close``. Both are for the command line; a sink needs neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from celestialflow_core.sinks._rows import Row
from celestialflow_core.sinks.interface import Manifest, Sink

__all__ = ["Mergeable", "Readable", "Reader"]


class Reader(Protocol):
    """Reads a store while it is entered (``with store.reader() as reader``), also while a run writes to it."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    @property
    def manifest(self) -> Manifest:
        """What the store is of."""
        ...

    def count(self) -> int:
        """How many tasks it knows."""
        ...

    def rows(
        self,
        *,
        status: str | None = None,
        stage: str | None = None,
        error_type: str | None = None,
    ) -> Iterator[Row]:
        """The rows, one a task, in the order in which they were stored; only those with what is given."""
        ...


@runtime_checkable
class Readable(Sink, Protocol):
    """A store whose rows can be read."""

    def reader(self) -> Reader:
        """A new reader. Nothing is opened before it is entered."""
        ...


@runtime_checkable
class Mergeable(Readable, Protocol):
    """A store that takes rows of other stores."""

    def put(self, rows: Sequence[Row]) -> None:
        """Store *rows*; a row that has the key of an earlier one replaces it."""
        ...


def matching(
    rows: Iterable[Row], status: str | None = None, stage: str | None = None, error_type: str | None = None
) -> Iterator[Row]:
    """Those of *rows* that have what is given."""
    for row in rows:
        if (
            (status is None or row.status == status)
            and (stage is None or row.stage == stage)
            and (error_type is None or row.error_type == error_type)
        ):
            yield row
