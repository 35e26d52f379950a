"""How values, and exceptions, are kept in a store: as a text that people read, and where that does not do, a pickle.

    text                 pickle     what it is
    JSON                 None       a value that JSON gives back equal, and of the same types all the way down
    a short text         bytes      any other value: the text is its repr, shortened; the pickle is the value
    a short text         b""        a value that cannot be pickled: the text is all that is left, so its task runs again

JSON is: None, True, False, int, finite float, str, and lists and dicts (with str keys) of these, nothing of a subclass.
A str with half a surrogate pair is not, since other readers, and JSON itself, may make something else of it.

Only `decode` and `restored_error` load a pickle, which can run any code: that is for a run that goes on, never for a
reader.
"""

from __future__ import annotations

import json
import pickle
from typing import Any, Final, NamedTuple

from celestialflow_core._text import cut, place_of, qualified_name, text_of
from celestialflow_core.errors import RemoteError

__all__ = [
    "LOST",
    "EncodedError",
    "NotRestorable",
    "clean",
    "decode",
    "encode",
    "encode_error",
    "restored_error",
    "to_json",
]

LOST: Final = b""
"""Stands for the pickle of what cannot be pickled."""

TEXT_LIMIT: Final = 32 * 1024  # characters of a message or a traceback
_SHOWN: Final = 200
_DEPTH: Final = 100
_ITEMS: Final = 10_000_000  # in one value; a small one that holds itself many times over could be as long as you like
_BIG: Final = 1 << 4096  # Python does not read integers of many more digits
_ATOMS: Final = frozenset({str, int, float, bool, type(None)})
_CONSTANTS: Final = {None: "null", True: "true", False: "false"}

to_json = json.JSONEncoder(ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":")).encode
"""An object as JSON text; of a str, also one that no file can hold."""
_from_json = json.JSONDecoder().decode


class NotRestorable(Exception):
    """What is stored cannot become the value again. Its task has to run again."""


class EncodedError(NamedTuple):
    """An exception as a store keeps it; ``pickle`` is `LOST` where it would not come back as it was."""

    type: str
    message: str
    place: str | None
    traceback: str | None
    pickle: bytes


def encode(value: Any) -> tuple[str, bytes | None]:
    """*value* as a text and, unless the text is JSON, as a pickle. Never raises."""
    kind = type(value)
    if kind is int:
        if -_BIG < value < _BIG:
            return int.__repr__(value), None
    elif kind is str:
        text: str = to_json(value)
        if text.isascii() or _is_unicode(text):
            return text, None
    elif kind is bool or value is None:
        return _CONSTANTS[value], None
    elif kind in (float, list, dict):
        json_text = _json(value)
        if json_text is not None:
            return json_text, None
    return clean(cut(value, _SHOWN)), _pickled(value)


def decode(text: str, pickled: bytes | None) -> Any:
    """The value that `encode` was given.

    Raises:
        NotRestorable: It cannot be had: it was not pickled, or its class is not here, or has changed.
    """
    try:
        return _from_json(text) if pickled is None else _load(pickled)
    except ValueError as error:
        raise NotRestorable(f"what is stored is no JSON: {error}") from None


def encode_error(error: BaseException, traceback: str | None) -> EncodedError:
    """*error* as texts and, where it comes back from one as it was, as a pickle. Never raises."""
    pickled = _pickled(error)
    if pickled:
        try:
            again = _load(pickled)
        except NotRestorable:
            pickled = LOST
        else:
            # An exception that builds its message in __init__ is often pickled well and rebuilt wrong.
            if type(again) is not type(error) or text_of(again) != text_of(error):
                pickled = LOST
    return EncodedError(
        clean(qualified_name(error)),
        clean(_bounded(text_of(error))),
        _cleaned(place_of(error, traceback)),
        None if traceback is None else clean(_bounded(traceback)),
        pickled,
    )


def restored_error(kind: str, message: str, pickled: bytes | None) -> BaseException:
    """The exception itself where it can be had, else a `RemoteError` that names it."""
    if pickled:
        try:
            error = _load(pickled)
        except NotRestorable:
            pass
        else:
            if isinstance(error, BaseException):
                return error
    return RemoteError(kind, message)


def clean(text: str) -> str:
    """*text* without what a database or a file cannot hold: half surrogate pairs and NUL are written out."""
    if "\0" in text:
        text = text.replace("\0", "\\x00")
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def _cleaned(text: str | None) -> str | None:
    return None if text is None else clean(text)


def _bounded(text: str) -> str:
    """*text* without a part of its middle where it is too long: the end of a traceback says what happened."""
    if len(text) <= TEXT_LIMIT:
        return text
    head = TEXT_LIMIT // 4
    left_out = len(text) - TEXT_LIMIT
    return f"{text[:head]}\n... ({left_out} characters are left out)\n{text[head + left_out :]}"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _json(value: Any) -> str | None:
    """*value* as JSON that gives it back exactly, or None where there is none."""
    try:
        if type(value) is not float and _written_out(value, {}) < 0:
            return None
        text: str = to_json(value)
    except (ValueError, RecursionError):  # NaN, an infinity, an int of too many digits
        return None
    return text if text.isascii() or _is_unicode(text) else None


def _written_out(value: Any, known: dict[int, int], depth: int = 0) -> int:
    """How many items *value*, a list or a dict, has in all when it is written out; -1 where JSON cannot give it back.

    Args:
        known: The same of the lists and dicts inside it, by their ids: each is looked at once, however often it is
            there. Of those around it -1, since what holds itself has no end.
        depth: How many are around it.
    """
    kind = type(value)
    if kind is dict:
        for key in value:
            if type(key) is not str:
                return -1
        items = value.values()
    elif kind is list:
        items = value
    else:
        return -1
    before = known.get(id(value))
    if before is not None:
        return before
    if depth == _DEPTH:
        return -1
    known[id(value)] = -1
    count = len(value)
    for item in items:
        if type(item) not in _ATOMS:  # as most are
            inside = _written_out(item, known, depth + 1)
            if inside < 0:
                return -1
            count += inside
    if count > _ITEMS:
        return -1
    known[id(value)] = count
    return count


def _pickled(value: object) -> bytes:
    """*value* pickled, by reference where that is possible, or `LOST`."""
    try:
        return pickle.dumps(value, 5)
    except KeyboardInterrupt:
        raise
    except BaseException:  # a __reduce__ of the user's may raise anything; cloudpickle is asked next
        pass
    import cloudpickle

    try:
        by_value: bytes = cloudpickle.dumps(value, 5)
    except KeyboardInterrupt:
        raise
    except BaseException:
        return LOST
    return by_value


def _load(pickled: bytes) -> Any:
    if not pickled:
        raise NotRestorable("it could not be pickled")
    try:
        return pickle.loads(pickled)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a class that is gone or has changed may raise anything
        raise NotRestorable(f"its pickle cannot be loaded: {text_of(error)}") from error
