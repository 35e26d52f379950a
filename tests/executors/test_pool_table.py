"""What the documentation says of each pool holds: a test a cell, and a test that page and tests say the same."""

from __future__ import annotations

import multiprocessing.resource_tracker
import re

import pytest
from loky.backend import resource_tracker
from tests.executors.pool_checks import CHECKS, POOLS, QUESTIONS, ROOT, TABLE, in_own_interpreter

CELLS = [(pool, question) for pool in TABLE for question in QUESTIONS]


@pytest.fixture(scope="module", autouse=True)
def _trackers() -> None:
    """Starts what multiprocessing and loky keep for the life of the program, before anybody looks for leaks."""
    multiprocessing.resource_tracker.ensure_running()
    resource_tracker.ensure_running()


@pytest.mark.parametrize(("pool", "question"), CELLS, ids=[f"{pool}: {question}" for pool, question in CELLS])
def test_cell_holds(pool: str, question: str) -> None:
    """What the table says of this pool is so."""
    if pool == "mpi4py":
        done = in_own_interpreter(POOLS[pool], question)
        assert done.returncode == 0, done.stderr
    else:
        CHECKS[question, TABLE[pool][question]](POOLS[pool])


def test_page_has_the_table() -> None:
    """Question by question and pool by pool, the page has the cells that are tested, and no others."""
    text = (ROOT / "docs/how-to/bring-your-own-pool.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"(?m)^\|.*\|$", text)]
    expected = [
        ["", *TABLE],
        ["---"] * (1 + len(TABLE)),
        *([question, *(answers[question] for answers in TABLE.values())] for question in QUESTIONS),
    ]
    assert rows == expected, "The table is:\n" + "\n".join(f"| {' | '.join(row)} |" for row in expected)
