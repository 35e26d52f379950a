"""``celestialflow run``: a function, or a program, over tasks."""

from __future__ import annotations

from typing import Any

import click

from celestialflow_core._cli.options import how_options

__all__ = ["run"]

RESUMES = ("unfinished", "failed")


class Run(click.Command):
    """A command whose ``--resume`` may be followed by one of two words, and by nothing else that it would take."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Say what ``--resume`` alone means: click would take the next word for its value, whatever it is."""
        end = args.index("--") if "--" in args else len(args)
        for at in range(end):
            if args[at] == "--resume" and (at + 1 >= len(args) or args[at + 1] not in RESUMES):
                args[at] = "--resume=all"
        return super().parse_args(ctx, args)


@click.command(
    cls=Run,
    epilog=(
        "\b\nExamples:\n"
        "  celestialflow run math:sqrt 1 4 9\n"
        "  celestialflow run ./job.py:fetch -a urls.txt --mode thread -j 50 --retries 3\n"
        "  celestialflow run job:parse -a rows.csv -j 8 --store results.db --resume\n"
        "  seq 1000 | celestialflow run job:check -a - --halt 10% --json\n"
        "  celestialflow run --command 'convert {} {stem}.png' --timeout 60 *.jpg"
    ),
)
@click.argument("words", nargs=-1, metavar="[MODULE:FUNCTION] [TASKS]...")
@click.option(
    "-a",
    "--tasks",
    "files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
    help="Read tasks from a file: .jsonl a JSON value a line, .csv a dict a row, any other a text a line; - is "
    "standard input. May be repeated.",
)
@click.option("--format", type=click.Choice(["txt", "jsonl", "csv"]), help="Read all files so, whatever their names.")
@click.option(
    "--text", is_flag=True, help="Take TASKS, and lines of standard input, as texts, also where they are JSON."
)
@click.option(
    "--command",
    metavar="PROGRAM",
    help="Run this program for each task in place of a function. {} is the task; of a path {stem}, {name}, {parent}, "
    "{suffix}; {n} the number of the task; {column} of a CSV row.",
)
@click.option("--shell", is_flag=True, help="With --command: let a shell run it.")
@click.option(
    "--store",
    "stores",
    multiple=True,
    metavar="STORE",
    help="Store every outcome: an SQLite file, a .jsonl file, or the URL of a sink. May be repeated.",
)
@click.option(
    "--resume",
    type=click.Choice(["all", *RESUMES]),
    metavar="",
    help="Go on from the store: what succeeded is not run again. --resume=unfinished leaves failed tasks alone too, "
    "--resume=failed runs nothing else.",
)
@click.option("--shard", metavar="K/N", help="Run part K of N of the tasks; auto in an array job.")
@click.option("--version", "work", default="", metavar="TEXT", help="What this version of the work is called.")
@click.option("--name", help="What the run is called. [default: the function's name]")
@how_options
def run(
    words: tuple[str, ...],
    files: tuple[str, ...],
    format: str | None,
    text: bool,
    command: str | None,
    shell: bool,
    stores: tuple[str, ...],
    resume: str | None,
    shard: str | None,
    work: str,
    name: str | None,
    **options: Any,
) -> None:
    """Run a function over tasks: its results on standard output, everything else on standard error.

    TASKS are JSON where they are JSON (2, "a b", [1, 2]) and else texts. The function is called with one task. It is
    found as module:function, or in a file as ./job.py:function.

    Exit codes: 0 all succeeded, 1 some failed, 2 wrong usage, 3 stopped by --halt, 4 the run itself failed,
    130 interrupted.
    """
    from celestialflow_core._cli.running import How, Job
    from celestialflow_core._cli.stores import check, url_of
    from celestialflow_core._cli.tasks import Tasks, needed
    from celestialflow_core._cli.template import Template

    target: str | Template
    if command is not None:
        target = Template(command, shell)
    elif shell:
        raise click.UsageError("--shell is for --command.")
    elif words:
        target, words = words[0], words[1:]
    else:
        raise click.UsageError("Say what to run: module:function, or --command.")
    needed(words, files)
    if command is None and not files:
        _hint(words)
    for option, given in (("--resume", resume), ("--shard", shard), ("--version", work)):
        if given and not stores:
            raise click.UsageError(f"{option} needs a store, like --store results.db.")
    how = How(**options)
    sinks = [url_of(store) for store in stores]
    check(sinks, resume is not None)
    job = Job(
        target,
        how,
        name=name,
        sinks=sinks,
        resume=True if resume == "all" else resume or False,
        shard=shard,
        version=work,
    )
    tasks = Tasks(words, files, format=format, text=text or command is not None, as_lists=how.unpack)
    try:
        if how.dry_run:
            from celestialflow_core._cli.rehearsal import rehearse

            rehearse(job, tasks)
            return
        code = job.run(tasks, tasks.total)
    finally:
        tasks.close()
    raise SystemExit(code)


def _hint(words: tuple[str, ...]) -> None:
    """Say so to somebody who names a file of tasks as if it were read: it is one task, the text of its name."""
    import os

    from celestialflow_core._cli.ending import say

    if len(words) == 1 and words[0].endswith((".jsonl", ".ndjson", ".csv")) and os.path.isfile(words[0]):
        say(f"Note: {words[0]!r} is one task, this text. To read tasks from the file: -a {words[0]}")
