"""``celestialflow results``: the results in a store."""

from __future__ import annotations

import click

__all__ = ["results"]


@click.command(
    epilog=(
        "\b\nExamples:\n"
        "  celestialflow results results.db > out.jsonl\n"
        "  celestialflow results results.db --values              the results alone\n"
        "  celestialflow results results.db | jq -c '[.task, .value]'"
    )
)
@click.argument("store")
@click.option("--stage", metavar="NAME", help="Only those of this stage of a graph.")
@click.option("--values", is_flag=True, help="Print the values alone, texts as they are and all others as JSON.")
@click.option(
    "--text",
    is_flag=True,
    help="Load no pickles: a value that is no JSON is shown by its text, which may be shortened.",
)
def results(store: str, stage: str | None, values: bool, text: bool) -> None:
    """Print the results in STORE, one JSON object on a line for each task that succeeded.

    A value that is no JSON is a pickle in the store. Loading one can run any code, so use --text with a store that is
    not yours.
    """
    from celestialflow_core._cli.output import Results, as_text
    from celestialflow_core._cli.stores import readable, row_as_json, stored
    from celestialflow_core.sinks._values import NotRestorable, decode

    with readable(store).reader() as reader, Results() as output:
        for row in reader.rows(status="success", stage=stage):
            value = stored(row.value, row.value_pickle)
            if row.value_pickle is not None and not text:
                try:
                    value = decode(row.value or "null", row.value_pickle)
                except NotRestorable:  # its class is not here: then its text has to do
                    pass
            output.line(as_text(value) if values else row_as_json(row, value))
