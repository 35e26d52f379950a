"""The canonical digest of a task: what a store, and for an unhashable task a run, knows it by.

It is the same on every machine, in every process and under every version of Python, and different wherever two values
differ in kind or representation: 1, 1.0 and True are three, so are 0.0 and -0.0, and Decimal("1.0") and
Decimal("1.00").

A wrong "equal" drops work in silence, a wrong "different" merely repeats it. Hence the rules: types are dispatched
exactly, a subclass never passes as its base, and a type that is not known here is refused rather than guessed at.
There is no pickle, ``hash()`` or ``repr()`` in a digest.

How a value is encoded: a scalar as ``tag ":" length ":" payload``; a container as the tag "#" around the 16-byte
blake2b of its own tag, its length and its encoded parts. The parts of sets and dicts are sorted by their encoding.
Since every container has a digest of its own, one that is reached twice is encoded once.
"""

from __future__ import annotations

import dataclasses
import struct
import sys
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import EnumMeta, Flag
from hashlib import blake2b
from pathlib import PosixPath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

__all__ = ["FORMAT", "NoDigest", "digest"]

FORMAT: Final = "cf1"
"""The version of the encoding; the prefix of every digest. Changes with any digest of any value."""

_DEPTH: Final = 200


class NoDigest(TypeError):
    """A value has no digest: it is, or holds, something of which nothing is known here.

    Args:
        what: What cannot be digested: "numpy.matrix", "a list that contains itself".
        inside: The qualified name of the type of the whole value.
    """

    def __init__(self, what: str, inside: str) -> None:
        super().__init__(what, inside)
        self.what = what
        self.inside = inside

    def __str__(self) -> str:
        where = "" if self.what == self.inside else f" (inside a task of type {self.inside})"
        return (
            f"There is no stable key for {self.what}{where}. Implement the task_key hook, and return a value made of "
            f"plain types that identifies the task."
        )


def digest(value: object) -> str:
    """The canonical digest of *value*: `FORMAT`, a colon and 32 hexadecimal digits.

    Raises:
        NoDigest: *value* is or holds something that has no digest.
    """
    try:
        scalar = _SCALARS.get(type(value))
        encoded = _Encoder().encode(value) if scalar is None else scalar(value)
    except NoDigest as error:
        raise NoDigest(error.what, _name(type(value))) from None
    except RecursionError:
        raise NoDigest("a value that is nested too deeply", _name(type(value))) from None
    return f"{FORMAT}:{blake2b(encoded, digest_size=16).hexdigest()}"


def _name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _field(tag: bytes, payload: bytes) -> bytes:
    return b"%b:%d:%b" % (tag, len(payload), payload)


def _text(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _zone(zone: tzinfo | None, offset: timedelta | None) -> bytes:
    # A named zone by its name: its offset for a future date changes with the zone database. The others by offset.
    if zone is None:
        return b""
    if type(zone) is ZoneInfo and zone.key is not None:
        return _field(b"zone", _text(zone.key))
    if offset is None:
        raise NoDigest(f"a time with the tzinfo {_name(type(zone))}, which gives no offset", "")
    return _field(b"offset", _delta(offset))


def _delta(value: timedelta) -> bytes:
    return b"%d/%d/%d" % (value.days, value.seconds, value.microseconds)


def _moment(tag: bytes, value: datetime | time) -> bytes:
    zone = _zone(value.tzinfo, value.utcoffset())
    # fold tells apart two moments of a named zone; everywhere else it changes nothing, not even equality.
    fold = b"1" if value.fold and zone.startswith(b"zone") else b"0"
    return _field(tag, b"%b/%b/%b" % (_text(value.replace(tzinfo=None).isoformat()), fold, zone))


def _range(value: range) -> bytes:
    # By the numbers in it, as == has it: range(0, 3, 2) == range(0, 4, 2).
    size = len(value)
    return _field(b"range", b"%d/%d/%d" % (size, value.start if size else 0, value.step if size > 1 else 0))


_SCALARS: Final[dict[type, Callable[[Any], bytes]]] = {
    type(None): lambda value: b"none:0:",
    bool: lambda value: b"bool:1:1" if value else b"bool:1:0",
    int: lambda value: _field(b"int", b"%x" % value),
    float: lambda value: _field(b"float", struct.pack(">d", value)),
    complex: lambda value: _field(b"complex", struct.pack(">dd", value.real, value.imag)),
    str: lambda value: _field(b"str", _text(value)),
    bytes: lambda value: _field(b"bytes", value),
    bytearray: lambda value: _field(b"bytearray", bytes(value)),
    date: lambda value: _field(b"date", _text(value.isoformat())),
    time: lambda value: _moment(b"time", value),
    datetime: lambda value: _moment(b"datetime", value),
    timedelta: lambda value: _field(b"timedelta", _delta(value)),
    timezone: lambda value: _field(b"timezone", _delta(value.utcoffset(None))),
    Decimal: lambda value: _field(b"decimal", _text(str(value))),
    UUID: lambda value: _field(b"uuid", value.bytes),
    PurePosixPath: lambda value: _field(b"posixpath", _text(str(value))),
    PosixPath: lambda value: _field(b"posixpath", _text(str(value))),
    PureWindowsPath: lambda value: _field(b"windowspath", _text(str(value))),
    WindowsPath: lambda value: _field(b"windowspath", _text(str(value))),
    range: _range,
}

_UNSET: Final = object()
_BUILTIN_BASES: Final = (int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset, date, time)


class _Encoder:
    """Encodes one value. Remembers its containers: those being encoded (None), to find cycles, and those done."""

    __slots__ = ("depth", "known")

    def __init__(self) -> None:
        self.depth = 0
        # The object is kept beside its encoding: a field may be computed, and its id taken again once it is gone.
        self.known: dict[int, tuple[object, bytes] | None] = {}

    def encode(self, value: Any) -> bytes:
        kind = type(value)
        scalar = _SCALARS.get(kind)
        if scalar is not None:
            return scalar(value)
        if isinstance(kind, EnumMeta):
            return self.member(value, kind)
        mark = id(value)
        if mark in self.known:
            known = self.known[mark]
            if known is None:
                raise NoDigest(f"a {_name(kind)} that contains itself", "")
            return known[1]
        if self.depth >= _DEPTH:
            raise NoDigest(f"a value that is nested more than {_DEPTH} deep", "")
        self.known[mark] = None
        self.depth += 1
        tag, parts = self.parts(value, kind)
        self.depth -= 1
        size = b"%d:" % len(parts)
        whole = b"#" + blake2b(_field(b"tag", tag) + size + b"".join(parts), digest_size=16).digest()
        self.known[mark] = value, whole
        return whole

    def parts(self, value: Any, kind: type) -> tuple[bytes, list[bytes]]:
        """The tag of a container and the encodings of what it holds, in canonical order."""
        encode = self.encode
        if kind is list or kind is tuple:
            return kind.__name__.encode(), [encode(item) for item in value]
        if kind is dict:
            # Keys are unique, but two of them may be equal in all that is encoded (two NaN): pairs sort by both.
            return b"dict", [part for pair in sorted((encode(k), encode(v)) for k, v in value.items()) for part in pair]
        if kind is set or kind is frozenset:
            return kind.__name__.encode(), sorted(encode(item) for item in value)
        numpy = sys.modules.get("numpy")
        if numpy is not None and kind.__module__ == "numpy":
            if kind is numpy.ndarray:
                return b"array", self.array(value)
            if isinstance(value, numpy.generic):
                return b"numpy scalar", self.array(numpy.asarray(value))
        return self.fields(value, kind)

    def fields(self, value: Any, kind: type) -> tuple[bytes, list[bytes]]:
        """A namedtuple, dataclass or attrs instance: its class by name, and each field that takes part in ==."""
        own = vars(kind)
        names = getattr(kind, "_fields", None)
        if issubclass(kind, tuple) and isinstance(names, tuple):
            if getattr(value, "__dict__", None):
                raise NoDigest(f"a {_name(kind)} with attributes beside its fields", "")
            pairs = zip(names, tuple(value), strict=True)
            return b"namedtuple " + _text(_name(kind)), [part for pair in pairs for part in self.named(*pair)]
        if issubclass(kind, _BUILTIN_BASES):
            raise NoDigest(_name(kind), "")
        if "__attrs_attrs__" in own:
            tag, names = b"attrs ", [field.name for field in own["__attrs_attrs__"] if field.eq]
        elif "__dataclass_fields__" in own:
            tag, names = b"dataclass ", [field.name for field in dataclasses.fields(value) if field.compare]
        else:
            raise NoDigest(_name(kind), "")
        parts: list[bytes] = []
        for name in names:
            held = getattr(value, name, _UNSET)
            if held is _UNSET:
                raise NoDigest(f"a {_name(kind)} whose field {name!r} is not set", "")
            parts += self.named(name, held)
        return tag + _text(_name(kind)), parts

    def named(self, name: str, value: object) -> tuple[bytes, bytes]:
        return _field(b"field", _text(name)), self.encode(value)

    def member(self, value: Any, kind: type) -> bytes:
        # A member by its name, which outlives a renumbering; a flag by its value, since a combination has no name.
        what = b"%x" % value._value_ if isinstance(value, Flag) else _text(value._name_)
        return _field(b"enum", _field(b"class", _text(_name(kind))) + _field(b"member", what))

    def array(self, array: Any) -> list[bytes]:
        """Shape, element type and little-endian C-order content; structured ones by field, as padding is garbage."""
        dtype = array.dtype
        shape = _field(b"shape", "x".join(map(str, array.shape)).encode())
        if dtype.names is not None:
            parts = [shape, _field(b"fields", b"%d" % len(dtype.names))]
            for name in dtype.names:
                parts += [_field(b"field", _text(name)), *self.array(array[name])]
            return parts
        if dtype.kind in "OT":
            return [shape, _field(b"dtype", dtype.kind.encode()), *map(self.encode, array.reshape(-1).tolist())]
        if dtype.kind not in "biufcmMSUV" or dtype.char in "gG":
            # A long double has another size on another machine, and bytes in it that mean nothing.
            raise NoDigest(f"a numpy array of {dtype}", "")
        little = dtype.newbyteorder("<")
        content = blake2b(array.astype(little, copy=False).tobytes("C"), digest_size=16).digest()
        return [shape, _field(b"dtype", _text(little.str)), content]
