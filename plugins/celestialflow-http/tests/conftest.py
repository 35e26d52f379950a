"""A real server on the loopback interface, which answers as the test says, and keeps the times."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic
from typing import Any

import pytest

from celestialflow_core.testing import Resources

Answer = tuple[int, dict[str, str]]  # status and headers; of status 0 the connection breaks in the middle of the body


class Server(ThreadingHTTPServer):
    """Gives each path its answers in order, the last one again and again; notes when each request came."""

    daemon_threads = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, list[Answer]] = {}
        self.requests: dict[str, list[float]] = defaultdict(list)

    def url(self, path: str, *answers: Answer) -> str:
        """The address of *path*, where these are the answers."""
        self.answers[path] = list(answers)
        return f"http://127.0.0.1:{self.server_port}{path}"


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    def do_GET(self) -> None:
        """Take the next answer."""
        server: Any = self.server
        server.requests[self.path].append(monotonic())
        answers = server.answers[self.path]
        status, headers = answers.pop(0) if len(answers) > 1 else answers[0]
        body = b"page"
        self.send_response_only(status or 200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) + (status == 0)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that runs as long as the test."""
    before = Resources()
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
    before.expect_no_leaks()
