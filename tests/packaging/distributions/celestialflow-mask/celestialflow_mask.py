"""Hooks by somebody else, without a subclass: tasks are rows, results are masked, failures are counted."""

from __future__ import annotations

from collections import Counter
from typing import Any

import click

from celestialflow_core import hookimpl

failures: Counter[str] = Counter()
finished: list[int] = []


@hookimpl
def get_args(task: Any) -> Any:
    return (task["card"],) if isinstance(task, dict) else None


@hookimpl
def task_key(task: Any) -> Any:
    return task["card"] if isinstance(task, dict) else None


@hookimpl
def process_result(result: Any) -> Any:
    return f"****{result[-2:]}" if isinstance(result, str) else result


@hookimpl
def on_error(outcome: Any) -> None:
    failures[type(outcome.error).__name__] += 1


@hookimpl
def on_finish(summary: Any) -> None:
    finished.append(summary.total)


@hookimpl
def register_commands(cli: click.Group) -> None:
    @cli.command()
    def mask() -> None:
        """Print the mask."""
        click.echo("****")
