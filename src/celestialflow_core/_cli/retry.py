"""``celestialflow retry``: the failed tasks of a store, once more."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from celestialflow_core._cli.options import how_options

if TYPE_CHECKING:
    from celestialflow_core._cli.template import Template
    from celestialflow_core.sinks import Manifest, Row

__all__ = ["retry"]


@click.command(
    epilog=(
        "\b\nExamples:\n"
        "  celestialflow retry results.db\n"
        "  celestialflow retry results.db --error TimeoutError --timeout 120 -j 4\n"
        "  celestialflow retry results.db --function job:fetch"
    )
)
@click.argument("store")
@click.option("--error", metavar="TYPE", help="Only those that failed so, like TimeoutError or requests.HTTPError.")
@click.option("--function", metavar="MODULE:FUNCTION", help="Run this, in place of what the store remembers.")
@how_options
def retry(store: str, error: str | None, function: str | None, **options: Any) -> None:
    """Run the failed tasks in STORE again, with the function or program that the store remembers.

    The outcomes replace those in the store. How it is run (--mode, -j, --timeout, --unpack) is not remembered. Tasks
    that are no JSON are pickles in the store, and loading one can run any code: retry only your own stores.

    Exit codes: as of run.
    """
    from celestialflow_core._cli.running import How, Job
    from celestialflow_core._cli.stores import error_matches, readable, shown, url_of

    with readable(store).reader() as reader:
        manifest = reader.manifest
        target = function or _target(manifest, shown(store))
        rows: Iterable[Row] = reader.rows(status="error")
        if error is not None:
            rows = (row for row in rows if error_matches(row.error_type, error))
        how = How(**options)
        job = Job(target, how, name=manifest.name, sinks=[url_of(store)], resume="failed", version=manifest.version)
        tasks = _Tasks(rows)
        if how.dry_run:
            from celestialflow_core._cli.rehearsal import rehearse

            rehearse(job, tasks)
            return
        code = job.run(tasks, None)
    raise SystemExit(code or (1 if tasks.lost else 0))


def _target(manifest: Manifest, store: str) -> str | Template:
    """What the store remembers to have been run."""
    from celestialflow_core._cli.template import Template

    if len(manifest.stages) > 1:
        raise click.UsageError(
            f"{store} is of a graph, whose failed tasks are run again by the program that made it, with resume=True."
        )
    if manifest.target is None:
        raise click.UsageError(
            f"{store} does not say which function it is of: it is no function that can be found again by its name. "
            f"Give it: --function module:function."
        )
    if manifest.target.startswith("--"):
        *switches, command = shlex.split(manifest.target)
        template = Template(command, "--shell" in switches)
        if template.numbers:
            raise click.UsageError(
                f"{template.command!r} has {{n}}, and {store} does not know the numbers of the tasks. Run it again "
                f"over all tasks, with --resume."
            )
        return template
    return manifest.target


class _Tasks:
    """The tasks of *rows*, read as they are wanted.

    Attributes:
        lost: How many cannot be had again.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = rows
        self.lost = 0

    def __iter__(self) -> Iterator[Any]:
        from celestialflow_core._cli.ending import say
        from celestialflow_core.sinks._values import NotRestorable, decode

        for row in self._rows:
            try:
                task = decode(row.task, row.task_pickle)
            except NotRestorable as error:
                self.lost += 1
                say(f"Warning: The task {row.task} cannot be had from the store, and is left out: {error}.")
                continue
            yield task
