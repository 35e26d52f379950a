"""Full disks and folders that cannot be written to lose nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from celestialflow_arrow import ParquetStore
from celestialflow_core import SinkError
from celestialflow_core.sinks import Manifest

FULL = """
import sys
from celestialflow_core import SinkError, TaskManager
from celestialflow_arrow import ParquetStore
import random, shutil

def work(task):
    return random.Random(task).randbytes(2000).hex()

kept = []
manager = TaskManager(work, sinks=["parquet:disk/results/?rows=100"], log_dir=None, log_level="ERROR")
try:
    for outcome in manager.stream(range(10_000)):
        kept.append(outcome.task)
except SinkError as error:
    print(error)
    assert {outcome.task for outcome in error.unwritten}.isdisjoint(kept)
with ParquetStore("parquet:disk/results").reader() as reader:
    stored = [int(row.task) for row in reader.rows()]
assert len(stored) == len(set(stored)) and set(kept) <= set(stored), (kept, stored)
# Somewhere with room it goes on, and what had been accepted does not run again.
shutil.copytree("disk/results", "elsewhere", ignore=shutil.ignore_patterns("*.lock"))
again = TaskManager(work, name="work", sinks=["parquet:elsewhere"], resume=True, log_dir=None, log_level="ERROR")
summary = again.start(range(len(stored) + 10))
assert (summary.restored, summary.succeeded) == (len(stored), 10) or set(stored) != set(range(len(stored))), summary
print(len(stored))
"""


def on_disk(options: str, script: str) -> subprocess.CompletedProcess[str]:
    """Run *script* where "disk" is a file system with these *options*."""
    unshare = shutil.which("unshare")
    prefix = [unshare or "unshare", "--mount", *(() if os.geteuid() == 0 else ("--map-root-user",))]
    mount = f"mount -t tmpfs -o {options} none disk"
    if not unshare or subprocess.run([*prefix, "sh", "-c", mount], capture_output=True, check=False).returncode:
        pytest.skip("this system does not let us mount anything")
    Path("script.py").write_text(script)
    return subprocess.run(
        [*prefix, "sh", "-c", f"{mount} && exec {sys.executable} script.py"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("size", ["200k", "1m", "3m"])
def test_full_disk_ends_the_run_and_loses_nothing(own_folder: Path, size: str) -> None:
    """In a journal or in a part: a SinkError that says it; all that came out of the run is stored."""
    (own_folder / "disk").mkdir()
    done = on_disk(f"size={size}", FULL)
    assert done.returncode == 0, done.stderr
    assert "No space left on device" in done.stdout
    assert "Give a" in done.stdout
    assert int(done.stdout.split()[-1]) > 0


def test_read_only_folder_is_refused(own_folder: Path) -> None:
    """Before any task has run."""
    (own_folder / "disk").mkdir()
    script = (
        "from celestialflow_core import TaskManager, SinkError\n"
        "for url in ('parquet:disk/results', 'parquet:disk'):\n"
        "    try:\n"
        "        TaskManager(print, sinks=[url], log_dir=None, log_level='ERROR').start([1])\n"
        "    except SinkError as error:\n"
        "        print(error)\n"
    )
    done = on_disk("ro", script)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert "Read-only file system" in first
    assert "Read-only file system" in second
    assert "cannot be written" in second


def test_part_that_cannot_be_made_is_made_later(
    opened: Callable[..., ParquetStore], outcomes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch that came next is not accepted, and said to be so; what was in the journal stays there until it can."""
    store = opened("parquet:results/?rows=2")
    store.write(outcomes.all(range(2)))
    (Path("results") / "_part-000001.parquet.tmp").mkdir()  # so no file of that name can be made
    with pytest.raises(SinkError) as caught:
        store.write(outcomes.all(range(2, 5)))
    assert len(caught.value.unwritten) == 3
    with pytest.raises(SinkError):
        store.close(None)
    with store.reader() as reader:
        assert reader.count() == 2

    (Path("results") / "_part-000001.parquet.tmp").rmdir()
    again = opened()
    assert len(again.restore([outcomes.key(task) for task in range(5)])) == 2


def test_missing_folder_is_said(own_folder: Path) -> None:
    """One folder is made; that in which it shall be must be there. A file is no folder."""
    Path("file").touch()
    for url, said in (("parquet:no/results", "does not exist. Make it"), ("parquet:file", "is no folder")):
        store = ParquetStore(url)
        with pytest.raises(SinkError, match=said):
            store.open(Manifest(name="w", stages=()))
        store.close(None)
