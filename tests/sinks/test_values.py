"""The one encoding of values: JSON where JSON gives the value back exactly, else a text and a pickle."""

from __future__ import annotations

import copyreg
import json
import math
import pickle
import sys
import time
from collections import OrderedDict, namedtuple
from enum import IntEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import celestialflow_core.testing._hostile as hostile
from celestialflow_core.errors import RemoteError, TaskTimeout, WorkerCrashed
from celestialflow_core.sinks._values import LOST, NotRestorable, clean, decode, encode, encode_error, restored_error

pytestmark = pytest.mark.pure

atoms = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters())
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
anything = st.recursive(
    atoms | st.binary() | st.complex_numbers(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(atoms, inner)
        | st.tuples(inner, inner)
        | st.frozensets(atoms)
        | st.sets(atoms)
    ),
)

Point = namedtuple("Point", "x y")


class Colour(IntEnum):
    RED = 1


class Text(str):
    pass


class Number(float):
    pass


def same(one: Any, other: Any) -> bool:
    """Equal and of the same type all the way down; NaN is itself, and 0.0 is not -0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return one.hex() == other.hex()
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same([*one.items()], [*other.items()])
    if isinstance(one, set | frozenset | complex):
        return repr(sorted(map(repr, one))) == repr(sorted(map(repr, other))) if not isinstance(one, complex) else (
            same(one.real, other.real) and same(one.imag, other.imag)
        )  # fmt: skip
    return bool(one == other)


@given(anything)
def test_value_comes_back_as_it_was(value: Any) -> None:
    """Whatever is made of builtin types is decoded equal and of the same types; the text can be stored anywhere."""
    text, pickled = encode(value)

    assert same(decode(text, pickled), value)
    text.encode()
    assert "\0" not in text


@given(plain)
def test_what_json_gives_back_is_json(value: Any) -> None:
    """None, bool, int, finite float, str, lists and dicts with str keys need no pickle, and anybody can read them."""
    text, pickled = encode(value)

    if "\ud800" <= max(text, default=" ") <= "\udfff":
        pytest.fail("A text with half a surrogate pair was written as JSON.")
    assert pickled is None
    assert same(json.loads(text), value)


@given(anything)
def test_json_is_only_what_json_gives_back(value: Any) -> None:
    """What is stored without a pickle is the same value to whoever reads the JSON."""
    text, pickled = encode(value)

    if pickled is None:
        assert same(json.loads(text), value)
    elif pickled:
        assert same(pickle.loads(pickled), value)


@pytest.mark.parametrize(
    "value",
    [
        Text("a"),
        Number(1.0),
        Colour.RED,
        Point(1, 2),
        OrderedDict(a=1),
        {"a": Text("b")},
        {Text("a"): 1},
        [(1,)],
        [Colour.RED],
        {1: 2},
        math.nan,
        [math.inf],
        "\ud800",
        ["\udfff"],
        1 << 10_000,
        [1 << 40_000],
    ],
)
def test_what_json_would_change_is_pickled(value: Any) -> None:
    """Subclasses, tuples, keys that are no str, NaN, halves of surrogate pairs, very long integers."""
    text, pickled = encode(value)

    assert pickled
    again = decode(text, pickled)
    assert type(again) is type(value)
    assert same(again, value)


def test_text_of_a_pickled_value_is_short() -> None:
    """It is for people: the repr on one line, without its middle."""
    text, pickled = encode(("line\nfeed", "x" * 1_000_000))

    assert len(text) < 210
    assert "\n" not in text
    assert text.startswith("('line\\nfeed', 'xxx")
    assert pickled is not None
    assert len(pickled) > 1_000_000


def test_function_is_pickled_by_value() -> None:
    """What pickle cannot refer to, cloudpickle can."""
    text, pickled = encode(lambda x: x + 1)

    assert decode(text, pickled)(1) == 2


@pytest.mark.parametrize("kind", ["lock", "generator", "RefusesToBePickled", "RefusesStrangely", "list"])
def test_what_cannot_be_pickled_is_a_text(kind: str) -> None:
    """It says what it was, is marked, and cannot be restored."""
    text, pickled = encode(hostile.make(kind))

    assert pickled == LOST
    assert text
    with pytest.raises(NotRestorable):
        decode(text, pickled)


@pytest.mark.parametrize("kind", ["CannotBeRebuilt", "CannotBeRebuiltStrangely"])
def test_what_cannot_be_rebuilt_is_not_restorable(kind: str) -> None:
    """Whatever a pickle raises when it is loaded, also no Exception, is one error."""
    with pytest.raises(NotRestorable, match="cannot be rebuilt"):
        decode(*encode(hostile.make(kind)))


@pytest.mark.parametrize("text", ["", "{", "nul", "'a'", "[1,]"])
def test_damaged_text_is_not_restorable(text: str) -> None:
    """What somebody has edited is no value."""
    with pytest.raises(NotRestorable, match="no JSON"):
        decode(text, None)


def test_interrupt_is_not_taken_for_a_value_that_cannot_be_pickled() -> None:
    """Ctrl-C inside a user's __reduce__ ends the run."""

    class Slow:
        def __reduce__(self) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode(Slow())


def test_value_that_holds_itself_many_times_takes_no_time() -> None:
    """Each list is looked at once: 2 ** 64 items in 64 lists are no JSON, and come back as they were."""
    value: list[Any] = ["ha"]
    for _ in range(64):
        value = [value, value]
    begin = time.process_time()

    text, pickled = encode(value)

    assert time.process_time() - begin < 5
    assert decode(text, pickled)[0][0] is not None
    assert pickled


def test_depth_has_a_limit() -> None:
    """A list in a hundred lists is JSON; what a JSON reader might refuse is pickled."""
    shallow: list[Any] = []
    for _ in range(99):
        shallow = [shallow]

    assert encode(shallow) == ("[" * 100 + "]" * 100, None)
    text, pickled = encode([shallow])
    assert pickled
    assert decode(text, pickled) == [shallow]


@given(st.text(st.characters()))
def test_clean_text_can_be_stored_anywhere(text: str) -> None:
    """No half of a surrogate pair, no NUL; a text without them is not touched."""
    cleaned = clean(text)

    cleaned.encode()
    assert "\0" not in cleaned
    if "\0" not in text and not any("\ud800" <= c <= "\udfff" for c in text):
        assert cleaned == text


class Rebuilt(Exception):
    """Says something else when it is rebuilt."""

    def __init__(self, number: int, text: str = "default") -> None:
        super().__init__(number)
        self.text = text

    def __str__(self) -> str:
        return f"{self.args[0]} {self.text}"

    def __reduce__(self) -> Any:
        return Rebuilt, self.args


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a", 1),
        KeyError("a"),
        OSError(2, "No such file", "a"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        ExceptionGroup("two", [ValueError(1), KeyError(2)]),
        WorkerCrashed("task 1", 0, 17, -9),
        TaskTimeout("task 1", 3.0),
        RemoteError("their.Error", "text"),
        SystemExit(3),
    ],
)
def test_error_comes_back_as_it_was(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its type, arguments and text."""
    # What libraries such as tblib register for the whole process makes of some what cannot be unpickled.
    monkeypatch.delitem(copyreg.dispatch_table, type(error), raising=False)
    encoded = encode_error(error, None)

    again = restored_error(encoded.type, encoded.message, encoded.pickle)

    assert type(again) is type(error)
    assert str(again) == str(error)
    assert repr(again.args) == repr(error.args)


def test_error_that_would_be_rebuilt_wrong_is_kept_in_words() -> None:
    """An exception that says something else after a pickle is a RemoteError with what it said."""
    encoded = encode_error(Rebuilt(1, "special"), None)

    again = restored_error(encoded.type, encoded.message, encoded.pickle)

    assert encoded.pickle == LOST
    assert isinstance(again, RemoteError)
    assert (again.type_name, again.text) == (f"{__name__}.Rebuilt", "1 special")
    assert type(restored_error("x", "y", encode_error(Rebuilt(1), None).pickle)) is Rebuilt


def test_error_whose_class_is_gone_is_kept_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store outlives the code that filled it."""
    encoded = encode_error(Rebuilt(1), None)
    monkeypatch.delattr(sys.modules[__name__], "Rebuilt")

    again = restored_error(encoded.type, encoded.message, encoded.pickle)

    assert isinstance(again, RemoteError)
    assert str(again) == f"{__name__}.Rebuilt: 1 default"


def test_pickle_that_is_no_exception_is_not_raised() -> None:
    """A value where an error should be is not taken for one."""
    assert isinstance(restored_error("ValueError", "text", pickle.dumps(3)), RemoteError)


def test_error_says_where_it_was_raised() -> None:
    """By its own traceback, or by the text of one from another process."""
    try:
        raise ValueError
    except ValueError as error:
        own = encode_error(error, None)
        remote = encode_error(
            error, 'Traceback:\n  File "/a/b.py", line 3, in f\n    g()\n  File "/a/c.py", line 5, in g\n'
        )

    assert own.place is not None
    assert own.place.startswith(f"{__file__}:")
    assert remote.place == "/a/c.py:5"
    assert encode_error(ValueError(), None).place is None


def test_long_texts_of_an_error_lose_their_middle() -> None:
    """A message of megabytes is cut; its beginning and end are there."""
    encoded = encode_error(ValueError("begin" + "x" * 1_000_000 + "end"), "top" + "y" * 1_000_000 + "bottom")

    assert encoded.traceback is not None
    for text, begin, end in ((encoded.message, "begin", "end"), (encoded.traceback, "top", "bottom")):
        assert len(text) < 40_000
        assert text.startswith(begin)
        assert text.endswith(end)
        assert "characters are left out" in text
