"""Short texts: bounded, on one line, and never an exception."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celestialflow_core._text import cut, error_text

pytestmark = pytest.mark.pure

leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30) | st.binary(max_size=30)
values = st.recursive(
    leaves | st.sets(st.integers() | st.text(max_size=5)) | st.binary().map(bytearray),
    lambda inner: st.one_of(
        st.lists(inner),
        st.lists(inner).map(tuple),
        st.dictionaries(st.none() | st.integers() | st.text(max_size=5), inner),
    ),
)


def reference(text: str, limit: int) -> str:
    if limit <= 0 or len(text) <= limit:
        return text
    return text[: 2 * (limit // 3)] + "..." + text[len(text) - limit // 3 :]


@given(values, st.integers(min_value=-1, max_value=80))
def test_cut_is_the_repr_without_its_middle(value: Any, limit: int) -> None:
    """What is shown is the repr itself, or its first two thirds and last third."""
    assert cut(value, limit) == reference(repr(value), limit)


@given(st.text(min_size=200, alphabet=st.characters(exclude_characters="'\"")), st.integers(min_value=1, max_value=60))
def test_cut_of_a_long_string_shows_both_ends(value: str, limit: int) -> None:
    """A string that is cut before it is formatted gives the same text as one that is cut after."""
    assert cut(value, limit) == reference(repr(value), limit)
    assert cut([value, {"k": value}], limit) == reference(repr([value, {"k": value}]), limit)
    assert cut(value.encode("utf-8", "replace"), limit) == reference(repr(value.encode("utf-8", "replace")), limit)


@pytest.mark.parametrize(
    "make",
    [
        lambda: "x" * 10_000_000,
        lambda: b"\x00" * 10_000_000,
        lambda: ["x" * 10_000_000] * 3,
        lambda: {"a": [("x" * 5_000_000,), "x" * 5_000_000]},
        lambda: list(range(1_000_000)),
        lambda: [[list(range(100))] * 100] * 100,
        lambda: {i: [i] * 100 for i in range(10_000)},
    ],
)
def test_cut_costs_what_it_shows(make: Callable[[], Any]) -> None:
    """The text of a huge value is never made: the memory that showing it takes is bounded by max_info."""
    value = make()
    tracemalloc.start()
    try:
        text = cut(value, 50)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(text) == 51
    assert "..." in text
    assert peak < 100_000


class Rude:
    """Its repr and str raise, or return, what it was made with."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def __repr__(self) -> str:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer  # type: ignore[no-any-return]

    __str__ = __repr__


class RudeError(Rude, Exception):
    pass


class BadMeta(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise ZeroDivisionError


class BadText(str):
    __slots__ = ()

    def __len__(self) -> int:
        raise ZeroDivisionError

    isprintable = __getitem__ = __len__  # type: ignore[assignment]


@pytest.mark.parametrize("answer", [ValueError("no"), SystemExit(3), RecursionError(), GeneratorExit(), 42])
def test_cut_says_that_a_repr_raises(answer: Any) -> None:
    """A repr that raises, whatever it raises, gives a text that names the type and the exception."""
    name = type(answer).__name__ if isinstance(answer, BaseException) else "TypeError"
    assert cut(Rude(answer)) == f"<Rude, whose repr raises {name}>"
    assert name in cut([1, Rude(answer)], 200)
    assert error_text(RudeError(answer), 0) == f"RudeError: <RudeError, whose str raises {name}>"


def test_cut_lets_ctrl_c_through() -> None:
    """KeyboardInterrupt is the user's, not the value's."""
    with pytest.raises(KeyboardInterrupt):
        cut(Rude(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        error_text(RudeError(KeyboardInterrupt()))


def test_cut_survives_hostile_classes() -> None:
    """Neither a metaclass, a string subclass, a cycle, an endless int nor a bottomless list makes it raise."""

    class Nameless(metaclass=BadMeta):
        def __repr__(self) -> str:
            raise ValueError

    cycle: list[Any] = [1]
    cycle.append({"again": (cycle,)})
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert cut(Nameless()) == "<Nameless, whose repr raises ValueError>"
    assert cut(Rude(BadText("fine"))) == "fine"
    assert error_text(RudeError(BadText("fine"))) == "RudeError: fine"
    assert cut(cycle, 0) == cut(cycle, 200) == repr(cycle)
    assert cut(deep, 30) == "[" * 20 + "..." + "]" * 10
    assert "RecursionError" in cut(deep, 0)
    assert cut(10 ** (sys.get_int_max_str_digits() + 1)) == "<int, whose repr raises ValueError>"


@pytest.mark.parametrize("limit", [0, 200, 20])
def test_cut_stays_on_one_line(limit: int) -> None:
    """Line breaks, control characters and surrogates are escaped, wherever they come from."""
    for text in (
        cut(Rude("a\nb\r\x1b[31m\x85\u2028\ud800c"), limit),
        error_text(ValueError("a\nb\r\x1b\ud800c"), limit),
    ):
        assert text.isprintable()
        assert len(text.splitlines()) == 1
        assert "\\n" in text
    assert cut(Rude("a\nb" * 100), 9) == "a\\nba\\...\\nb"


def test_error_text_names_the_type_and_cuts_the_message() -> None:
    """The type stands in front, the message is cut like a value, and no message leaves no colon."""
    assert error_text(KeyError("k")) == "KeyError: 'k'"
    assert error_text(ValueError()) == "ValueError"
    assert error_text(ValueError("x" * 5_000_000), 9) == "ValueError: xxxxxx...xxx"
    assert error_text(ValueError("x" * 100), 0) == "ValueError: " + "x" * 100
