"""The documentation as a whole: its links lead somewhere, its blocks are run, its reference leaves nothing out."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import attrs
import click
import pytest

from celestialflow_core import (
    Counts,
    ErrorGroup,
    Family,
    GraphStatus,
    Outcome,
    RunSummary,
    StageStatus,
    TaskGraph,
    TaskManager,
    errors,
    executors,
    sinks,
    testing,
)
from celestialflow_core._cli.main import CORE, command_line
from celestialflow_core._manager.options import ManagerOptions, Options
from celestialflow_core._outcome import SlowTask
from celestialflow_core.plugins import switches
from celestialflow_core.sinks import files
from celestialflow_core.testing import fixtures

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("plugins/*/*.md")])
FENCE = re.compile(r"^```(.*)\n((?:.*\n)*?)```$", re.MULTILINE)
SKIP = re.compile(r'<!-- skip: next "[^"]+" -->\n\n$')
RUN = {"python", "console", "text output"}

every_page = pytest.mark.parametrize("page", PAGES, ids=[page.relative_to(ROOT).as_posix() for page in PAGES])


def text_of(page: str) -> str:
    """A page of the documentation, by its path."""
    return (ROOT / page).read_text(encoding="utf-8")


def section(page: str, heading: str) -> str:
    """The text of a page between one heading and the next."""
    _, found, rest = text_of(page).partition(f"\n## {heading}\n")
    assert found, f"{page} has no heading {heading!r}."
    return re.split(r"(?m)^#+ ", rest)[0]


def rows(text: str) -> dict[str, str]:
    """The tables of a text: for each name in code in a first cell, its row."""
    found = {}
    for line in text.splitlines():
        if line.startswith("| `"):
            for name in re.findall(r"`(?:await )?(\w+)[^`]*`", line.split(" | ")[0]):
                found[name] = line
    return found


def check_defaults(table: dict[str, str], defaults: dict[str, object]) -> None:
    """Compare the second cells of a table with what the code says."""
    for name, default in defaults.items():
        assert name in table, f"The page does not have {name}."
        if isinstance(default, bool | int | float | str | None):
            shown = repr(default).replace("'", '"')
            cell = table[name].split(" | ")[1].strip("` ")
            assert cell == shown, f"{name} is {shown} by default, not {cell}."


@every_page
def test_relative_links_lead_to_files_and_headings(page: Path) -> None:
    """What a page links to is there, heading included."""
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"https?://|mailto:", target):
            continue
        path, _, heading = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{page.name} links to {target}, which is not there."
        if heading:
            headings = re.findall(r"(?m)^#+ (.*)$", linked.read_text(encoding="utf-8"))
            anchors = {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}
            assert heading in anchors, f"{page.name} links to {target}, which has no such heading."


@every_page
def test_blocks_are_run_or_say_why_not(page: Path) -> None:
    """Every block is of a kind that the tests run, or is a picture or a table of settings; no fence is left open."""
    text = page.read_text(encoding="utf-8")
    assert len(re.findall(r"(?m)^```", text)) == 2 * len(FENCE.findall(text))
    for language, code in FENCE.findall(text):
        assert language in RUN | {"text", "toml"}, f"{page.name} has a block of kind {language!r}, which nothing runs."
        if language == "toml":
            tomllib.loads(code)
    outside = [page for page in PAGES if page.parent == ROOT and page.name != "README.md"]
    if page in outside:
        for match in FENCE.finditer(text):
            assert match[1] not in RUN or SKIP.search(text[: match.start()]), f"No test collects {page.name}."


@every_page
def test_tables_say_nothing_twice(page: Path) -> None:
    """No row is there twice in one table."""
    for part in re.split(r"\n(?!\|)", FENCE.sub("", page.read_text(encoding="utf-8"))):
        table = [line for line in part.splitlines() if line.startswith("| `")]
        assert sorted(set(table)) == sorted(table)


@every_page
def test_pages_can_be_reached_from_the_readme(page: Path) -> None:
    """Whoever starts at README.md finds every page."""
    seen: set[Path] = set()
    todo = [ROOT / "README.md"]
    while todo:
        current = todo.pop()
        if current.is_dir():
            todo += current.glob("*.md")
        if current in seen or current.suffix != ".md":
            continue
        seen.add(current)
        links = re.findall(r"\]\(([^)\s#]+)[^)]*\)", current.read_text(encoding="utf-8"))
        todo += [(current.parent / link).resolve() for link in links if "://" not in link]
    assert page in seen


def test_readme_has_the_two_commands_as_they_are_promised() -> None:
    """To see it work and to test it: one line each."""
    blocks = [code for language, code in FENCE.findall(text_of("README.md")) if language == "console"]
    assert any(
        block.startswith("$ python -m pip install uv && python -m uv run celestialflow run examples/stdlib_census.py:")
        and block.endswith("--store census.db --resume\n")
        for block in blocks
    )
    assert "$ python -m pip install uv && python -m uv run pytest\n" in blocks


def test_task_manager_page_has_every_argument_with_its_default() -> None:
    """The tables name every argument and option, and the defaults are those of the code."""
    table = rows(text_of("docs/reference/task-manager.md"))
    parameters = inspect.signature(TaskManager.__init__).parameters
    defaults = {name: one.default for name, one in parameters.items() if name not in ("self", "func", "options")}
    defaults |= {one.name: one.default for one in attrs.fields(Options) if one.name in ManagerOptions.__annotations__}
    for name in [*defaults, *ManagerOptions.__annotations__, "func"]:
        assert name in table, f"docs/reference/task-manager.md does not have {name}."
    check_defaults(table, defaults)


def test_task_manager_page_has_every_public_name() -> None:
    """No method or attribute is left out."""
    text = text_of("docs/reference/task-manager.md")
    names = [name for name in vars(TaskManager) if not name.startswith("_")]
    assert [name for name in names if not re.search(rf"`(?:await )?{name}\b", text)] == []


def test_task_graph_page_has_every_argument_with_its_default() -> None:
    """The tables have the options of a graph and the arguments of connect, no others, with the defaults of the code."""
    page = "docs/reference/task-graph.md"
    options = inspect.signature(TaskGraph.__init__).parameters
    arguments = inspect.signature(TaskGraph.connect).parameters
    for heading, parameters in (("Arguments and options", options), ("Connecting", arguments)):
        table = rows(section(page, heading))
        defaults = {name: one.default for name, one in parameters.items() if name != "self"}
        check_defaults(table, defaults)
        assert [name for name in table if name not in defaults and not hasattr(TaskGraph, name)] == []


def test_task_graph_page_has_every_public_name() -> None:
    """Every method and attribute of a graph, and every field of what it gives, is in the table where it belongs."""
    page = "docs/reference/task-graph.md"
    tables = {name: rows(section(page, name)) for name in ("Connecting", "Running", "Seeing it")}
    names = {name for name in vars(TaskGraph) if not name.startswith("_")} - {"connect"}
    assert names - {name for table in tables.values() for name in table} == set()
    for kind in (Family, GraphStatus, StageStatus):
        fields = [field.name for field in attrs.fields(kind)]
        assert list(rows(section(page, kind.__name__))) == fields


def test_outcome_page_has_every_field() -> None:
    """Outcome, RunSummary, Counts, ErrorGroup and SlowTask, whole."""
    text = text_of("docs/reference/outcome-and-summary.md")
    for kind in (Outcome, RunSummary, Counts, ErrorGroup, SlowTask):
        names = {field.name for field in attrs.fields(kind)} | {name for name in vars(kind) if not name.startswith("_")}
        assert [name for name in names if f"`{name}" not in text] == [], kind


def test_tables_of_counts_and_summary_have_every_field() -> None:
    """Each in its own table, since they share names."""
    for kind in (Outcome, RunSummary, Counts):
        names = {field.name for field in attrs.fields(kind)}
        table = section("docs/reference/outcome-and-summary.md", kind.__name__)
        assert {name for name in names if f"`{name}`" not in table} == set(), kind


def test_plugin_authors_page_has_every_public_name() -> None:
    """Each name of the modules for authors is in the table of its module, and nothing else is."""
    page = "docs/reference/plugin-authors.md"
    for module in (executors, sinks, testing):
        lines = section(page, module.__name__).splitlines()
        cells = [line.split(" | ")[0] for line in lines if line.startswith("| `")]
        assert sorted(re.findall(r"`(\w+)`", " ".join(cells))) == sorted(module.__all__)
    for module in (files, fixtures):
        assert all(f"`{name}`" in text_of(page) for name in module.__all__)


def test_errors_page_has_every_class_with_its_parts() -> None:
    """Each class that errors.py exports is there, with the attributes that its constructor sets."""
    text, table = text_of("docs/reference/errors.md"), rows(text_of("docs/reference/errors.md"))
    for name in errors.__all__:
        assert f"`{name}`" in text
        constructor = vars(getattr(errors, name)).get("__init__")
        for part in list(inspect.signature(constructor).parameters)[1:] if constructor else ():
            assert f"`{part}`" in table[name]


def test_environment_page_has_every_variable() -> None:
    """The variables that the package reads are those that the page lists."""
    read = set(re.findall(r'"(CELESTIALFLOW_\w+)"', inspect.getsource(switches)))
    assert read == set(rows(text_of("docs/reference/environment.md")))


def test_command_line_page_has_every_command_and_option() -> None:
    """Each command of the core, and each of its options."""
    text = text_of("docs/reference/command-line.md")
    group = command_line()
    for name in CORE:
        _, heading, section = text.partition(f"## celestialflow {name}\n")
        assert heading
        command = group.get_command(click.Context(group), name)
        assert command is not None
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert re.search(rf"^  .*{parameter.opts[-1]}\b", section, re.MULTILINE), parameter.opts


def blocks_of(page: str, language: str, *parts: str) -> list[str]:
    """For each of *parts* the one block of *language* on a page that has it."""
    found = []
    for part in parts:
        (block,) = (code for kind, code in FENCE.findall(text_of(page)) if kind == language and part in code)
        found.append(block)
    return found


def install(folder: Path, settings: str) -> None:
    """Make *folder* a place where a distribution with the entry point in *settings*, as TOML, is installed."""
    ((name, value),) = tomllib.loads(settings)["project"]["entry-points"]["celestialflow"].items()
    info = folder / f"{value}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {value}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[celestialflow]\n{name} = {value}\n")


def check_with_pytest(folder: Path, test: str) -> None:
    """Run the text *test* as a test file, with what is in *folder*."""
    (folder / "test_page.py").write_text(test)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "--rootdir", ".", "."],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, sys.path)])},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


def test_written_executor_passes_the_contract(tmp_path: Path) -> None:
    """The executor of the how-to passes the suite with the test file of the how-to."""
    module, test = blocks_of(
        "docs/how-to/write-an-executor.md", "python", "class DedicatedThread:", "(ExecutorContract)"
    )
    (tmp_path / "dedicated.py").write_text(module)

    check_with_pytest(tmp_path, test)


def test_written_store_passes_the_contracts(tmp_path: Path) -> None:
    """The store of the how-to, installed by the entry point of the how-to, passes the test file of the how-to."""
    page = "docs/how-to/write-a-sink.md"
    store, plugin, test = blocks_of(page, "python", "class FolderStore:", "def make_store(url):", "(SinkContract)")
    (tmp_path / "celestialflow_folder.py").write_text(f"{store}\n{plugin}")
    install(tmp_path, *blocks_of(page, "toml", "entry-points"))

    check_with_pytest(tmp_path, test)


def test_published_plugin_passes_the_contract(tmp_path: Path) -> None:
    """The module of the how-to, with the executor of the other how-to, passes the test file of the how-to."""
    page = "docs/how-to/publish-a-plugin.md"
    module, test = blocks_of(page, "python", "def make_dedicated", "(PluginContract)")
    package = tmp_path / "celestialflow_dedicated"
    package.mkdir()
    (package / "__init__.py").write_text(module)
    (executor,) = blocks_of("docs/how-to/write-an-executor.md", "python", "class DedicatedThread:")
    (package / "executor.py").write_text(executor)
    install(tmp_path, *blocks_of(page, "toml", "entry-points"))

    check_with_pytest(tmp_path, test)
