"""Runs what the documentation shows: every fenced block of README.md and of the pages under docs/.

 - ``python`` blocks of a page run one after the other in one namespace, as one script would, in a folder of their own.
   Afterwards no thread, process or descriptor may be left.
 - ``text output`` is what the blocks above it have printed, durations aside.
 - ``console`` blocks are commands behind "$", with what they print. A line of "..." stands for any lines.
 - A block that cannot run is skipped by a comment that says why: ``<!-- skip: next "reason" -->``.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, SkipParser

from celestialflow_core.testing import Resources

DURATION = re.compile(r"\d+\.\d+ s\b")


def run_python(example: Example) -> None:
    """Run a block, and keep what it prints for the output block that may follow."""
    source = "\n" * (example.line + example.parsed.line_offset) + example.parsed
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        try:
            exec(compile(source, example.path, "exec", dont_inherit=True), example.namespace)
        finally:
            example.document.printed = getattr(example.document, "printed", "") + printed.getvalue()


def check_output(example: Example) -> None:
    """Compare an output block with what has been printed since the last one."""
    printed, example.document.printed = getattr(example.document, "printed", ""), ""
    compare(printed, example.parsed)


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
    pattern = re.escape(DURATION.sub("# s", shown.strip()))
    pattern = re.sub(r"^\\\.\\\.\\\.\n?", r"(?:.*\\n?)*?", pattern, flags=re.MULTILINE)
    text = "\n".join(line.rstrip() for line in DURATION.sub("# s", actual).strip().splitlines())
    if not re.fullmatch(pattern, text):
        pytest.fail(f"The page shows:\n{shown.strip()}\n\nIt is:\n{actual.strip()}", pytrace=False)


def set_up(namespace: dict[str, Any]) -> None:
    """Give a page a folder and the name that a script has."""
    stack = contextlib.ExitStack()
    before = Resources()
    stack.callback(lambda: before.expect_no_leaks(lambda leak: "loky" in leak.lower() or "resource_tracker" in leak))
    stack.enter_context(contextlib.chdir(stack.enter_context(tempfile.TemporaryDirectory())))
    namespace.update(__name__="__main__", _page=stack)


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
