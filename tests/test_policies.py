"""Backoff, stop rules, retry policy: values and pure functions."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celestialflow_core import Backoff, Stop
from celestialflow_core._policies import RetryPolicy, check_exceptions

pytestmark = pytest.mark.pure

seconds = st.floats(0, 1e6)


@given(seconds, st.floats(1, 100), seconds, st.floats(0, 1), st.integers(1, 5000), st.floats(0, 1, exclude_max=True))
def test_delay_grows_up_to_the_maximum_and_jitter_only_takes_away(
    initial: float, factor: float, maximum: float, jitter: float, attempt: int, dice: float
) -> None:
    """Never above the cap, never below the part that jitter may take, and never less than for the attempt before."""
    backoff = Backoff(initial, factor, maximum, jitter)
    whole = backoff.delay(attempt)
    assert 0 <= whole <= maximum
    assert whole >= backoff.delay(max(1, attempt - 1))
    assert whole * (1 - jitter) * (1 - 1e-9) <= backoff.delay(attempt, dice) <= whole


def test_delays_are_those_of_the_documentation() -> None:
    """0.1, 0.2, 0.4 and so on, up to 30 seconds."""
    backoff = Backoff()
    assert [backoff.delay(attempt) for attempt in (1, 2, 3, 9, 10, 10_000)] == [0.1, 0.2, 0.4, 25.6, 30.0, 30.0]
    assert backoff.delay(1, 0.999) == pytest.approx(0.05, rel=0.01)
    assert Backoff(initial=0).delay(5000) == 0


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("initial", -1),
        ("initial", math.inf),
        ("initial", math.nan),
        ("initial", "1"),
        ("initial", True),
        ("factor", 0.5),
        ("factor", math.inf),
        ("maximum", -0.1),
        ("maximum", None),
        ("jitter", 1.1),
        ("jitter", -0.1),
        ("jitter", False),
    ],
)
def test_backoff_refuses_what_is_no_delay(option: str, value: Any) -> None:
    """With the name and the value."""
    with pytest.raises(ValueError, match=rf"^Backoff.{option} must be .*, got {value!r}\.$"):
        Backoff(**{option: value})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "Stop needs a rule"),
        ({"when": "now"}, "Stop needs a rule"),
        ({"errors": 0}, "Stop.errors must be a positive int or None, got 0"),
        ({"errors": True}, "Stop.errors must be a positive int"),
        ({"consecutive": -1}, "Stop.consecutive must be a positive int"),
        ({"successes": 1.5}, "Stop.successes must be a positive int"),
        ({"fraction": 0}, "Stop.fraction must be a part of the settled tasks, above 0 and up to 1, got 0"),
        ({"fraction": 1.01}, "Stop.fraction must be a part"),
        ({"fraction": 0.1, "minimum": 0}, "Stop.minimum must be a positive int, got 0"),
        ({"fraction": 0.1, "minimum": None}, "Stop.minimum must be a positive int, got None"),
        ({"errors": 1, "when": "later"}, "Stop.when must be 'soon' or 'now', got 'later'"),
    ],
)
def test_stop_refuses_what_is_no_rule(options: dict[str, Any], words: str) -> None:
    """With what it must be."""
    with pytest.raises(ValueError) as raised:
        Stop(**options)
    assert words in str(raised.value)


@given(
    st.integers(0, 60),
    st.integers(0, 60),
    st.integers(0, 60),
    st.none() | st.integers(1, 50),
    st.none() | st.floats(0.01, 1),
    st.none() | st.integers(1, 50),
)
def test_rule_is_broken_exactly_when_it_says(
    succeeded: int, failed: int, in_a_row: int, errors: int | None, fraction: float | None, consecutive: int | None
) -> None:
    """Each rule by its definition, and any one of several ends the run."""
    in_a_row = min(in_a_row, failed)
    if errors is fraction is consecutive is None:
        errors = 5
    rule = Stop(errors=errors, fraction=fraction, minimum=10, consecutive=consecutive)
    broken = [
        errors is not None and failed >= errors,
        fraction is not None and succeeded + failed >= 10 and failed / (succeeded + failed) > fraction,
        consecutive is not None and in_a_row >= consecutive,
    ]
    if fraction is not None and math.isclose(failed, fraction * (succeeded + failed)):
        return  # at the edge rounding decides
    assert (rule.broken_by(succeeded, failed, in_a_row) is not None) == any(broken)


def test_an_int_means_errors() -> None:
    """stop=3 is Stop(errors=3)."""
    assert Stop.of(3) == Stop(errors=3)
    assert Stop.of(None) is None
    rule = Stop(successes=2)
    assert Stop.of(rule) is rule
    assert rule.satisfied_by(1) is None
    assert Stop(successes=1).satisfied_by(1) == "1 task succeeded (stop at successes=1)"
    assert rule.satisfied_by(2) == "2 tasks succeeded (stop at successes=2)"


class Base(Exception):
    """Dangerous to retry."""


class Derived(Base):
    """More of it."""


@pytest.mark.parametrize(
    ("error", "listed", "wanted"),
    [
        (ValueError(), (ValueError,), True),
        (ValueError(), (Exception,), True),
        (ValueError(), (), False),
        (KeyError(), (ValueError,), False),
        (Base(), (Exception,), False),
        (Base(), (Base,), True),
        (Derived(), (Base,), True),
        (Derived(), (Exception,), False),
        (Base(), (Derived,), False),
    ],
)
def test_policy_wants_what_is_listed(error: Exception, listed: tuple[type[Exception], ...], wanted: bool) -> None:
    """By class, and the explicit ones only where they are named themselves."""
    assert RetryPolicy(1, listed, (Base,), Backoff()).wants(error) is wanted


def test_check_exceptions_gives_a_tuple() -> None:
    """One class, a list, a set, a generator."""
    assert check_exceptions(ValueError) == (ValueError,)
    assert check_exceptions([ValueError, OSError]) == (ValueError, OSError)
    assert check_exceptions(kind for kind in (KeyboardInterrupt,)) == (KeyboardInterrupt,)
    assert check_exceptions(()) == ()
