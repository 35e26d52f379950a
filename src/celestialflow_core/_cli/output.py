"""Standard output: results, and nothing else.

Whatever tasks, their workers and the programs that they start print goes to stderr meanwhile, so that what a pipe gets
can be read by a program. Each line is written at once, and a reader that has gone is noticed with the next line.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import os
import re
import select
import sys
from collections.abc import Mapping
from math import isfinite
from types import TracebackType
from typing import Any, TextIO

from celestialflow_core._cli.ending import Broken, ReaderGone, say

__all__ = ["Results", "as_json", "as_text", "fields_as_json"]


class Results:
    """Standard output, taken over for results.

    Args:
        above_bar: Whether a progress bar may be on the same terminal, and has to make way for each line.
    """

    def __init__(self, above_bar: bool = False) -> None:
        self._above_bar = above_bar
        self._lines_above_bar = False
        self._stack = contextlib.ExitStack()
        self._descriptor: int | None = None
        self._stream: TextIO | None = None
        self._encoding = "utf-8"

    def __enter__(self) -> Results:
        stream = sys.stdout
        if stream is None:  # the program was started with its output closed
            return self
        self._encoding = stream.encoding or "utf-8"
        try:
            stream.flush()
            number = stream.fileno()
        except (io.UnsupportedOperation, AttributeError):
            self._stream = stream
            self._stack.enter_context(contextlib.redirect_stdout(sys.stderr))
            return self
        self._lines_above_bar = self._above_bar and stream.isatty()
        self._descriptor = os.dup(number)
        self._stack.callback(self._give_back, number, self._descriptor)
        try:
            os.dup2(2, number)
        except OSError:  # stderr is closed
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, number)
            os.close(null)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    @staticmethod
    def _give_back(number: int, saved: int) -> None:
        try:
            sys.stdout.flush()
        except (OSError, ValueError):
            pass
        os.dup2(saved, number)
        os.close(saved)

    def line(self, text: str) -> None:
        """Write *text* as a line.

        Raises:
            ReaderGone: Nobody reads any more.
            Broken: It cannot be written, as on a full disk.
        """
        try:
            if self._stream is not None:
                self._stream.write(text + "\n")
            elif self._descriptor is not None:
                with _way(self._lines_above_bar):
                    _write(self._descriptor, _encoded(text + "\n", self._encoding))
        except BrokenPipeError:
            raise ReaderGone from None
        except OSError as error:
            raise Broken(f"The results cannot be written to standard output: {error.strerror or error}.") from error

    def remark(self, text: str) -> None:
        """Write *text* as a line on stderr, above a bar that may be there."""
        with _way(self._above_bar):
            say(text)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:  # another program has made the terminal or pipe that we share non-blocking
            select.select([], [descriptor], [])


def _encoded(text: str, encoding: str) -> bytes:
    try:
        return text.encode(encoding, "surrogateescape")  # names of files come as they are
    except UnicodeEncodeError:
        return text.encode(encoding, _ESCAPES)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    """What cannot be encoded, as JSON writes it, so that a line of JSON stays one."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


_ESCAPES = "celestialflow_core.escapes"
codecs.register_error(_ESCAPES, _escaped)


@contextlib.contextmanager
def _way(above_bar: bool) -> Any:
    """What is written inside stands above a bar on the terminal."""
    if not above_bar or "celestialflow_core._observe.bars" not in sys.modules:
        yield
        return
    from celestialflow_core._observe.bars import TextBar

    with TextBar.external_write_mode(file=sys.stderr):
        yield


def as_text(value: Any) -> str:
    """*value* for people: a text as it is, anything else as JSON."""
    return value if isinstance(value, str) else as_json(value)


def as_json(value: Any) -> str:
    """*value* as JSON; what JSON does not know, as the text of its repr."""
    text = _to_json(value)
    return text if text.isascii() else _HALF.sub(lambda half: f"\\u{ord(half[0]):04x}", text)


def fields_as_json(fields: Mapping[str, Any]) -> str:
    """One JSON object, whatever is in one of its fields."""
    return "{" + ", ".join(f"{as_json(name)}: {as_json(value)}" for name, value in fields.items()) + "}"


_HALF = re.compile("[\ud800-\udfff]")
"""Half of a surrogate pair, such as stands for a byte that is no UTF-8. JSON has it in writing only."""


def _to_json(value: Any) -> str:
    from celestialflow_core._text import cut

    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        pass
    try:
        return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False, default=lambda part: cut(part, 0))
    except (TypeError, ValueError, RecursionError):  # it holds itself, say
        return json.dumps(cut(value, 0), ensure_ascii=False)


def _plain(value: Any) -> Any:
    """*value* with texts for the numbers, and the names in a dict, that JSON has no word for."""
    from celestialflow_core._text import cut

    if isinstance(value, dict):
        return {name if isinstance(name, _NAMES) else cut(name, 0): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return repr(value) if isinstance(value, float) and not isfinite(value) else value


_NAMES = (str, int, type(None))
