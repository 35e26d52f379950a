"""Guesses which of the possible names was meant."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["closest"]


def closest(word: str, possible: Iterable[str]) -> str | None:
    """The one of *possible* that *word* is most likely a misspelling of, or None."""
    from difflib import get_close_matches  # only ever needed on the way to an error

    by_folded = {name.casefold(): name for name in sorted(possible)}
    match = get_close_matches(word.casefold(), by_folded, 1)
    return by_folded[match[0]] if match else None
