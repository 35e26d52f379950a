"""Runs what the documentation shows: every fenced block of README.md, of the pages under docs/, and of the plugins'.

- ``python`` blocks of a page run one after the other in one namespace, as one script would, in a folder of their own.
  Afterwards no thread, process or descriptor may be left.
- ``text output`` is what the blocks above it have printed, durations and places aside.
- ``console`` blocks are commands behind "$", with what they print. "..." stands for anything, as a line for any lines.
- ``<!-- invisible-code-block: python`` begins code that is run and not shown, up to ``-->``: a server for an example.
- A block that cannot run is skipped by a comment that says why: ``<!-- skip: next "reason" -->``.

It also leaves out the long proofs, of the core and of the plugins, which are marked ``soak``: ``pytest -m soak``.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing.resource_tracker
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import joblib.externals.loky.backend.resource_tracker as joblib_tracker
import loky.backend.resource_tracker
import pytest
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, SkipParser

from celestialflow_core.testing import Resources

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Shells start what runs in the background with SIGINT ignored, and children inherit that: no Ctrl-C would arrive.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the long proofs, unless the marker expression speaks of them."""
    if "soak" in (config.option.markexpr or ""):
        return
    soak = [item for item in items if item.get_closest_marker("soak")]
    if soak:
        config.hook.pytest_deselected(items=soak)
        items[:] = [item for item in items if not item.get_closest_marker("soak")]


CHANGES = {
    re.compile(r"\b\d+\.\d+ s\b"): "# s",  # a duration
    re.compile(r"\S*\.(?:py|md):\d+"): "file:#",  # where a block is, for itself and for a script that it would be in
    re.compile(r"(?<=Slowest:\n)(?:  .*\n?)+"): "",  # which tasks were
    re.compile(r"\b(thread|process)-\d+"): r"\1-#",  # which worker it was
    re.compile(r" +"): " ",  # how wide a column is
}
"""What differs from run to run and from machine to machine, and what stands for it in a comparison."""


def run_python(example: Example) -> None:
    """Run a block, and keep what it prints for the output block that may follow."""
    source = "\n" * (example.line + example.parsed.line_offset) + example.parsed
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        try:
            exec(compile(source, example.path, "exec", dont_inherit=True), example.namespace)
        finally:
            example.namespace["_printed"] += printed.getvalue()


def check_output(example: Example) -> None:
    """Compare an output block with what has been printed since the last one."""
    compare(example.namespace["_printed"], example.parsed)
    example.namespace["_printed"] = ""


def run_console(example: Example) -> None:
    """Run the commands of a block, with the scripts of this environment in front."""
    scripts = os.path.dirname(sys.executable)
    environ = {**os.environ, "PATH": os.pathsep.join([scripts, os.environ.get("PATH", os.defpath)]), "COLUMNS": "100"}
    for part in re.split(r"^\$ ", example.parsed, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        done = subprocess.run(
            command, shell=True, env=environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
        compare(done.stdout, expected)


def compare(actual: str, shown: str) -> None:
    """Fail unless *actual* is what the page shows."""
    pattern = ""
    for line in lines_of(shown):
        parts = [re.escape(part) for part in line.split("...")]
        pattern += r"(?:.*\n)*?" if line == "..." else ".*".join(parts) + r"\n"
    if not re.fullmatch(pattern, "".join(f"{line}\n" for line in lines_of(actual))):
        pytest.fail(f"The page shows:\n{shown.strip()}\n\nIt is:\n{actual.strip()}", pytrace=False)


def lines_of(text: str) -> list[str]:
    """The lines of *text*, without what differs from run to run."""
    for change, replacement in CHANGES.items():
        text = change.sub(replacement, text)
    return [line.rstrip() for line in text.strip().splitlines()]


def set_up(namespace: dict[str, Any]) -> None:
    """Give a page a folder and the name that a script has."""
    for tracker in (multiprocessing.resource_tracker, loky.backend.resource_tracker, joblib_tracker):
        tracker.ensure_running()  # one a process, for good: it is not the page that leaves it
    stack = contextlib.ExitStack()
    stack.callback(Resources().expect_no_leaks)
    stack.enter_context(contextlib.chdir(stack.enter_context(tempfile.TemporaryDirectory())))
    namespace.update(__name__="__main__", _page=stack, _printed="")


def tear_down(namespace: dict[str, Any]) -> None:
    """Leave the folder, and look for what is left."""
    stack: contextlib.ExitStack = namespace["_page"]
    namespace.clear()
    stack.close()


pytest_collect_file = Sybil(
    parsers=[
        SkipParser(),
        CodeBlockParser("python", run_python),
        CodeBlockParser("text output", check_output),
        CodeBlockParser("console", run_console),
    ],
    pattern="*.md",
    setup=set_up,
    teardown=tear_down,
    path=str(Path(__file__).parent),
).pytest()
