"""Tasks from the command line and from files, read as they are wanted.

Reading is left to iterators of C as far as it goes: then a Ctrl-C that finds the program waiting for input is raised
there, as in any other program.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import IO, Any

import click

from celestialflow_core._cli.ending import Broken

__all__ = ["FORMATS", "Tasks", "word"]

FORMATS = ("txt", "jsonl", "csv")
SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv"}


def word(text: str) -> Any:
    """What a word of the command line means: JSON where it is JSON, else itself."""
    try:
        return json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return text


class Tasks:
    """The tasks of a run: words of the command line, then the lines of files.

    Args:
        words: The words.
        files: Paths; "-" is standard input.
        format: How all files are read; None: each by its suffix, and standard input as words, one a line.
        text: Whether words, and lines that are words, are taken as they are.
        as_lists: Whether a row of a CSV file is the list of its cells, rather than a dict.
    """

    def __init__(
        self, words: Sequence[str], files: Sequence[str], *, format: str | None, text: bool, as_lists: bool
    ) -> None:
        self._words = [each if text else word(each) for each in words]
        self._files = files
        self._format = format
        self._text = text
        self._as_lists = as_lists
        self._open = ExitStack()

    @property
    def total(self) -> int | None:
        """How many there are, where that is known without reading."""
        return None if self._files else len(self._words)

    def __iter__(self) -> Iterator[Any]:
        if not self._files:
            return iter(self._words)
        return chain(self._words, chain.from_iterable(map(self._read, self._files)))

    def close(self) -> None:
        """Close what has been opened."""
        self._open.close()

    def _read(self, path: str) -> Iterable[Any]:
        self._open.close()  # the file before it has been read to its end
        format = self._format or ("words" if path == "-" else SUFFIXES.get(Path(path).suffix.lower(), "txt"))
        lines = self._lines(path)
        if format == "csv":
            return self._rows(path, lines)
        full = filter(None, map(_without_end, lines))
        if format == "jsonl":
            return map(_Json(path), filter(str.strip, lines))
        return full if self._text or format == "txt" else map(word, full)

    def _lines(self, path: str) -> IO[str]:
        if path == "-":
            if sys.stdin is None:
                raise Broken("Standard input is closed.")
            return sys.stdin
        try:
            return self._open.enter_context(open(path, encoding="utf-8-sig", newline="", errors="surrogateescape"))
        except OSError as error:
            raise Broken(f"The tasks in {path!r} cannot be read: {error.strerror or error}.") from error

    def _rows(self, path: str, lines: IO[str]) -> Iterable[Any]:
        rows = csv.DictReader(lines, strict=True)
        check: Callable[[Any], Any] = _Row(path, rows, self._as_lists)
        return map(check, rows)


class _Json:
    """Reads lines of JSON, and says which one is none."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __call__(self, line: str) -> Any:
        try:
            return json.loads(line)
        except (ValueError, RecursionError) as error:
            from celestialflow_core._text import cut

            raise Broken(
                f"A line of {_named(self._path)} is no JSON: {error}. It is {cut(line.rstrip(), 80)}. "
                f"For plain lines: --format txt."
            ) from error


class _Row:
    """Checks the rows of a CSV file."""

    def __init__(self, path: str, rows: csv.DictReader[str], as_lists: bool) -> None:
        self._path = path
        self._rows = rows
        self._as_lists = as_lists

    def __call__(self, row: dict[Any, Any]) -> Any:
        if None in row or None in row.values():
            columns = len(self._rows.fieldnames or ())
            raise Broken(
                f"Line {self._rows.line_num} of {_named(self._path)} has not {columns} cells, as the first line has: "
                f"{[cell for cell in row.values() if cell is not None]}."
            )
        return list(row.values()) if self._as_lists else row


def _named(path: str) -> str:
    return "standard input" if path == "-" else repr(path)


def _without_end(line: str) -> str:
    return line.rstrip("\r\n")


def _no_number(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def needed(words: Sequence[str], files: Sequence[str]) -> None:
    """Refuse a run without tasks.

    Raises:
        click.UsageError: There are neither words nor files.
    """
    if not words and not files:
        raise click.UsageError("There are no tasks. Give them as words, or in a file: -a tasks.txt, -a - for stdin.")
