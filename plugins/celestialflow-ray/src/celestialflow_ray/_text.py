"""Ray's words in our messages."""

from __future__ import annotations

import re

__all__ = ["plain"]

_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
LIMIT = 600


def plain(error: BaseException) -> str:
    """What *error* says, on one line and without the colour codes that Ray puts in."""
    text = " ".join(_COLOUR.sub("", str(error)).split()).removesuffix(".")
    return text if len(text) <= LIMIT else text[: LIMIT - 3] + "..."
