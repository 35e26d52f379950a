"""``celestialflow merge``: one store out of several."""

from __future__ import annotations

import click

__all__ = ["merge"]


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

    Of a task that more than one of them knows the row that was stored last is kept. Nothing is unpickled.
    """
    from celestialflow_core._cli.ending import say
    from celestialflow_core._cli.stores import readable, shown
    from celestialflow_core.sinks import Mergeable
    from celestialflow_core.sinks import merge as merge_stores

    target = readable(output)
    if not isinstance(target, Mergeable):
        raise click.UsageError(f"{shown(output)} is of a kind of store that others cannot be merged into.")
    count = merge_stores([(shown(store), readable(store)) for store in stores], shown(output), target)
    tasks, sources = "task" if count == 1 else "tasks", "store" if len(stores) == 1 else "stores"
    say(f"{shown(output)}: {count} {tasks} of {len(stores)} {sources}.")
