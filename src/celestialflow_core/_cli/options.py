"""The options that `run` and `retry` have in common: how the function is run, and what is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["how_options"]

F = TypeVar("F", bound=Callable[..., Any])


def _modes(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    from celestialflow_core.plugins.registry import Registry

    return [CompletionItem(name) for name in Registry.load().executors if name.startswith(incomplete)]


_HOW = (
    click.option(
        "--mode",
        metavar="MODE",
        shell_complete=_modes,
        help="How the function is run: serial, thread, process, async, or any installed executor. By default serial; "
        "async for a coroutine function; process where -j or --timeout ask for what serial cannot do.",
    ),
    click.option(
        "-j",
        "--jobs",
        type=click.IntRange(min=1),
        metavar="N",
        help="The most calls, or programs, that run at a time.",
    ),
    click.option("--retries", type=click.IntRange(min=0), metavar="N", help="Tries after the first. [default: 1]"),
    click.option(
        "--retry-on",
        multiple=True,
        metavar="ERROR",
        help="Retry this exception class too, like ValueError or requests:HTTPError, besides TimeoutError and "
        "ConnectionError. May be repeated.",
    ),
    click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        metavar="SECONDS",
        help="The longest that one try may run.",
    ),
    click.option(
        "--halt",
        multiple=True,
        metavar="RULE",
        help="End the run early: 100 (failed tasks), 10% (of the tasks, once 30 have run), 20-in-a-row (failed), "
        "1-ok (successes). May be repeated.",
    ),
    click.option("--halt-now", is_flag=True, help="With --halt: end at once what runs then."),
    click.option(
        "--grace",
        type=click.FloatRange(min=0),
        default=5.0,
        show_default=True,
        metavar="SECONDS",
        help="How long what runs may go on when the run ends early; a second Ctrl-C ends it at once.",
    ),
    click.option("--unpack", is_flag=True, help="A task is a list of arguments; of a CSV file, the cells of a row."),
    click.option(
        "--executor-option",
        "executor_options",
        multiple=True,
        metavar="NAME=VALUE",
        help="An option of the executor, the value as JSON or text. May be repeated.",
    ),
)

_SHOW = (
    click.option("--ordered", is_flag=True, help="Print the results in the order of the tasks."),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each task, failed ones too."),
    click.option("--progress/--no-progress", default=None, help="A progress bar. [default: on a terminal]"),
    click.option("-q", "--quiet", is_flag=True, help="Print no progress, failures and summary on stderr."),
    click.option(
        "--log-dir",
        type=click.Path(file_okay=False),
        help="Write a log file, with a line for each task, to this folder. [default: none]",
    ),
    click.option("--dry-run", is_flag=True, help="Say what would be run, and run nothing."),
)


def how_options(command: F) -> F:
    """Gives *command* the options, in their order."""
    for option in reversed((*_HOW, *_SHOW)):
        command = option(command)
    return command
