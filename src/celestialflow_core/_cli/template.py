"""``--command``: the words of a program, with places for the task."""

from __future__ import annotations

import re
import shlex
from pathlib import PurePath
from typing import Any

import click

from celestialflow_core._cli.output import as_text

__all__ = ["Template"]

PLACE = re.compile(r"\{([^{}]*)\}")
NAMES = frozenset({"", "stem", "name", "parent", "suffix", "n"})


class Template:
    """What is run for a task.

    Args:
        command: The program and its arguments, quoted as in a shell.
        shell: Whether a shell runs it, with pipes, variables and all; what comes from a task is quoted then.

    Raises:
        click.BadParameter: It is empty, or its quotes are not closed.
    """

    def __init__(self, command: str, shell: bool = False) -> None:
        self.command = command
        self.shell = shell
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise click.BadParameter(f"{command!r} cannot be read: {error}.", param_hint="--command") from None
        if not words:
            raise click.BadParameter("There is no program in it.", param_hint="--command")
        self.program = words[0]
        self._parts = [command] if shell else words

    @property
    def numbers(self) -> bool:
        """Whether it asks for the number of the task."""
        return any("{n}" in part for part in self._parts)

    @property
    def target(self) -> str:
        """By what a store remembers it."""
        return f"{'--shell ' if self.shell else ''}--command {shlex.quote(self.command)}"

    def argv(self, task: Any, number: int | None = None) -> list[str]:
        """The words for *task*, which stands at their end if they have no place for it."""
        placed = 0

        def fill(match: re.Match[str]) -> str:
            nonlocal placed
            name = match[1]
            if name not in NAMES and not (isinstance(task, dict) and name in task):
                return match[0]  # braces of its own, as in awk
            placed += 1
            return self._text(name, task, number)

        filled = [PLACE.sub(fill, part) for part in self._parts]
        if not placed:
            last = self._text("", task, number)
            filled = [f"{filled[0]} {last}"] if self.shell else [*filled, last]
        return ["/bin/sh", "-c", *filled] if self.shell else filled

    def _text(self, name: str, task: Any, number: int | None) -> str:
        if isinstance(task, dict) and name in task:
            text = as_text(task[name])
        elif name == "n":
            text = str(number)
        else:
            text = as_text(task)
            if name:
                text = str(getattr(PurePath(text), name))
        return shlex.quote(text) if self.shell else text
