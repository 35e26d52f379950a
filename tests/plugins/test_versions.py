"""Versions and what is asked of them: as packaging, which pytest brings along, has it."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from celestialflow_core.plugins.versions import meets

pytestmark = pytest.mark.pure

numbers = st.integers(0, 3).map(str)
releases = st.lists(numbers, min_size=1, max_size=3).map(".".join)
pre = st.sampled_from(["", "", "a1", "b1", ".beta2", "rc1", "-rc.2", "c1", "_pre1", "alpha"])
post = st.sampled_from(["", "", ".post1", "-1", "post", ".r2", "-rev1"])
dev = st.sampled_from(["", "", ".dev1", "dev", "-DEV2"])
public = st.tuples(st.sampled_from(["", "", "", "v", "1!"]), releases, pre, post, dev).map("".join)
local = st.sampled_from(["", "", "", "+1", "+ubuntu.1", "+ubuntu-1"])
versions = st.tuples(public, local).map("".join)
clauses = st.one_of(
    st.tuples(st.sampled_from(["<=", ">=", "~="]), public).map("".join),
    # Releases of packaging differ in what is a pre-release or a post-release of something that is one itself.
    st.tuples(st.sampled_from(["<", ">"]), releases).map("".join),
    st.tuples(st.sampled_from(["==", "!="]), versions).map("".join),
    st.tuples(st.sampled_from(["==", "!="]), releases, st.just(".*")).map("".join),
)
specifiers = st.lists(clauses, max_size=3).map(", ".join)


@given(version=versions, specifier=specifiers)
@example(version="1.0rc1", specifier="<1.0")
@example(version="1.0.post1", specifier=">1.0")
@example(version="1.10", specifier=">=1.9,<2")
@example(version="1.0+1", specifier="<=1.0")
def test_verdict_is_that_of_packaging(version: str, specifier: str) -> None:
    """For whatever both can read; an installed pre-release counts as what it is."""
    try:
        wanted = SpecifierSet(specifier)
    except InvalidSpecifier:
        assert meets(version, specifier) is not True
        return
    assert meets(version, specifier) is wanted.contains(version, prereleases=True)


@pytest.mark.parametrize(
    ("version", "specifier", "verdict"),
    [
        ("1.0", "", True),
        ("", "", True),
        ("1.0", "===1.0", True),
        ("1.0", "===1.0.0", False),
        ("unknown", ">=1", None),
        ("1.0", ">=soon", None),
        ("1.0", "1.0", None),
        ("1.0", "~=1", None),
        ("1.0", ">=1.*", None),
        ("1.0", ">=soon,<1", False),
        ("1.0", ">=soon,>=1", None),
        ("1.0", "@ https://example.org/x.whl", None),
    ],
)
def test_what_cannot_be_read_is_no_verdict(version: str, specifier: str, verdict: bool | None) -> None:
    """None, unless another part of the specifier rules the version out."""
    assert meets(version, specifier) is verdict
