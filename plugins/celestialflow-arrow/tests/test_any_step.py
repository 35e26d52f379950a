"""Killed at any step: the folder is copied before each change to it, as a kill would leave it, and gone on from."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from celestialflow_arrow import ParquetStore

_watched: list[Any] = []
"""The one that is told of changes; an audit hook cannot be taken away."""
_WRITES = ("w", "a", "x", "+")


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watched:
        return
    is_change = event in ("os.rename", "os.remove", "os.truncate", "os.mkdir")
    if is_change or (event == "open" and (arguments[1] is None or any(letter in arguments[1] for letter in _WRITES))):
        _watched[-1](event, str(arguments[0]))


@contextmanager
def copied_at_each_step(folder: Path, copies: list[tuple[Path, str, set[int]]], accepted: set[int]) -> Iterator[None]:
    """Copy *folder* whenever it is about to be changed, and note what had been accepted by then."""

    def copy(event: str, path: str) -> None:
        if not path.startswith(str(folder)) or not folder.exists():
            return
        watched = _watched.pop()
        target = folder.parent / f"killed-{len(copies)}"
        shutil.copytree(folder, target, ignore=shutil.ignore_patterns("*.lock"))
        copies.append((target, f"{event} {path}", set(accepted)))
        _watched.append(watched)

    if not _watched:
        sys.addaudithook(_audit)
    _watched.append(copy)
    try:
        yield
    finally:
        _watched.clear()


def in_parts(folder: Path) -> list[int]:
    """The tasks in the part files, as somebody reads them who knows nothing of us."""
    return sorted(
        int(task) for part in folder.glob("*.parquet") for task in pq.read_table(part).column("task").to_pylist()
    )


@pytest.mark.filterwarnings("ignore:.*last line was incomplete")
def test_kill_at_any_step_loses_and_doubles_nothing(own_folder: Path, outcomes: Any) -> None:
    """Three runs, whose parts are made, joined, and written anew without rows that were replaced."""
    folder = own_folder / "results"
    copies: list[tuple[Path, str, set[int]]] = []
    accepted: set[int] = set()
    with copied_at_each_step(folder, copies, accepted):
        for rows, tasks in ((2, range(7)), (3, range(5, 12)), (4, range(2, 14))):
            store = ParquetStore(f"parquet:{folder}?rows={rows}")
            store.open(outcomes.run)
            for task in tasks:
                store.write([outcomes.success(task, task)])
                accepted.add(task)
            store.close(None)
    assert in_parts(folder) == list(range(14))
    assert len(copies) > 50
    assert {step.split()[0] for _, step, _ in copies} >= {"open", "os.rename", "os.remove"}

    for killed, step, known in copies:
        store = ParquetStore(f"parquet:{killed}")
        store.open(outcomes.run)
        found = {record.value for record in store.restore([outcomes.key(task) for task in range(20)]).values()}
        assert known <= found, f"Lost before {step}."
        with store.reader() as reader:
            assert sorted(int(row.task) for row in reader.rows()) == sorted(found), step
        store.write([outcomes.success(task, task) for task in range(14) if task not in found])
        store.close(None)
        assert in_parts(killed) == list(range(14)), f"After a kill before {step}."
