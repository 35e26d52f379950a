"""What the plugin says of single errors, with no server."""

from __future__ import annotations

import email.message
import email.utils
import io
import ssl
import subprocess
import sys
import time
import urllib.error

import httpx
import pytest
import requests

from celestialflow_core import RemoteError
from celestialflow_http import RETRYABLE, HttpRetries, plugin


def answer(status: int, **headers: str) -> urllib.error.HTTPError:
    """The error for a response."""
    message = email.message.Message()
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    return urllib.error.HTTPError("http://a.example", status, "", message, io.BytesIO())


@pytest.mark.parametrize("status", range(400, 600))
def test_statuses_are_those_that_are_documented(status: int) -> None:
    """Seven statuses are retried, and no other one."""
    assert plugin.should_retry(answer(status)) is (status in {408, 425, 429, 500, 502, 503, 504})
    assert (status in RETRYABLE) is plugin.should_retry(answer(status))


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("Sun, 06 Nov 1994 08:49:40 GMT", 3.0),
        ("Sunday, 06-Nov-94 08:49:40 GMT", 3.0),
        ("Sun Nov  6 08:49:40 1994", 3.0),
        ("Sun, 06 Nov 1994 08:00:00 GMT", 0.0),
        ("9" * 400, 600.0),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("nan", None),
        ("1e3", None),
        ("٣", None),
        ("Sun, 99 Nov 1994 08:49:40 GMT", None),
    ],
)
def test_retry_after_is_read_in_every_form(said: str, seconds: float | None) -> None:
    """Seconds and the three forms of a date; what is none of them is left to the backoff."""
    error = answer(503, Retry_After=said, Date="Sun, 06 Nov 1994 08:49:37 GMT")

    assert plugin.retry_delay(error) == seconds


def test_date_counts_from_now_where_the_response_has_none() -> None:
    """Without a date of the response there is only our clock."""
    delay = plugin.retry_delay(answer(503, Retry_After=email.utils.formatdate(time.time() + 100, usegmt=True)))

    assert delay is not None
    assert 40 < delay <= 100


def test_certificate_of_somebody_else_is_not_tried_again() -> None:
    """The check of a certificate fails the same way next time, however deep its error lies."""
    reason = ssl.SSLCertVerificationError("unable to get local issuer certificate")
    by_cause = httpx.ConnectError("no")
    by_cause.__cause__ = reason

    for error in (requests.exceptions.SSLError(reason), by_cause, urllib.error.URLError(reason)):
        assert plugin.should_retry(error) is False


@pytest.mark.parametrize(
    "error",
    [
        ValueError("503"),
        requests.exceptions.MissingSchema("no scheme"),
        requests.exceptions.TooManyRedirects("30"),
        requests.HTTPError("raised by hand, with no response"),
        httpx.UnsupportedProtocol("gopher"),
        urllib.error.URLError(FileNotFoundError(2, "a file")),
        urllib.error.URLError("unknown url type"),
        RemoteError("mine.Error", "503"),
        RemoteError("httpx.HTTPStatusError", "of some later version"),
        answer(304),
    ],
    ids=repr,
)
def test_other_errors_are_left_alone(error: Exception) -> None:
    """Of what it does not know the plugin has no opinion, so that ``retry_exceptions`` holds."""
    assert plugin.should_retry(error) is None
    assert plugin.retry_delay(error) is None


@pytest.mark.parametrize(
    ("type_name", "text"),
    [
        ("httpx.HTTPStatusError", "Server error '503 Service Unavailable' for url 'http://a.example/404'"),
        ("urllib.error.HTTPError", "HTTP Error 503: Service Unavailable"),
        ("aiohttp.client_exceptions.ClientResponseError", "503, message='Service Unavailable', url='http://a.example'"),
    ],
)
def test_status_is_read_from_the_text_of_a_worker(type_name: str, text: str) -> None:
    """An error that could not be pickled has the status in its text."""
    assert plugin.should_retry(RemoteError(type_name, text)) is True
    assert plugin.should_retry(RemoteError(type_name, text.replace("503", "403"))) is False
    assert plugin.retry_delay(RemoteError(type_name, text)) is None


def test_statuses_and_patience_can_be_chosen() -> None:
    """An instance of one's own has its own rules."""
    own = HttpRetries(statuses={404}, longest_wait=5)

    assert own.should_retry(answer(404)) is True
    assert own.should_retry(answer(503)) is False
    assert own.should_retry(answer(404, Retry_After="6")) is False
    assert own.retry_delay(answer(404, Retry_After="6")) == 5


@pytest.mark.parametrize(
    ("options", "expected", "message"),
    [
        ({"statuses": [200]}, ValueError, "statuses must be statuses of errors, from 400 to 599, got 200."),
        ({"statuses": ["503"]}, ValueError, "statuses must be statuses of errors, from 400 to 599, got '503'."),
        ({"longest_wait": -1}, ValueError, "longest_wait must be a finite number of seconds, at least 0, got -1."),
        ({"longest_wait": None}, TypeError, "longest_wait must be a number of seconds, got None."),
    ],
)
def test_wrong_argument_is_refused(options: dict[str, object], expected: type[Exception], message: str) -> None:
    """The constructor says which one, and what it may be."""
    with pytest.raises(expected) as caught:
        HttpRetries(**options)  # type: ignore[arg-type]  # wrong on purpose

    assert str(caught.value) == message


def test_no_library_is_imported() -> None:
    """The plugin works, and answers, where none of the libraries is loaded."""
    code = (
        "import sys, celestialflow_http\n"
        "assert celestialflow_http.plugin.should_retry(OSError()) is None\n"
        "print(sorted({'requests', 'httpx', 'aiohttp', 'urllib.request', 'ssl', 'email'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout == "[]\n"
