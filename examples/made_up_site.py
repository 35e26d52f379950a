"""Serves a site that is made up from a seed, for `site_index.py` to crawl. By itself, until its input ends:

    python examples/made_up_site.py --sections 26 --pages 200 --seed 1

The pages of a section link to one another, forth and back and twice, with fragments, to pages of other sections, and to
pages that are gone (404). Some of them the server sends only when it is asked for the third time (503).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import Any, NamedTuple
from zlib import crc32

VOCABULARY = ["the", "sun", "and", "other", "stars", "move", "over", "a", "sea", "that", "no", "ship", "has", "crossed"]


class Link(NamedTuple):
    """What stands in a page, and where it leads."""

    written: str
    url: str


class Page(NamedTuple):
    """A page before it is written as HTML."""

    title: str
    words: list[str]
    links: list[Link]

    def word_count(self) -> int:
        """How many words its text has, with the headline and what is written on the links."""
        return len(self.title.split()) + len(self.words) + len(self.links)

    def html(self) -> bytes:
        """What is sent."""
        links = "".join(f'<li><a href="{link.written}">more</a></li>' for link in self.links)
        body = f"<h1>{self.title}</h1><p>{' '.join(self.words)}</p><ul>{links}</ul>"
        return f"<!doctype html><html><head><title>{self.title}</title></head><body>{body}</body></html>".encode()


class Site:
    """All pages of the site, the same for the same arguments."""

    def __init__(self, sections: int, pages: int, seed: int) -> None:
        self.arguments = [f"--sections={sections}", f"--pages={pages}", f"--seed={seed}"]
        self.sections = [f"/section-{number:02}/" for number in range(sections)]
        self._names = ["index.html", *(f"page-{number}.html" for number in range(1, pages))]
        self._seed = seed

    @cached_property
    def pages(self) -> Mapping[str, Page]:
        """Every page, by its address."""
        return {
            section + name: self._page(section, at) for section in self.sections for at, name in enumerate(self._names)
        }

    def _page(self, section: str, at: int) -> Page:
        random, names = Random(f"{self._seed} {section} {at}"), self._names
        up, near, far = names[max(at - 1, 0) // 4], random.choice(names), random.choice(names)
        other = random.choice(self.sections)
        links = [Link(name, section + name) for name in names[4 * at + 1 : 4 * at + 5]]  # every page is below the first
        links += links[:1]
        links += [Link(f"./{up}#top", section + up), Link("#notes", section + names[at])]
        links += [Link(f"{section}{near}#notes", section + near), Link(f"..{other}{far}", other + far)]
        if random.random() < 0.03:
            links.append(Link("old/gone.html", f"{section}old/gone.html"))
            links.append(Link(f"gone-{at}.html", f"{section}gone-{at}.html"))
        return Page(f"Page {at} of {section.strip('/')}", random.choices(VOCABULARY, k=150), links)

    def index(self) -> list[dict[str, Any]]:
        """What a crawl of the sections comes to if nothing is lost and nothing is counted twice."""
        entries = []
        for section in self.sections:
            pages = {url: page for url, page in sorted(self.pages.items()) if url.startswith(section)}
            links = [link.url for page in pages.values() for link in page.links if link.url.startswith(section)]
            reached = Counter([f"{section}index.html", *links])
            lines = []
            for url, page in pages.items():
                inside = sum(link.url.startswith(section) for link in page.links)
                line = {"url": url, "title": page.title, "words": page.word_count(), "inside": inside}
                lines.append({**line, "outside": len(page.links) - inside, "reached": reached[url]})
            gone = sorted(reached.keys() - pages.keys())
            broken = [{"url": url, "error": "404 Not Found", "reached": reached[url]} for url in gone]
            entries.append({"section": section, "pages": lines, "broken": broken})
        return entries


class Server(ThreadingHTTPServer):
    """Serves a site, and keeps count of its answers."""

    daemon_threads = False

    def __init__(self, site: Site) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.site = site
        self.lock = threading.Lock()
        self.requests: Counter[str] = Counter()
        self.answers: Counter[int] = Counter()

    def answer(self, url: str) -> tuple[HTTPStatus, bytes]:
        """The status and the body for a request."""
        page = self.site.pages.get(url)
        with self.lock:
            self.requests[url] += 1
            busy = crc32(url.encode()) % 50 == 0 and self.requests[url] <= 2
            status = HTTPStatus.SERVICE_UNAVAILABLE if busy else HTTPStatus.OK if page else HTTPStatus.NOT_FOUND
            self.answers[status] += 1
        return status, page.html() if page and not busy else b""


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection, which stays open between them."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave together
    answers = (HTTPStatus.OK, HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE)

    def do_GET(self) -> None:
        """Send what the server says."""
        assert isinstance(self.server, Server)
        status, body = self.server.answer(self.path)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Print no line for each request."""


def options_of_site(description: str) -> argparse.ArgumentParser:
    """A command line with the three figures that make a site."""
    parser = argparse.ArgumentParser(description=description)
    for name, default in (("--sections", 26), ("--pages", 200), ("--seed", 1)):
        parser.add_argument(name, type=int, default=default)
    return parser


@contextmanager
def serving(site: Site) -> Iterator[tuple[int, dict[str, int]]]:
    """A process that serves *site* while the block runs: its port, and what it answered how often, known at the end."""
    command = [sys.executable, __file__, *site.arguments]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        process_group=0,  # a Ctrl-C is not for the server
        text=True,
    ) as process:
        assert process.stdout is not None
        answers: dict[str, int] = {}
        try:
            yield int(process.stdout.readline()), answers
        finally:
            answers.update(json.loads(process.communicate()[0]))


def main() -> None:
    """Print the port, serve until the input ends, and print how often which status was the answer."""
    options = options_of_site("Serve a site that is made up from a seed.").parse_args()
    with Server(Site(**vars(options))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        print(server.server_port, flush=True)
        sys.stdin.read()
        server.shutdown()
        thread.join()
    print(json.dumps({str(int(status)): server.answers[status] for status in Handler.answers}))


if __name__ == "__main__":
    main()
