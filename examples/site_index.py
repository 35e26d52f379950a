"""Crawls a site of 5,200 pages and writes an index of its sections: managers that stream into one another.

    python -m uv run examples/site_index.py

    sections ============= gather ==============> index
       |
       `-> fetch -> parse -> entry     a page's line in the index
             ^        `----> links
             `- each, inside --'       the crawl itself: a cycle

A server in a process of its own (`made_up_site.py`) makes the site up from a seed. Threads fetch its pages, each over
one connection that stays open; processes parse them; and the links of a page become tasks of `fetch` again, which knows
what it has had, so that the crawl ends by itself. When all that came of a section has settled, it is one entry.

A link that leads out of its section is counted and not followed. So a page belongs to one section, whichever crawl is
faster, and the index is the same in each run, byte for byte. In the end it has to be the one that the seed implies, and
the figures of the graph, the server and the index have to agree.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from html.parser import HTMLParser
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urldefrag, urljoin

from made_up_site import Site, options_of_site, serving

from celestialflow_core import Backoff, Family, RunSummary, TaskGraph, TaskManager, current_worker

Entry = dict[str, Any]


class Link(NamedTuple):
    """A page to fetch, for the index of a section."""

    section: str
    url: str


class Html(NamedTuple):
    """A page as it came."""

    section: str
    url: str
    text: str


class Page(NamedTuple):
    """What is in a page."""

    section: str
    url: str
    title: str
    words: int
    links: list[Link]


class Parser(HTMLParser):
    """Finds the title, the words and the links of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.title, self.words = "", 0
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a link."""
        self.links += [value for name, value in attrs if tag == "a" and name == "href" and value]

    def handle_data(self, data: str) -> None:
        """Take the title, or count words."""
        if self.lasttag == "title":
            self.title += data
        else:
            self.words += len(data.split())


def first_page(section: str) -> Link:
    """Where the crawl of a section begins."""
    return Link(section, f"{section}index.html")


def connection(port: int) -> Iterator[HTTPConnection]:
    """What each thread of `fetch` keeps for all its requests."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        yield connection


def fetch(link: Link) -> Html:
    """A page, from the server."""
    connection = current_worker().state
    connection.request("GET", link.url)
    response = connection.getresponse()
    text = response.read().decode()
    if response.status != HTTPStatus.OK:
        kind = ConnectionError if response.status == HTTPStatus.SERVICE_UNAVAILABLE else LookupError  # retried, or not
        raise kind(f"{response.status} {response.reason}")
    return Html(link.section, link.url, text)


def parse(html: Html) -> Page:
    """What is in a page, its links as whole addresses without fragments."""
    parser = Parser()
    parser.feed(html.text)
    parser.close()
    links = [Link(html.section, urldefrag(urljoin(html.url, link)).url) for link in parser.links]
    return Page(html.section, html.url, parser.title, parser.words, links)


def links(page: Page) -> list[Link]:
    """Where the crawl may go on."""
    return page.links


def inside(link: Link) -> bool:
    """Whether a link stays in its section."""
    return link.url.startswith(link.section)


def entry(page: Page) -> Entry:
    """The line of a page in the index."""
    line, near = {"url": page.url, "title": page.title, "words": page.words}, sum(map(inside, page.links))
    return {**line, "inside": near, "outside": len(page.links) - near}


def index(family: Family) -> Entry:
    """The entry of a section: of all that came of it, whatever came first."""
    again = Counter(leaf.task.url for leaf in family.leaves if leaf.status == "duplicate")
    found: dict[str, list[Entry]] = {"success": [], "error": [], "duplicate": []}
    for leaf in sorted(family.leaves, key=lambda leaf: leaf.task.url):
        line = leaf.value or {"url": leaf.task.url, "error": str(leaf.error)}
        found[leaf.status].append({**line, "reached": 1 + again[leaf.task.url]})
    return {"section": family.root.task, "pages": found["success"], "broken": found["error"]}


def crawl(port: int, sections: list[str], workers: int) -> tuple[list[Entry], RunSummary, str]:
    """The index of the site, the account of the run, and its drawing."""
    starting = TaskManager(first_page, name="sections")
    setup, delays = partial(connection, port), Backoff(initial=0.02)
    fetching = TaskManager(fetch, "thread", workers, max_retries=5, worker_setup=setup, backoff=delays)
    parsing = TaskManager(parse, "process")
    making_entries, following = TaskManager(entry), TaskManager(links)
    indexing = TaskManager(index, enable_success_cache=True)

    graph = TaskGraph("site_index", show_progress=True)
    graph.connect(starting, fetching)
    graph.connect(fetching, parsing)
    graph.connect(parsing, [making_entries, following])
    graph.connect(following, fetching, each=True, when=inside)
    graph.connect(starting, indexing, gather=True)
    summary = graph.start({starting: sections})
    entries = sorted(indexing.get_success_dict().values(), key=lambda entry: entry["section"])
    return entries, summary, graph.to_mermaid()


def account(site: Site, index: list[Entry], summary: RunSummary, answers: dict[str, int]) -> dict[str, list[int]]:
    """What has been counted at several places, and has to be the same at all of them."""
    _, fetch, parse, *_ = summary.stages
    pages, broken = ([line for entry in index for line in entry[kind]] for kind in ("pages", "broken"))
    return {
        "sections on the site and indexed": [len(site.sections), len(index)],
        "pages on the site and served": [len(site.pages), answers["200"]],
        "pages served, fetched, parsed and indexed": [answers["200"], fetch.succeeded, parse.succeeded, len(pages)],
        "broken links served, fetched, in all and indexed": [answers["404"], fetch.failed, summary.failed, len(broken)],
        "links taken by fetch and indexed": [fetch.total, sum(line["reached"] for line in pages + broken)],
        "busy answers served and retried": [answers["503"], fetch.retries],
    }


def main() -> None:
    """Crawl, write the index, print the account, and exit with 1 if anything disagrees."""
    parser = options_of_site("Index a site that is made up from a seed.")
    parser.add_argument("--workers", type=int, default=8, help="how many pages to fetch at a time")
    parser.add_argument("--output", type=Path, default="site_index.json", help="where the index goes")
    options = parser.parse_args()

    site = Site(options.sections, options.pages, options.seed)
    with serving(site) as (port, answers):
        index, summary, drawing = crawl(port, site.sections, options.workers)
    options.output.write_text(json.dumps(index, indent=1) + "\n")
    print(summary, drawing, sep="\n")
    counted = account(site, index, summary, answers)
    for what, figures in counted.items():
        print(f"{what}: {', '.join(map(str, figures))}")
    wrong = [what for what, figures in counted.items() if len({*figures}) > 1]
    if wrong or index != site.index():
        raise SystemExit(f"The index is not the one that follows from the seed. These disagree: {wrong}")
    print(f"{options.output} is the index that follows from the seed.")


if __name__ == "__main__":
    main()
