"""``celestialflow merge``: one store out of several."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import islice
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celestialflow_core.sinks import Manifest, Mergeable, Reader

__all__ = ["merge"]

BATCH = 1000


@click.command(
    epilog=(
        "\b\nExamples:\n"
        "  celestialflow merge shard-1.db shard-2.db -o all.db\n"
        "  celestialflow merge shard-*.db -o all.jsonl"
    )
)
@click.argument("stores", nargs=-1, required=True)
@click.option("-o", "--output", required=True, metavar="STORE", help="The store to make.")
def merge(stores: tuple[str, ...], output: str) -> None:
    """Put the rows of STORES, as of the shards of one run, into a new store.

    Of a task that more than one of them knows a success is kept rather than an error, and else the row of the store
    that comes last. Nothing is unpickled.
    """
    import attrs

    from celestialflow_core._cli.ending import say
    from celestialflow_core._cli.stores import readable
    from celestialflow_core.errors import SinkError
    from celestialflow_core.sinks import Mergeable

    goal = readable(output)
    if not isinstance(goal, Mergeable):
        raise click.UsageError(f"{output} is of a kind of store that others cannot be merged into.")
    try:
        with goal.reader() as reader:
            there = reader.count()
    except SinkError:  # there is none yet
        there = 0
    if there:
        raise click.UsageError(
            f"{output} holds {there} tasks already. Give a new store, and name this one as a source."
        )
    with ExitStack() as stack:
        readers = [stack.enter_context(readable(store).reader()) for store in stores]
        manifests = [reader.manifest for reader in readers]
        _check(stores, manifests)
        stages = tuple(dict.fromkeys(stage for manifest in manifests for stage in manifest.stages))
        manifest = attrs.evolve(manifests[0], stages=stages, shard=None, resume=False)
        _copy(readers, goal, manifest)
    with goal.reader() as reader:
        say(f"{output}: {reader.count()} tasks of {len(stores)} store{'s' if len(stores) > 1 else ''}.")


def _check(stores: Sequence[str], manifests: Sequence[Manifest]) -> None:
    """Refuse stores whose rows do not belong together."""
    from celestialflow_core._cli.ending import Broken

    first = manifests[0]
    for store, manifest in zip(stores, manifests, strict=True):
        for what in ("name", "version", "keys"):
            mine, others = getattr(manifest, what), getattr(first, what)
            if mine != others:
                raise Broken(
                    f"{store} and {stores[0]} do not belong together: the {what} of one is {mine!r}, that of the other "
                    f"{others!r}."
                )


def _copy(readers: Sequence[Reader], goal: Mergeable, manifest: Manifest) -> None:
    """Errors first: a success that comes later replaces one."""
    goal.open(manifest)
    error: BaseException | None = None
    try:
        for status in ("error", "success"):
            for reader in readers:
                rows = reader.rows(status=status)
                while batch := list(islice(rows, BATCH)):
                    goal.put(batch)
    except BaseException as raised:
        error = raised
        raise
    finally:
        goal.close(error)
