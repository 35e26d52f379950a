"""Identity: digests that are equal exactly for equal values of one kind, everywhere and for good."""

from __future__ import annotations

import copy
import dataclasses
import enum
import math
import os
import pickle
import struct
import subprocess
import sys
from collections import OrderedDict, namedtuple
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from celestialflow_core._digest import FORMAT, NoDigest, digest
from celestialflow_core._keys import DigestKey, IdentityKey, key_of

pytestmark = pytest.mark.pure


class Color(enum.Enum):
    RED = 1
    GREEN = 2


class Bits(enum.Flag):
    A = 1
    B = 2


class Pair(NamedTuple):
    x: int
    y: int


Twin = namedtuple("Twin", "x y")


@dataclasses.dataclass
class Point:
    x: int
    y: Any = 0
    cache: Any = dataclasses.field(default=None, compare=False)


@dataclasses.dataclass(frozen=True)
class Dot:
    x: int
    y: int


@attrs.define
class Box:
    x: int
    _y: int = 0
    note: str = attrs.field(default="", eq=False)


for _kind in (Color, Bits, Pair, Twin, Point, Dot, Box):  # a name that is the same however this file is imported
    _kind.__module__ = "golden"

NAN = struct.unpack(">d", bytes.fromhex("7ff8000000000000"))[0]

GOLDEN: list[tuple[Any, str]] = [
    (None, "9c78443950cf458fd7cc4656688013cc"),
    (True, "a3e02ec3b5cda45d0c817407b4ed21c0"),
    (1, "3f8ce7ac1772e148a269cf9bf3d54330"),
    (-1, "9902e2a21c5b3b60b112e2878013b0fe"),
    (2**200, "8af33e301e01bec983547ebda8b04fee"),
    (1.0, "9050c757875923dedaa381e69348c547"),
    (0.0, "8795114fa246bcd8dccf64aff672ece5"),
    (-0.0, "3c531cf4006c6bef266550a60713027a"),
    (NAN, "06a672a5a53cabfa73646c6110b80617"),
    (1 + 2j, "a20cccf49b6f592e6dc2b63d28532cb8"),
    ("", "259c46035612f35b3d8714a933411fcd"),
    ("naïve 名 🙂", "bd8248f476f5e82b0fec5446173b2844"),
    ("\ud800", "fc8ecc487a5071a69684e900a0bafad4"),
    (b"ab", "f0616d3f77d1ca42bb1fa310e64d35f6"),
    (bytearray(b"ab"), "e741dd79504fa5b34adb958efcea2d7b"),
    (date(2024, 2, 29), "a516d750d9d94a144a5fee01d04e9d75"),
    (time(12, 30, 15, 5), "7061357d22bb4d89615808a8595af68c"),
    (datetime(2024, 2, 29, 12, 30), "2d6ebab26d0ef7dcf2a2e7f63e5807e9"),
    (datetime(2024, 2, 29, 12, 30, tzinfo=UTC), "58203d7edf7f37e56661ffb3c0d5935a"),
    (datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")), "1ed352604f18cd712f83822cd1442685"),
    (timedelta(days=-1, microseconds=1), "8750d075b164b54bb09ae17f43cc4591"),
    (Decimal("1.00"), "f171c1dfa0198d4b78c67791b60b01f8"),
    (UUID(int=1), "7ce1fedc98559f605532aae64280e1ba"),
    (PurePosixPath("a/b"), "96fe2ec2538748083370d286a101d8ea"),
    (PureWindowsPath("a/b"), "a6f8744ab7f0b417acdd3ee45f8de7a4"),
    (Color.RED, "18f3038939ba542c8ed92d3f071065ce"),
    (Bits.A | Bits.B, "23d9285c72b6fb03d7c3350dfc5bbef0"),
    ([1, [2, "x"]], "2f8cb2e3cd33ad4f0f84e884ddbe4037"),
    ((1, (2, "x")), "71a1f1fdf493ccf164b5567a607b7e48"),
    ({"b": [1], "a": {2, 3, "c"}}, "a2901b17082adbab2e92f2b042f6d420"),
    (frozenset({1, "a", None}), "b36ed2c2f4563b44c670ffb1c2f843a2"),
    (range(0, 10, 3), "b74f233ba2e3e9284624804d05a3325f"),
    (Pair(1, 2), "e52fdb56271442f372f4ff225b4b8796"),
    (Point(1, [2], cache=object()), "3910f4443ffc65e5b2406670d0059cb3"),
    (Box(1, 2), "59772a116959600bc304a9c0751d8dcc"),
    (np.arange(6, dtype="i4").reshape(2, 3), "66c2088de1d95818dfe20e16143a5d2d"),
    (np.float32(1.5), "fde5cf0d2b69bb4d17dd72d4ed4c5069"),
    (np.array([(1, 2.5)], [("a", "i1"), ("b", "f8")]), "d7eac7cb575d7401b50e51b213341118"),
    (np.array([None, "a"], object), "cf07677ab610fc952cecb4b06ac380b0"),
]

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.complex_numbers(),
    st.text(),
    st.binary(),
    st.dates(),
    st.times(),
    st.datetimes(timezones=st.none() | st.sampled_from([UTC, ZoneInfo("Europe/Berlin")])),
    st.timedeltas(),
    st.decimals(),
    st.uuids(),
    st.builds(Path, st.just("a") | st.just("b/c")),
    st.sampled_from([*Color, *Bits]),
    st.builds(Dot, st.integers(), st.integers()),
)
values = st.recursive(
    scalars | st.sets(st.integers() | st.text()) | st.binary().map(bytearray),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.text() | st.integers(), inner, max_size=4),
        st.builds(Point, inner, inner),
        st.builds(Pair, inner, inner),
    ),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("value", "expected"), GOLDEN, ids=[f"{i}-{type(v).__name__}" for i, (v, _) in enumerate(GOLDEN)]
)
def test_digest_is_pinned(value: Any, expected: str) -> None:
    """The digests of today are those of every later version of this package and of Python, or FORMAT changes."""
    assert digest(value) == f"{FORMAT}:{expected}"


def test_digest_golden_values_are_distinct() -> None:
    """No two of the pinned values share a digest, though many of them are == to another."""
    assert len({expected for _, expected in GOLDEN}) == len(GOLDEN)


@given(values)
def test_digest_of_a_copy_is_equal(value: Any) -> None:
    """A deep copy of a value, which shares no mutable object with it, has its digest."""
    assert digest(copy.deepcopy(value)) == digest(value)


@given(values, values)
def test_digest_tells_different_values_apart(left: Any, right: Any) -> None:
    """Two values that are not equal have two digests; two of one scalar type that are equal have one."""
    if digest(left) == digest(right):
        assert type(left) is type(right)
        assert "nan" in repr((left, right)).lower() or left == right


@given(st.lists(st.tuples(st.text() | st.integers(), values), unique_by=lambda pair: pair[0]), st.randoms())
def test_digest_of_a_dict_ignores_its_order(pairs: list[tuple[Any, Any]], random: Any) -> None:
    """Equal dicts have equal digests, in whatever order they were filled."""
    shuffled = pairs[:]
    random.shuffle(shuffled)
    assert digest(dict(shuffled)) == digest(dict(pairs))


@given(st.lists(st.integers(min_value=-(2**61), max_value=2**61) | st.text(), unique=True))
def test_digest_of_a_set_ignores_its_order(members: list[Any]) -> None:
    """Equal sets have equal digests, though their iteration order depends on how they were filled."""
    backwards = members[::-1]
    assert digest(set(members)) == digest(set(backwards))
    assert digest(frozenset(members)) == digest(frozenset(backwards))
    assert digest(set(members)) != digest(frozenset(members))


@pytest.mark.parametrize(
    "family",
    [
        [1, 1.0, True, 1 + 0j, Decimal(1), np.int64(1), np.float64(1), "1", b"1", np.array(1)],
        [0.0, -0.0, 0, False, None, "", b"", bytearray(), [], (), {}, set(), frozenset(), range(0), timedelta(0)],
        [NAN, -NAN, struct.unpack(">d", bytes.fromhex("7ff8000000000001"))[0], math.inf, Decimal("NaN"), "nan"],
        [[1, 2], (1, 2), {1, 2}, frozenset({1, 2}), Pair(1, 2), Twin(1, 2), Point(1, 2), Dot(1, 2), Box(1, 2)],
        [{"x": 1, "y": 2}, [("x", 1), ("y", 2)], [["x", 1], ["y", 2]], {("x", 1), ("y", 2)}],
        [[[1], 2], [1, [2]], [1, 2], [[1, 2]], [[], 1, 2]],
        [["ab", "c"], ["a", "bc"], ["abc"], ["abc", ""], ["a:1:b", "c"]],
        [{1: 2, 3: 4}, {1: 4, 3: 2}, {1: 3, 2: 4}, {2: 1, 4: 3}],
        [Decimal("1.0"), Decimal("1.00"), Decimal(1)],
        [date(2024, 1, 1), datetime(2024, 1, 1), "2024-01-01"],
        [
            datetime(2024, 1, 1, 12),
            datetime(2024, 1, 1, 12, tzinfo=UTC),
            datetime(2024, 1, 1, 12, tzinfo=timezone(timedelta(hours=1))),
            datetime(2024, 1, 1, 12, tzinfo=ZoneInfo("Europe/Berlin")),
            datetime(2024, 1, 1, 12, tzinfo=ZoneInfo("Europe/Paris")),
        ],
        [
            datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin")),
            datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
        ],
        [Color.RED, Bits.A, Bits.A | Bits.B, 1, "RED"],
        [Path("a"), PureWindowsPath("a"), "a", Path("a/b"), Path("b")],
        [Point(1, 2), Point(2, 1), Point(1, None), Point(1, [2])],
        [
            np.array([1, 2, 3, 4]),
            np.array([[1, 2], [3, 4]]),
            np.array([[1, 3], [2, 4]]),
            np.array([1, 2, 3, 4], "i4"),
            np.array([1.0, 2, 3, 4]),
            np.array([1, 2, 3, 4], object),
            np.array([1, 2, 3, 5]),
            [1, 2, 3, 4],
        ],
        [np.zeros((0, 3)), np.zeros((3, 0)), np.zeros(0)],
    ],
    ids=lambda family: type(family[0]).__name__,
)
def test_digest_of_look_alikes_differs(family: list[Any]) -> None:
    """Values that are alike, or equal but of another kind, are told apart, alone and inside a list."""
    assert len({digest(value) for value in family}) == len(family)
    assert len({digest([value]) for value in family}) == len(family)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (Point(1, cache="left"), Point(1, cache="right")),
        (Box(1, 2, note="left"), Box(1, 2, note="right")),
        (range(0, 3, 2), range(0, 4, 2)),
        (range(5, 5), range(0)),
        (Path("a/b"), PurePosixPath("a//b/")),
        (datetime(2024, 1, 1, fold=1), datetime(2024, 1, 1)),
        (np.arange(6).reshape(2, 3), np.asfortranarray(np.arange(6).reshape(2, 3))),
        (np.arange(6)[::2], np.array([0, 2, 4])),
        (np.arange(3, dtype="<i8"), np.arange(3, dtype=">i8")),
        (np.array(["2024-01-01"], "M8[s]"), np.array(["2024-01-01"], "M8[s]").copy()),
        (np.int64(3), np.array([1, 3])[1]),
        (np.array([{"a": 1, "b": 2}], object), np.array([{"b": 2, "a": 1}], object)),
    ],
)
def test_digest_of_equal_values_is_equal(left: Any, right: Any) -> None:
    """Equal values of one kind have one digest, however they lie in memory and whatever == leaves out."""
    assert digest(left) == digest(right)


def test_digest_of_a_structured_array_ignores_padding() -> None:
    """The bytes between the fields of a structured array mean nothing, and are not looked at."""
    padded = np.dtype([("a", "i1"), ("b", "f8")], align=True)
    left, right = np.full(3, 0x00, "V16").view(padded), np.frombuffer(b"\xff" * 48, padded).copy()
    for array in (left, right):
        array["a"], array["b"] = [1, 2, 3], [0.5, 1.5, 2.5]
    assert left.tobytes() != right.tobytes()
    assert digest(left) == digest(right)
    right["b"][1] = 9
    assert digest(left) != digest(right)


def test_digest_sees_a_change_in_the_middle_of_a_large_array() -> None:
    """All of a large array counts."""
    array = np.zeros(200_000)
    before = digest(array)
    array[100_000] = 1
    assert digest(array) != before


class SubInt(int): ...


class SubPoint(Point): ...


@dataclasses.dataclass
class DataDict(dict[str, int]):
    x: int = 0


class OpenPair(Pair): ...


class NoOffset(tzinfo):
    def utcoffset(self, moment: datetime | None) -> None:
        return None

    dst = utcoffset

    def tzname(self, moment: datetime | None) -> None:
        return None


def _open_pair() -> OpenPair:
    pair = OpenPair(1, 2)
    pair.extra = 3  # type: ignore[attr-defined]
    return pair


def _half_made() -> Point:
    return Point.__new__(Point)


def _holds_itself() -> list[Any]:
    value: list[Any] = [1]
    value.append({"deep": (value,)})
    return value


def _deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (object(), "object"),
        (lambda: None, "function"),
        (SubInt(1), "SubInt"),
        (OrderedDict(a=1), "OrderedDict"),
        (SubPoint(1), "SubPoint"),
        (DataDict(x=1), "DataDict"),
        (_open_pair(), "attributes beside its fields"),
        (_half_made(), "'x' is not set"),
        (_holds_itself(), "contains itself"),
        (_deep(100_000), "nested more than"),
        (np.ma.masked_array([1]), "MaskedArray"),
        (np.array([object()]), "object"),
        (np.longdouble(1), "numpy array of"),
        (time(1, tzinfo=NoOffset()), "gives no offset"),
        (int, "type"),
        (iter([]), "list_iterator"),
        (memoryview(b""), "memoryview"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_digest_refuses_what_it_does_not_know(value: Any, named: str) -> None:
    """A type that is not known, a subclass of one that is, a cycle: refused by name, with what to do."""
    for whole in (value, {"deep": [value]}):
        with pytest.raises(NoDigest, match="task_key") as caught:
            digest(whole)
        assert named in str(caught.value)
        assert isinstance(caught.value, TypeError)
    assert "inside a task of type dict" in str(caught.value)


def test_digest_refusal_survives_pickling() -> None:
    """The refusal crosses a process boundary with its parts."""
    error = pickle.loads(pickle.dumps(NoDigest("a thing", "dict")))
    assert (error.what, error.inside) == ("a thing", "dict")
    assert "a thing (inside a task of type dict)" in str(error)


def test_digest_of_shared_parts_is_cheap_and_right() -> None:
    """A value that holds one part 2**60 times over is digested at once, and as if the parts were copies."""
    shared: list[Any] = [1]
    for _ in range(60):
        shared = [shared, shared]
    assert digest(shared).startswith(f"{FORMAT}:")
    part = [1, 2]
    assert digest([part, part]) == digest([[1, 2], [1, 2]])


def test_digest_does_not_confuse_computed_fields() -> None:
    """Fields that are made anew at each access may get the id of one that is gone; each counts for itself."""

    @dataclasses.dataclass
    class Computed:
        a: Any
        b: Any
        c: Any
        d: Any

        def __getattribute__(self, name: str) -> Any:
            value = object.__getattribute__(self, name)
            return [value] if name in "abcd" else value

    @dataclasses.dataclass
    class Stored:
        a: Any
        b: Any
        c: Any
        d: Any

    Stored.__qualname__ = Computed.__qualname__
    assert digest(Computed(1, 2, 3, 4)) == digest(Stored([1], [2], [3], [4]))


def test_digest_is_the_same_in_another_process() -> None:
    """Neither hash randomisation nor a fresh interpreter changes a digest."""
    value = "{'b': {'x', 'y', 'zz', 3}, 'a': [frozenset('hash'), None, 1.5, b'']}"
    code = f"from celestialflow_core._digest import digest; print(digest({value}))"
    seen = set()
    for seed in ("0", "1", "4711"):
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        seen.add(
            subprocess.run([sys.executable, "-c", code], env=env, check=True, stdout=subprocess.PIPE, text=True).stdout
        )
    assert seen == {digest(eval(value)) + "\n"}


@given(scalars.filter(lambda value: not (isinstance(value, Decimal) and value.is_snan())))
def test_key_of_a_hashable_task_is_the_task(task: Any) -> None:
    """What can be hashed is its own key, with the equality of a dict."""
    assert key_of(task) is task


def test_key_of_an_unhashable_task_is_its_digest() -> None:
    """Equal unhashable tasks have equal keys; such a key equals no task, its own digest text included."""
    first, second = key_of({"a": [1], "b": {2}}), key_of({"b": {2}, "a": [1]})
    assert isinstance(first, DigestKey)
    assert first == second
    assert hash(first) == hash(second)
    assert first != key_of({"a": [1], "b": {3}})
    assert first != first.digest
    assert first.digest in repr(first)


def test_key_of_a_task_with_neither_hash_nor_digest_is_its_identity() -> None:
    """Such a task is equal to itself alone, and is kept alive so that its id is not given away."""

    class Odd:
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            raise AssertionError("never asked")

    task = Odd()
    first, again, other = key_of(task), key_of(task), key_of(Odd())
    assert isinstance(first, IdentityKey)
    assert first == again
    assert hash(first) == hash(again)
    assert first != other
    assert first.task is task
    assert len({key_of(Odd()) for _ in range(1000)}) == 1000
    assert "Odd" in repr(first)


def test_key_of_lets_other_errors_of_hash_through() -> None:
    """A hash that is broken, rather than missing, is the task's own error."""

    class Broken:
        def __hash__(self) -> int:
            raise ZeroDivisionError("in hash")

    with pytest.raises(ZeroDivisionError, match="in hash"):
        key_of(Broken())
