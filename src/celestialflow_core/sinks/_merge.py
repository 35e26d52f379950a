"""Carries the rows of several stores into one, as they are: nothing is unpickled, and memory stays flat.

Rows come in the order of their times, so that of two rows of one key the later replaces the earlier, whichever store it
is in; at one time, that of the store that was named later. A store's own rows are in that order already.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import islice

import attrs

from celestialflow_core.errors import SinkError
from celestialflow_core.sinks._reading import Mergeable, Readable
from celestialflow_core.sinks._rows import Row
from celestialflow_core.sinks.interface import Manifest

__all__ = ["merge"]

_BATCH = 1000
_PARTS = {"keys": "key scheme", "name": "name", "version": "version"}


def merge(sources: Sequence[tuple[str, Readable]], label: str, target: Mergeable) -> int:
    """Put the rows of *sources* into *target*, which must be new.

    Args:
        sources: The stores, each with what to call it in messages.
        label: What to call *target*.
        target: Where to put the rows; opened and closed here.

    Returns:
        How many tasks *target* knows then.

    Raises:
        SinkError: The sources are not of the same work, or *target* is not new.
    """
    if not sources:
        raise ValueError("There is nothing to merge: give at least one store.")
    _check_new(label, target)
    with ExitStack() as stack:
        readers = [(name, stack.enter_context(source.reader())) for name, source in sources]
        manifest = _common([(name, reader.manifest) for name, reader in readers])
        rows = heapq.merge(*(reader.rows() for _, reader in readers), key=_time)
        target.open(manifest)
        try:
            while batch := list(islice(rows, _BATCH)):
                target.put(batch)
        except BaseException as error:
            target.close(error)
            raise
        target.close(None)
    with target.reader() as reader:
        return reader.count()


def _time(row: Row) -> float:
    return row.at


def _check_new(label: str, target: Mergeable) -> None:
    try:
        with target.reader() as reader:
            count = reader.count()
    except SinkError:
        return  # there is none, or open() will say what is wrong with it
    if count:
        raise SinkError(label, "There is a store with results already. Give a new one for the merged results.")


def _common(manifests: Sequence[tuple[str, Manifest]]) -> Manifest:
    """The manifest of all of them together: of no shard, with every stage."""
    first_name, first = manifests[0]
    stages = dict.fromkeys(first.stages)
    target = first.target
    for name, manifest in manifests[1:]:
        for part, word in _PARTS.items():
            one, other = getattr(first, part), getattr(manifest, part)
            if one != other:
                raise SinkError(
                    name,
                    f"Its {word} is {other!r}, and that of {first_name} is {one!r}. Merge stores of one work only.",
                )
        stages.update(dict.fromkeys(manifest.stages))
        target = target or manifest.target
    return attrs.evolve(first, stages=tuple(stages), target=target, shard=None, resume=False)
