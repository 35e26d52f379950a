"""Ready-made shapes, as the pairs of nodes to connect."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TypeVar

__all__ = ["chain", "complete", "cross", "fan", "grid", "ring", "wheel"]

N = TypeVar("N")

Pairs = Iterator[tuple[N, N]]


def chain(nodes: Sequence[N]) -> Pairs[N]:
    """Each to the next."""
    yield from pairwise(nodes)


def fan(hub: N, nodes: Sequence[N]) -> Pairs[N]:
    """The hub to each of the others."""
    for node in nodes:
        yield hub, node


def cross(layers: Sequence[Sequence[N]]) -> Pairs[N]:
    """Each of a layer to each of the next layer."""
    for layer, below in pairwise(layers):
        for node in layer:
            for other in below:
                yield node, other


def ring(nodes: Sequence[N]) -> Pairs[N]:
    """Each to the next, and the last to the first."""
    yield from pairwise(nodes)
    if nodes:
        yield nodes[-1], nodes[0]


def wheel(hub: N, nodes: Sequence[N]) -> Pairs[N]:
    """A ring, and the hub to each of it."""
    yield from fan(hub, nodes)
    yield from ring(nodes)


def grid(rows: Sequence[Sequence[N]]) -> Pairs[N]:
    """Each to its right neighbour and to the one below it."""
    for at, row in enumerate(rows):
        yield from pairwise(row)
        if at + 1 < len(rows):
            yield from zip(row, rows[at + 1], strict=False)


def complete(nodes: Sequence[N]) -> Pairs[N]:
    """Each to each other."""
    for node in nodes:
        for other in nodes:
            if other is not node:
                yield node, other
