"""Reads the header Retry-After, which is a number of seconds or a date: RFC 9110, section 10.2.3."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

__all__ = ["seconds_to_wait"]

SECONDS = re.compile(r"\d+(\.\d*)?", re.ASCII)  # whole ones by the standard; some servers are more exact


def seconds_to_wait(headers: Mapping[str, str]) -> float | None:
    """The seconds from the response to the time at which it says to come again; None where it says nothing legible.

    A date is compared with the date of the response, where it has one: the clock of the server may be off, and so may
    ours.
    """
    said = (headers.get("Retry-After") or "").strip()
    if SECONDS.fullmatch(said):
        return float(said)
    then = _moment(said)
    if then is None:
        return None
    now = _moment(headers.get("Date") or "") or datetime.now(UTC)
    return max(0.0, (then - now).total_seconds())


def _moment(text: str) -> datetime | None:
    """The date in *text*, in any of the three forms that HTTP has known."""
    from email.utils import parsedate_to_datetime  # which brings much along, and few servers send a date

    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
