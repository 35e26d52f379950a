"""The four libraries against a real server: the plugin decides by the errors that they raise, in every mode."""

from __future__ import annotations

import socket
import urllib.request
from typing import Any

import aiohttp
import httpx
import pytest
import requests

from celestialflow_core import Backoff, RunSummary, TaskManager, hookimpl
from celestialflow_http import HttpRetries

Answer = tuple[int, dict[str, str]]

FINE: Answer = (200, {})
BUSY: Answer = (503, {})
BROKEN: Answer = (0, {})


def by_requests(url: str) -> bytes:
    """One request, as the documentation of the library shows it."""
    response = requests.get(url, timeout=10)
    response.raise_for_status()
    return response.content


def by_httpx(url: str) -> bytes:
    """The same."""
    return httpx.get(url, timeout=10, trust_env=False).raise_for_status().content


def by_urllib(url: str) -> bytes:
    """The same; urllib raises by itself."""
    with urllib.request.urlopen(url, timeout=10) as response:
        body: bytes = response.read()
        return body


async def by_async_httpx(url: str) -> bytes:
    """The same, in an event loop."""
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.get(url, timeout=10)).raise_for_status().content


async def by_aiohttp(url: str) -> bytes:
    """The same, in an event loop."""
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        response.raise_for_status()
        return await response.read()


CLIENTS = {
    "requests": (by_requests, "thread"),
    "httpx": (by_httpx, "thread"),
    "urllib": (by_urllib, "thread"),
    "async httpx": (by_async_httpx, "async"),
    "aiohttp": (by_aiohttp, "async"),
}

every_client = pytest.mark.parametrize("client", CLIENTS)


class Delays:
    """Keeps the delay of each retry."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    @hookimpl
    def on_retry(self, delay: float) -> None:
        """Keep it."""
        self.seconds.append(delay)


def fetch(client: str, url: str, mode: str | None = None, **options: Any) -> tuple[RunSummary, list[float]]:
    """Run the one task *url*; gives the summary and the delays of its retries."""
    func, usual_mode = CLIENTS[client]
    delays = Delays()
    chosen: dict[str, Any] = {"max_retries": 3, "worker_limit": 2, "log_dir": None, "log_level": "ERROR", **options}
    manager: TaskManager[Any, Any] = TaskManager(
        func,
        mode or usual_mode,
        plugins=[HttpRetries(), delays],
        backoff=Backoff(initial=0.01, jitter=0),
        **chosen,
    )
    return manager.start([url]), delays.seconds


@every_client
def test_busy_server_is_asked_again(client: str, server: Any) -> None:
    """503, then 200: the task succeeds, after the delay of the backoff."""
    summary, delays = fetch(client, server.url("/", BUSY, FINE))

    assert (summary.succeeded, summary.retries, delays) == (1, 1, [0.01])
    assert len(server.requests["/"]) == 2


@every_client
def test_retry_after_is_waited_for(client: str, server: Any) -> None:
    """429 with Retry-After: the server is not asked again before that."""
    url = server.url("/", (429, {"Retry-After": "0.3"}), FINE)

    summary, delays = fetch(client, url)

    first, second = server.requests["/"]
    assert (summary.succeeded, delays) == (1, [0.3])
    assert second - first >= 0.3


@every_client
def test_date_is_waited_for(client: str, server: Any) -> None:
    """Retry-After as a date counts from the date of the response, whatever our clock says."""
    dates = {"Date": "Wed, 21 Oct 2015 07:28:00 GMT", "Retry-After": "Wed, 21 Oct 2015 07:28:01 GMT"}

    summary, delays = fetch(client, server.url("/", (503, dates), FINE))

    assert (summary.succeeded, delays) == (1, [1.0])


@every_client
@pytest.mark.parametrize("status", [401, 404, 501])
def test_lasting_status_is_not_asked_for_again(client: str, status: int, server: Any) -> None:
    """What will be the same next time is the task's error at once, also where its class is to be retried."""
    summary, _ = fetch(client, server.url("/", (status, {}), FINE), retry_exceptions=(Exception,))

    assert (summary.failed, summary.retries) == (1, 0)
    assert len(server.requests["/"]) == 1


@every_client
def test_retries_come_to_an_end(client: str, server: Any) -> None:
    """A server that stays busy is asked ``max_retries`` times more."""
    summary, _ = fetch(client, server.url("/", BUSY))

    assert (summary.failed, len(server.requests["/"])) == (1, 4)


@every_client
def test_long_wait_is_not_waited_for(client: str, server: Any) -> None:
    """A server that says "tomorrow" does not hold up the run, and is not asked before."""
    summary, _ = fetch(client, server.url("/", (503, {"Retry-After": "86400"}), FINE))

    assert (summary.failed, len(server.requests["/"])) == (1, 1)


@every_client
def test_broken_answer_is_asked_for_again(client: str, server: Any) -> None:
    """A connection that ends in the middle of the body is worth another try."""
    summary, _ = fetch(client, server.url("/", BROKEN, FINE))

    assert (summary.succeeded, summary.retries) == (1, 1)


@every_client
def test_refused_connection_is_tried_again(client: str) -> None:
    """Nobody listens: every try that there is is made."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but not listening
        summary, _ = fetch(client, f"http://127.0.0.1:{taken.getsockname()[1]}/", max_retries=2)

    assert (summary.failed, summary.retries) == (1, 2)


@pytest.mark.parametrize("client", ["requests", "httpx", "urllib"])
def test_status_comes_out_of_worker_processes(client: str, server: Any) -> None:
    """Also of those whose error cannot be pickled the status is known, and decides."""
    busy, _ = fetch(client, server.url("/busy", BUSY, FINE), "process", worker_limit=1)
    missing, _ = fetch(client, server.url("/missing", (404, {}), FINE), "process", worker_limit=1)

    assert (busy.succeeded, busy.retries) == (1, 1)
    assert (missing.failed, missing.retries) == (1, 0)
