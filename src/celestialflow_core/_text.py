"""Values as short texts, for every line that a person reads: the one formatter that cannot fail.

`cut` gives ``repr(value)`` on one line, without its middle where it is longer than *max_info* characters. What it costs
is bounded by *max_info* and not by the value: of a string, or of nested built-in containers, only the beginning and the
end are ever formatted. A repr that raises becomes a text that says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

__all__ = ["cut", "error_text", "one_line", "place_of", "qualified_name", "text_of"]

_NUMBERS: Final = frozenset({int, float, bool, type(None)})
_STRINGS: Final = frozenset({str, bytes, bytearray})
_OPEN: Final[dict[type, tuple[str, str]]] = {
    list: ("[", "]"),
    tuple: ("(", ")"),
    dict: ("{", "}"),
    set: ("{", "}"),
    frozenset: ("frozenset({", "})"),
}
_type_name: Final = type.__dict__["__name__"].__get__
"""The name of a class, whatever its metaclass makes of ``__name__``."""
_PLACE: Final = re.compile(r'^ *File "([^"\n]*)", line (\d+)', re.MULTILINE)


def cut(value: Any, max_info: int = 50) -> str:
    """``repr(value)`` on one line, of about *max_info* characters at most. Never raises.

    Of a longer text the first two thirds of *max_info* and the last third are kept, around "...".

    Args:
        value: Anything.
        max_info: The most characters of the value to show; 0 or less: all of them.
    """
    kind = type(value)
    # Most tasks and results are of these types, in whose repr nothing can go wrong and every character is printable.
    if kind is str or kind is bytes:
        text = repr(value) if len(value) <= 2 * max_info or max_info <= 0 else _ends(value, max_info)
        return text if len(text) <= max_info or max_info <= 0 else _shorten(text, max_info)
    if kind in _NUMBERS or (kind is tuple and _is_plain(value)):
        try:
            text = repr(value)
        except ValueError:  # an int of more digits than sys.get_int_max_str_digits()
            return _failure(kind, "ValueError")
        return text if len(text) <= max_info or max_info <= 0 else _shorten(text, max_info)
    try:
        text = _render(value, max_info)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return _failure(kind, _type_name(type(error)))
    return _one_line(text, max_info)


def error_text(error: BaseException, max_info: int = 50) -> str:
    """The type of *error* and what it says, cut as `cut` does, without quotes. Never raises."""
    name = _type_name(type(error))
    said = one_line(text_of(error), max_info)
    return f"{name}: {said}" if said else name


def text_of(error: BaseException) -> str:
    """``str(error)``, or a text that says that it raises. Never raises."""
    try:
        said = str(error)
    except KeyboardInterrupt:
        raise
    except BaseException as inner:
        return f"<{_type_name(type(error))}, whose str raises {_type_name(type(inner))}>"
    return str.__str__(said)  # a plain str, should __str__ have returned a subclass


_traceback_of: Any = BaseException.__dict__["__traceback__"].__get__


def qualified_name(error: BaseException) -> str:
    """The type of *error* as people write it: "ValueError", "json.decoder.JSONDecodeError"."""
    try:  # of a `RemoteError`: not through its class, which may do as it likes when it is asked for an attribute
        remote = object.__getattribute__(error, "type_name")
    except Exception:
        remote = None
    if isinstance(remote, str):
        return remote
    kind = type(error)
    return (
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )


def place_of(error: BaseException, text: str | None) -> str | None:
    """Where *error* was raised, as "file.py:12"; of a remote one, where the *text* of its traceback says."""
    if text is not None:
        places = _PLACE.findall(text)
        if places:
            return ":".join(places[-1])
    traceback = _traceback_of(error)
    if traceback is None:
        return None
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    return f"{traceback.tb_frame.f_code.co_filename}:{traceback.tb_lineno}"


def one_line(text: str, max_info: int = 50) -> str:
    """*text* on one line, with what cannot be printed escaped, cut as `cut` does."""
    if 0 < 2 * max_info < len(text):
        text = text[:max_info] + text[-max_info:]
    return _one_line(text, max_info)


def _is_plain(value: tuple[Any, ...]) -> bool:
    """A short tuple of numbers and short strings."""
    if len(value) > 4:
        return False
    for item in value:
        kind = type(item)
        if kind not in _NUMBERS and (kind is not str or len(item) > 64):
            return False
    return True


def _one_line(text: str, max_info: int) -> str:
    if not text.isprintable():
        # A line feed would break the line, and an escape sequence could repaint the terminal that shows it.
        text = "".join([c if c.isprintable() else c.encode("unicode_escape").decode() for c in text])
    return text if len(text) <= max_info or max_info <= 0 else _shorten(text, max_info)


def _shorten(text: str, max_info: int) -> str:
    third = max_info // 3
    return f"{text[: 2 * third]}...{text[len(text) - third :]}"


def _failure(kind: type, error: str) -> str:
    return f"<{_type_name(kind)}, whose repr raises {error}>"


def _render(value: Any, max_info: int) -> str:
    """``repr(value)``, or where that is longer than *max_info*, its two ends of that length each, joined."""
    if max_info <= 0 or not (type(value) in _OPEN or type(value) in _STRINGS):
        text = str.__str__(repr(value))  # a plain str, should __repr__ have returned a subclass
        return text if max_info <= 0 or len(text) <= 2 * max_info else text[:max_info] + text[-max_info:]
    head, ended = _take(_pieces(value, 1, max_info), max_info)
    if ended:
        return "".join(head)
    tail, _ = _take(_pieces(value, -1, max_info), max_info)
    return "".join(head)[:max_info] + "".join(reversed(tail))[-max_info:]


def _take(pieces: Iterator[str], limit: int) -> tuple[list[str], bool]:
    """Pieces until they are longer than *limit* together, and whether that was all of them."""
    taken, size = [], 0
    for piece in pieces:
        taken.append(piece)
        size += len(piece)
        if size > limit:
            return taken, False
    return taken, True


def _pieces(value: Any, step: int, limit: int, around: tuple[int, ...] = ()) -> Iterator[str]:
    """The text of *value* piece by piece, from its beginning (*step* 1) or from its end (-1)."""
    kind = type(value)
    if kind in _STRINGS and len(value) > 2 * limit:
        yield _ends(value, limit)
        return
    if kind not in _OPEN or not value:
        yield str.__str__(repr(value))
        return
    opened, closed = _OPEN[kind]
    if id(value) in around:
        yield f"{opened}...{closed}"
        return
    if kind is tuple and len(value) == 1:
        closed = ",)"
    around = (*around, id(value))
    yield opened if step > 0 else closed
    for number, item in enumerate(_items(value, step)):
        if number:
            yield ", "
        if kind is dict:
            yield from _pieces(item[::step][0], step, limit, around)
            yield ": "
            yield from _pieces(item[::step][1], step, limit, around)
        else:
            yield from _pieces(item, step, limit, around)
    yield closed if step > 0 else opened


def _items(value: Any, step: int) -> Iterable[Any]:
    items = value.items() if type(value) is dict else value
    if step > 0:
        return items
    return reversed(list(items) if type(value) in (set, frozenset) else items)


def _ends(value: Any, limit: int) -> str:
    return repr(value[:limit] + value[-limit:])
