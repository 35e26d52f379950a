"""``celestialflow failures``: the tasks of a store that failed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from celestialflow_core._cli.output import Results
    from celestialflow_core.sinks import Row

__all__ = ["failures"]


@click.command(
    epilog=(
        "\b\nExamples:\n"
        "  celestialflow failures results.db                           a line a task\n"
        "  celestialflow failures results.db --by error                how many of each kind\n"
        "  celestialflow failures results.db --error TimeoutError --json\n"
        "  celestialflow failures results.db --json | jq -c .task > again.jsonl"
    )
)
@click.argument("store")
@click.option("--by", type=click.Choice(["error", "stage"]), help="Count them by their error, or by their stage.")
@click.option("--stage", metavar="NAME", help="Only those of this stage of a graph.")
@click.option("--error", metavar="TYPE", help="Only those that failed so, like TimeoutError or requests.HTTPError.")
@click.option("--traceback", is_flag=True, help="Show the tracebacks.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each line.")
def failures(store: str, by: str | None, stage: str | None, error: str | None, traceback: bool, as_json: bool) -> None:
    """List the tasks in STORE that failed, with their errors.

    Nothing of the store is unpickled. Exits with 0 if it can be read, whatever is in it.
    """
    from celestialflow_core._cli.output import Results
    from celestialflow_core._cli.stores import error_matches, readable, row_as_json

    with readable(store).reader() as reader, Results() as results:
        rows: Iterable[Row] = reader.rows(status="error", stage=stage)
        if error is not None:
            rows = (row for row in rows if error_matches(row.error_type, error))
        if by is not None:
            _print_groups(results, rows, by, as_json)
            return
        for row in rows:
            if as_json:
                results.line(row_as_json(row))
                continue
            results.line(_line(row))
            if traceback and row.error_traceback:
                for line in row.error_traceback.rstrip().splitlines():
                    results.line(f"    {line}")


def _line(row: Row) -> str:
    from celestialflow_core._cli.stores import place_of
    from celestialflow_core._text import one_line

    place = place_of(row)
    where = f" at {place}" if place else ""
    tries = f", {row.attempts} attempts" if row.attempts > 1 else ""
    return f"{one_line(row.task, 60)}: {row.error_type}{where}{tries}: {one_line(row.error_message or '', 200)}"


def _print_groups(results: Results, rows: Iterable[Row], by: str, as_json: bool) -> None:
    from celestialflow_core._cli.output import as_json as to_json

    for group in _groups(rows, by):
        if as_json:
            results.line(to_json(group))
        elif by == "stage":
            results.line(f"{group['count']} x {group['stage'] or '-'}")
        else:
            results.line(_group_line(group))


def _groups(rows: Iterable[Row], by: str) -> Iterator[dict[str, Any]]:
    """The kinds of failures, most frequent first, each with its first task."""
    from celestialflow_core._cli.stores import place_of, stored

    groups: dict[Any, dict[str, Any]] = {}
    for row in rows:
        place = place_of(row)
        kind = (row.error_type, place) if by == "error" else row.stage
        group = groups.get(kind)
        if group is None:
            group = groups[kind] = {"count": 0}
            if by == "stage":
                group["stage"] = row.stage
            else:
                group |= {"type": row.error_type, "place": place, "message": row.error_message}
                group["task"] = stored(row.task, row.task_pickle)
        group["count"] += 1
    yield from sorted(groups.values(), key=lambda group: -group["count"])


def _group_line(group: dict[str, Any]) -> str:
    from celestialflow_core._text import cut, one_line

    where = f" at {group['place']}" if group["place"] else ""
    said = f": {one_line(group['message'], 120).rstrip(' .,:;')}" if group["message"] else ""
    return f"{group['count']} x {group['type']}{where}{said}, as for {cut(group['task'])}"
