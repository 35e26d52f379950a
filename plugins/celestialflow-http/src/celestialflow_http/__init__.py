"""Retries over HTTP as a server wants them: for errors that pass, and not before the time that Retry-After names.

    pip install celestialflow-http             in every manager, as it is
    TaskManager(plugins=[HttpRetries(...)])    in one, with other statuses or another patience

Works with the errors of requests, httpx, aiohttp and urllib, and imports none of them: whoever raised an error has.
"""

from __future__ import annotations

from collections.abc import Iterable

from celestialflow_core import hookimpl
from celestialflow_http._errors import response_of, will_pass
from celestialflow_http._retry_after import seconds_to_wait

__all__ = ["RETRYABLE", "HttpRetries", "plugin"]

RETRYABLE = frozenset({408, 425, 429, 500, 502, 503, 504})
"""The statuses that may be another one next time."""


class HttpRetries:
    """Says which HTTP errors are tried again, and when.

    Args:
        statuses: Those that are tried again. An error with any other status from 400 on is not.
        longest_wait: Seconds. Who is told by Retry-After to wait longer does not come back: to ask earlier would do no
            good, and a run is not held up for hours.

    Raises:
        TypeError, ValueError: An argument is wrong.
    """

    def __init__(self, *, statuses: Iterable[int] = RETRYABLE, longest_wait: float = 600.0) -> None:
        self._statuses = frozenset(statuses)
        wrong = [status for status in self._statuses if not isinstance(status, int) or not 400 <= status <= 599]
        if wrong:
            raise ValueError(f"statuses must be statuses of errors, from 400 to 599, got {wrong[0]!r}.")
        if isinstance(longest_wait, bool) or not isinstance(longest_wait, int | float):
            raise TypeError(f"longest_wait must be a number of seconds, got {longest_wait!r}.")
        if not 0 <= longest_wait < float("inf"):
            raise ValueError(f"longest_wait must be a finite number of seconds, at least 0, got {longest_wait!r}.")
        self._longest_wait = float(longest_wait)

    @hookimpl
    def should_retry(self, error: BaseException) -> bool | None:
        """True or False for what HTTP has to do with, and None for everything else."""
        response = response_of(error)
        if response is None:
            return will_pass(error)
        if response.status < 400:  # a redirect, or a body of the wrong type: no word on whether it will be the same
            return None
        wait = seconds_to_wait(response.headers)
        return response.status in self._statuses and (wait is None or wait <= self._longest_wait)

    @hookimpl
    def retry_delay(self, error: BaseException) -> float | None:
        """The seconds that Retry-After asks for; None, which leaves it to the backoff, where there is none."""
        response = response_of(error)
        wait = None if response is None else seconds_to_wait(response.headers)
        return None if wait is None else min(wait, self._longest_wait)


plugin = HttpRetries()
"""What is active where this distribution is installed."""
