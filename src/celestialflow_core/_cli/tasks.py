"""Tasks from the command line and from files, read as they are wanted.

Reading is left to iterators of C as far as it goes: then a Ctrl-C that finds the program waiting for input is raised
there, as in any other program.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from io import TextIOWrapper
from itertools import chain
from pathlib import Path
from typing import IO, Any

import click

from celestialflow_core._cli.ending import Broken
from celestialflow_core._driver.user_code import call

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
        counted = _Counted()
        lines = map(counted, self._lines(path))
        if format == "csv":
            return _Rows(path, lines, self._as_lists)
        full = filter(None, map(_without_end, lines))
        if format == "jsonl":
            return map(_Json(path, counted), filter(str.strip, lines))
        return full if self._text or format == "txt" else map(word, full)

    def _lines(self, path: str) -> IO[str]:
        if path == "-":
            if sys.stdin is None:
                raise Broken("Standard input is closed.")
            if isinstance(sys.stdin, TextIOWrapper) and sys.stdin.errors != "surrogateescape":
                sys.stdin.reconfigure(errors="surrogateescape")  # names of files come as they are, here too
            return sys.stdin
        try:
            return self._open.enter_context(open(path, encoding="utf-8", newline="", errors="surrogateescape"))
        except OSError as error:
            raise Broken(f"The tasks in {path!r} cannot be read: {error.strerror or error}.") from error


class _Counted:
    """Counts the lines that go through it, and takes the mark away that Windows puts before the first."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, line: str) -> str:
        self.number += 1
        return line.removeprefix("\ufeff") if self.number == 1 else line


class _Json:
    """Reads lines of JSON, and says which one is none."""

    def __init__(self, path: str, counted: _Counted) -> None:
        self._path = path
        self._counted = counted

    def __call__(self, line: str) -> Any:
        try:
            return json.loads(line)
        except (ValueError, RecursionError) as error:
            from celestialflow_core._text import cut

            why = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else error
            raise Broken(
                f"Line {self._counted.number} of {_named(self._path)} is no JSON: {why}. It is "
                f"{cut(line.rstrip(), 80)}. For plain lines: --format txt."
            ) from error


class _Rows:
    """Reads the rows of a CSV file, each with a cell for each name in the first one, and says which one has not."""

    def __init__(self, path: str, lines: Iterable[str], as_lists: bool) -> None:
        csv.field_size_limit(sys.maxsize)  # a cell may be a whole text
        self._path = path
        self._rows = csv.reader(lines, strict=True)
        self._as_lists = as_lists
        self._names: list[str] | None = None

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self._names is None:
            self._names = self._first()
        row = self._row()
        if len(row) != len(self._names):
            raise Broken(
                f"Line {self._rows.line_num} of {_named(self._path)} has not {len(self._names)} cells, as the first "
                f"line has: {row}."
            )
        return row if self._as_lists else dict(zip(self._names, row, strict=True))

    def _first(self) -> list[str]:
        names = self._row()
        twice = [name for name in dict.fromkeys(names) if name and names.count(name) > 1]
        if twice and not self._as_lists:
            raise Broken(
                f"{_named(self._path)} has more than one column of the name {twice[0]!r}, so of a row not all cells "
                f"could be told apart. Rename them in its first line, or take rows as lists of cells: --unpack."
            )
        return names

    def _row(self) -> list[str]:
        """The next row that is not empty. As the user's code, so that a Ctrl-C finds it waiting for input."""
        try:
            return call(next, filter(None, self._rows))
        except csv.Error as error:
            raise Broken(f"Line {self._rows.line_num} of {_named(self._path)} is no CSV: {error}.") from error


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
