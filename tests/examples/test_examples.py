"""The examples, run as a user runs them, with warnings as errors."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest

from celestialflow_core import Outcome, RunSummary

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run an example in *folder*."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=False)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> dict[str, subprocess.CompletedProcess[str]]:
    """The examples that take their time, run beside each other."""
    names = ["stdlib_census.py", "crawl.py"]
    with ThreadPoolExecutor() as pool:
        folders = [tmp_path_factory.mktemp("example") for _ in names]
        return dict(zip(names, pool.map(run, names, folders), strict=True))


def number(pattern: str, text: str) -> list[int]:
    """The numbers of the one place where *pattern* is."""
    found = re.findall(pattern, text)
    assert len(found) == 1, f"{pattern!r} is {len(found)} times in:\n{text}"
    groups = found[0] if isinstance(found[0], tuple) else found
    return [int(group) for group in groups]


def test_census_accounts_for_every_file(done: dict[str, subprocess.CompletedProcess[str]]) -> None:
    """It goes through the whole library, and its summary, its totals and its bar agree."""
    census = done["stdlib_census.py"]
    assert census.returncode == 0, census.stderr
    total, parsed, failed = number(r"take_census: (\d+) tasks in [\d.]+ s: (\d+) ok, (\d+) failed\.", census.stdout)
    assert total == parsed + failed
    assert number(r"adds up: (\d+) files, (\d+) parsed, (\d+) cannot be", census.stdout) == [total, parsed, failed]
    assert number(r"Parsing: (\d+) of (\d+) tasks", census.stderr) == [total, total]
    assert number(r"Functions: (\d+)", census.stdout)[0] > total
    assert number(r"Classes: (\d+)", census.stdout)[0] > total
    assert number(r"Deepest nesting: (\d+)", census.stdout)[0] >= 3
    slowest = census.stdout.partition("Slowest:\n")[2].splitlines()[:5]
    assert all(re.fullmatch(r"  \d+\.\d{3} s '.+\.py'", line) for line in slowest)
    # A Python may come without its own tests, among which are the files that are broken on purpose.
    assert ("SyntaxError" in census.stdout) == (failed > 0)


def test_crawl_agrees_with_the_disk_in_both_modes(done: dict[str, subprocess.CompletedProcess[str]]) -> None:
    """Every page comes as it is, one is not there, and there were retries, in the same number in both modes."""
    crawl = done["crawl.py"]
    assert crawl.returncode == 0, crawl.stderr
    (pages,) = number(r"agree with the disk: (\d+) files each, and 1 page that is not there", crawl.stdout)
    for name in ("fetch", "fetch_async"):
        pattern = rf"(?m)^{name}: (\d+) tasks in [\d.]+ s: (\d+) ok, (\d+) failed, (\d+) retries\."
        total, fetched, failed, retries = number(pattern, crawl.stdout)
        assert (total, fetched, failed) == (pages + 1, pages, 1)
        assert retries > 0


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """An example as a module."""
    monkeypatch.syspath_prepend(EXAMPLES)
    specification = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, name, module)
    specification.loader.exec_module(module)
    return module


def test_crawl_complains_of_what_disagrees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong byte, a lost outcome, an attempt too many: the check of the example sees each of them."""
    crawl = load("crawl", monkeypatch)
    monkeypatch.setattr(crawl, "LIBRARY", tmp_path)
    (tmp_path / "one.py").write_bytes(b"1")
    paths = ["one.py", crawl.MISSING]
    right = Outcome(0, "one.py", "success", crawl.sha256(b"1").hexdigest(), attempts=2)
    wrong = Outcome(0, "one.py", "success", crawl.sha256(b"2").hexdigest(), attempts=2)
    missing: Outcome[str, str] = Outcome(1, crawl.MISSING, "error", error=crawl.Refused(404, None), attempts=1)
    summary = RunSummary(total=2, succeeded=1, failed=1, retries=1)
    asked = Counter({"one.py": 2, crawl.MISSING: 1})

    def complaints(outcomes: list[Outcome[str, str]], summary: RunSummary | None, asked: Counter[str]) -> list[str]:
        return list(crawl.complaints(outcomes, summary, asked, paths))

    assert complaints([right, missing], summary, asked) == []
    assert len(complaints([wrong, missing], summary, asked)) == 1
    assert complaints([missing], summary, asked)
    assert complaints([right, missing], None, asked)
    assert len(complaints([right, missing], summary, asked + Counter(["one.py"]))) == 2


def test_site_index_is_the_same_whatever_comes_first(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Two crawls, one with three connections and one with eight: one index to the byte, which is that of the seed."""
    workers = ["8", "3"]
    folders = [tmp_path_factory.mktemp("example") for _ in workers]
    with ThreadPoolExecutor() as pool:
        crawls = list(pool.map(lambda *given: run("site_index.py", given[0], "--workers", given[1]), folders, workers))
    for crawl in crawls:
        assert crawl.returncode == 0, crawl.stderr
        pages = number(r"pages served, fetched, parsed and indexed: (\d+), (\d+), (\d+), (\d+)", crawl.stdout)
        assert len(set(pages)) == 1
        assert pages[0] >= 5_000
        assert number(r"site_index: (\d+) tasks in", crawl.stdout)[0] > 5 * pages[0]
        served, retries = number(r"busy answers served and retried: (\d+), (\d+)", crawl.stdout)
        assert served == retries > 0
        assert number(r"broken links served, fetched, in all and indexed: (\d+),", crawl.stdout)[0] > 0
    first, second = ((folder / "site_index.json").read_bytes() for folder in folders)
    assert first == second


def test_site_index_complains_of_a_lost_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the graph loses, or counts twice, is seen in the end, and nothing is left of the server."""
    site_index = load("site_index", monkeypatch)
    monkeypatch.setattr(sys, "argv", ["site_index.py", "--sections", "2", "--pages", "9"])
    monkeypatch.setattr(site_index, "inside", lambda link: not link.url.endswith(("page-3.html", "page-4.html")))
    with pytest.raises(SystemExit, match="pages on the site and served"):
        site_index.main()


def test_made_up_site_follows_from_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same seed makes the same pages, another one makes others, and every section has what a crawler fears."""
    made_up_site = load("made_up_site", monkeypatch)
    site = made_up_site.Site(26, 200, 1)
    assert len(site.pages) == 5_200
    assert site.pages == made_up_site.Site(26, 200, 1).pages
    assert site.pages != made_up_site.Site(26, 200, 2).pages
    links = [link for page in site.pages.values() for link in page.links]
    assert any("#" in link.written for link in links)
    assert any(link.written.startswith("../") for link in links)
    assert any(link.url not in site.pages for link in links)
    assert any(len(set(page.links)) < len(page.links) for page in site.pages.values())
