"""Fetches Python's standard library from a server that is often busy, with threads and with an event loop.

    python -m uv run examples/crawl.py

The server runs in this process, on the loopback interface. Of its answers, some are "503 Service Unavailable", some are
"429 Too Many Requests" with the time to wait, and some come too late. One page is not there at all. In the end both
crawls have every file as it is on disk, and an account that agrees with what the server has counted.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import sysconfig
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from hashlib import sha256
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote
from zlib import crc32

from celestialflow_core import Backoff, Outcome, RunSummary, TaskManager, hookimpl

LIBRARY = Path(sysconfig.get_path("stdlib"))
FOREIGN = {"site-packages", "dist-packages"}
MISSING = "not/there.py"
TIMEOUT = 1.0  # seconds that a client waits for a page
RETRY_AFTER = 1  # seconds that a busy server asks for; whole ones, as HTTP has it


# ---------------------------------------------------------------------------------------------------- the server


class Server(ThreadingHTTPServer):
    """Serves the library, keeps count of the requests, and now and then does something else."""

    daemon_threads = False
    request_queue_size = 512

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: dict[str, Counter[str]] = {"thread": Counter(), "async": Counter()}
        self.asked_to_wait: dict[tuple[str, str], float] = {}
        self.impatient: list[str] = []
        self.closing = threading.Event()


def trouble_with(path: str, attempt: int) -> str | None:
    """What the server does instead of sending a file: the same in every run, and never for ever."""
    number = crc32(path.encode()) % 300
    if number < 15:
        return "busy" if attempt <= 2 else None
    if number < 25:
        return "throttled" if attempt == 1 else None
    if number < 28:
        return "stalled" if attempt == 1 else None
    return None


class Handler(BaseHTTPRequestHandler):
    """Answers one request for ``/<crawl>/<path of a file>``."""

    def do_GET(self) -> None:
        """Send the file, unless there is trouble."""
        server = self.server
        assert isinstance(server, Server)
        crawl, _, path = unquote(self.path).removeprefix("/").partition("/")
        server.requests[crawl][path] += 1
        asked_to_wait = server.asked_to_wait.pop((crawl, path), None)
        if asked_to_wait is not None and time.monotonic() - asked_to_wait < RETRY_AFTER - 0.05:
            server.impatient.append(path)
        trouble = trouble_with(path, server.requests[crawl][path])
        if trouble == "busy":
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE)
        elif trouble == "throttled":
            server.asked_to_wait[crawl, path] = time.monotonic()
            self._refuse(HTTPStatus.TOO_MANY_REQUESTS, RETRY_AFTER)
        elif trouble == "stalled":
            server.closing.wait(2 * TIMEOUT)  # the client has given up by then
        elif not (LIBRARY / path).is_file():
            self._refuse(HTTPStatus.NOT_FOUND)
        else:
            body = (LIBRARY / path).read_bytes()
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def _refuse(self, status: HTTPStatus, retry_after: int | None = None) -> None:
        self.send_response(status)
        if retry_after is not None:
            self.send_header("Retry-After", str(retry_after))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Print no line for each request."""


@contextmanager
def serving() -> Iterator[Server]:
    """A server that runs while the block does."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()


# --------------------------------------------------------------------------------------------------- the clients


class Refused(Exception):
    """The server gave no page: its status, and the seconds after which it is to be asked again, if it said so."""

    def __init__(self, status: int, retry_after: str | None) -> None:
        super().__init__(status, retry_after)
        self.status = status
        self.retry_after = None if retry_after is None else float(retry_after)


class Courtesy:
    """A plugin: asks again where that can help, and when the server says that it can."""

    @hookimpl
    def should_retry(self, error: BaseException) -> bool | None:
        """A refusal goes by its status; for all other errors the default holds, which retries a timeout."""
        if isinstance(error, Refused):
            return error.status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS)
        return None

    @hookimpl
    def retry_delay(self, error: BaseException) -> float | None:
        """What Retry-After says; without it the backoff holds."""
        return getattr(error, "retry_after", None)


class Crawler:
    """Fetches a page, in either way, and gives the digest of what came.

    Args:
        port: The server's.
    """

    def __init__(self, port: int) -> None:
        self.port = port

    def fetch(self, path: str) -> str:
        """By http.client, in whatever thread this is."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)) as connection:
            connection.request("GET", f"/thread/{quote(path)}")
            response = connection.getresponse()
            body = response.read()
        if response.status != HTTPStatus.OK:
            raise Refused(response.status, response.getheader("Retry-After"))
        return sha256(body).hexdigest()

    async def fetch_async(self, path: str) -> str:
        """By asyncio's streams: one request of HTTP/1.0, whose answer ends with the connection."""
        async with asyncio.timeout(TIMEOUT):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                writer.write(f"GET /async/{quote(path)} HTTP/1.0\r\n\r\n".encode())
                answer = await reader.read()
            finally:
                writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if not status_line or len(body) != int(headers.get("content-length", len(body))):
            raise ConnectionError(f"The answer for {path} is not whole.")
        status = int(status_line.split()[1])
        if status != HTTPStatus.OK:
            raise Refused(status, headers.get("retry-after"))
        return sha256(body).hexdigest()


def crawl_with_threads(port: int, paths: list[str]) -> tuple[list[Outcome[str, str]], RunSummary | None]:
    """The crawl in thread mode."""
    manager = TaskManager(
        Crawler(port).fetch,
        "thread",
        worker_limit=16,
        max_retries=5,
        backoff=Backoff(initial=0.05),
        plugins=[Courtesy()],
        progress_desc="Threads",
        show_progress=True,
    )
    with manager.stream(paths) as outcomes:
        return list(outcomes), manager.summary


async def crawl_with_a_loop(port: int, paths: list[str]) -> tuple[list[Outcome[str, str]], RunSummary | None]:
    """The crawl in async mode."""
    manager = TaskManager(
        Crawler(port).fetch_async,
        "async",
        worker_limit=16,
        max_retries=5,
        backoff=Backoff(initial=0.05),
        plugins=[Courtesy()],
        progress_desc="Async",
        show_progress=True,
    )
    async with manager.stream_async(paths) as outcomes:
        return [outcome async for outcome in outcomes], manager.summary


# ----------------------------------------------------------------------------------------------------- the check


def complaints(
    outcomes: list[Outcome[str, str]], summary: RunSummary | None, asked: Counter[str], paths: list[str]
) -> Iterator[str]:
    """Whatever is wrong with a crawl: with a file, or with the account of the requests."""
    on_disk = {path: sha256((LIBRARY / path).read_bytes()).hexdigest() for path in paths if path != MISSING}
    fetched = {outcome.task: outcome.value for outcome in outcomes if outcome.ok}
    failed = {outcome.task: outcome.error for outcome in outcomes if not outcome.ok}
    attempts = {outcome.task: outcome.attempts for outcome in outcomes}
    if sorted(outcome.task for outcome in outcomes) != sorted(paths):
        yield f"{len(paths)} paths have {len(outcomes)} outcomes, not one each."
    if fetched != on_disk:
        yield f"These are not what the disk has: {dict(fetched.items() ^ on_disk.items())}"
    if list(failed) != [MISSING]:
        yield f"One page is not there, but these failed: {failed}"
    if attempts != dict(asked):
        yield f"Attempts that the server counted otherwise: {dict(attempts.items() ^ asked.items())}"
    if summary is None or summary.total != len(paths) or summary.succeeded != len(paths) - 1 or summary.failed != 1:
        yield f"The summary does not account for {len(paths)} paths."
    elif summary.total + summary.retries != asked.total():
        yield f"{summary.total} tasks and {summary.retries} retries are not {asked.total()} requests."


def main() -> None:
    """Crawl twice, print both summaries, and exit with 1 if anything disagrees."""
    parser = argparse.ArgumentParser(description="Fetch the standard library from a server that is often busy.")
    parser.add_argument("--limit", type=int, help="the most files to fetch (default: all)")
    limit: int | None = parser.parse_args().limit

    files = [path.relative_to(LIBRARY) for path in sorted(LIBRARY.rglob("*.py")) if not FOREIGN & {*path.parts}]
    paths = [path.as_posix() for path in files][:limit] + [MISSING]
    with serving() as server:
        port = server.server_port
        by_threads, thread_summary = crawl_with_threads(port, paths)
        by_loop, async_summary = asyncio.run(crawl_with_a_loop(port, paths))
    print(thread_summary)
    print(async_summary)
    wrong = [
        *complaints(by_threads, thread_summary, server.requests["thread"], paths),
        *complaints(by_loop, async_summary, server.requests["async"], paths),
        *(f"{path} was asked for again before Retry-After was over." for path in server.impatient),
    ]
    if wrong:
        raise SystemExit("\n".join(wrong))
    print(f"Both crawls agree with the disk: {len(paths) - 1} files each, and 1 page that is not there.")


if __name__ == "__main__":
    main()
