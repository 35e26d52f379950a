"""`SinkContract` finds out what a sink does wrong: each fault of a store, put into a good one, fails its test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

STORE = '''
import fcntl, os, pickle
from celestialflow_core import hookimpl
from celestialflow_core.errors import SinkError
from celestialflow_core.sinks import Record, record_of, rows_of

FAULT = os.environ.get("FAULT", "")


class FileStore:
    """Rows as pickles in a file, all of them in memory: small, and right, but for FAULT."""

    def __init__(self, url):
        self.path = os.path.abspath(url.partition(":")[2])
        self.file = None

    def open(self, run):
        file = open(self.path, "ab+")
        try:
            try:
                if FAULT != "shares":
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = open(self.path + ".pid").read()
                raise SinkError("x", f"It is in use by {holder}. Give another.") from None
            self.rows = {}
            file.seek(0)
            here = (run.name, run.version if FAULT != "any version" else "", run.keys)
            self.whole = 0
            self.there = []
            while True:
                try:
                    entry = pickle.load(file)
                except Exception:
                    break
                self.whole = file.tell()
                if isinstance(entry, tuple) and len(entry) == 3:
                    if entry != here:
                        raise SinkError("x", f"It is of {entry}, this run of {here}. Give another.")
                    here = None
                else:
                    self.take(entry)
            file.truncate(self.whole)
            if here:
                file.write(pickle.dumps(here))
                file.flush()
        except BaseException:
            if FAULT != "leaks":
                file.close()
            raise
        with open(self.path + ".pid", "w") as pid:
            pid.write(str(os.getpid()))
        self.file = file

    def take(self, rows):
        for row in rows:
            if FAULT == "first stays" and row[0] in self.rows:
                continue
            key = row[0].partition("@")[0] if FAULT == "stages are one" else row[0]
            self.rows[key] = row

    def write(self, outcomes):
        if self.file is None:
            raise SinkError("x", "It is not open.")
        if FAULT == "drops large" and len(outcomes) > 1000:
            outcomes = outcomes[:1000]
        try:
            rows = rows_of(outcomes, 1.0)
        except ValueError as error:
            raise SinkError("x", str(error), tuple(outcomes)) from error
        if FAULT == "text only":
            rows = [(*row[:6], None, *row[7:]) for row in rows]
        self.file.write(pickle.dumps(rows))
        if FAULT != "buffers":
            self.file.flush()
        self.take(rows)

    def restore(self, keys):
        found = {}
        for key in keys:
            row = self.rows.get(key.partition("@")[0] if FAULT == "stages are one" else key)
            if row is not None:
                record = record_of(key, row[4], *row[5:9], row[10], row[11], row[12], row[13])
                if record is not None:
                    found[key] = record
        return found

    def close(self, error):
        if self.file is not None and not (FAULT == "keeps on error" and error is not None):
            self.file.close()
            self.file = None


class Plugin:
    @hookimpl
    def sink_factories(self):
        return {"pickles": FileStore}


plugin = Plugin()
'''

TEST = """
from celestialflow_core.testing import SinkContract

class TestFileStore(SinkContract):
    url = "pickles:{folder}/store"
    patience = 5.0
"""

FAULTS = {
    "": "",
    "shares": "test_second_holder_is_refused_with_the_pid_of_the_first",
    "any version": "test_store_of_other_work_is_refused",
    "leaks": "test_store_of_other_work_is_refused[change0",
    "first stays": "test_later_outcome_of_a_key_replaces_the_earlier",
    "stages are one": "test_stages_are_kept_apart",
    "drops large": "test_batches_of_any_size_are_accepted",
    "text only": "test_value_comes_back_as_it_was",
    "buffers": "test_accepted_is_safe_from_the_death_of_the_writer",
    "keeps on error": "test_close_releases_everything",
}
"""What is wrong with the store, and the test that must find it."""


@pytest.fixture
def run_contract(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the contract in an interpreter of its own, against a store that is installed there."""
    (own_folder / "celestialflow_pickles.py").write_text(STORE)
    (own_folder / "test_it.py").write_text(TEST)
    info = own_folder / "celestialflow_pickles-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: celestialflow-pickles\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[celestialflow]\npickles = celestialflow_pickles:plugin\n")

    def run(fault: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join([str(own_folder), *filter(None, sys.path)])
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=line", *arguments, "test_it.py"],
            env={**os.environ, "PYTHONPATH": path, "FAULT": fault},
            capture_output=True,
            text=True,
            timeout=250,
            check=False,
        )

    return run


@pytest.mark.parametrize("fault", FAULTS)
def test_contract_finds_the_fault(run_contract: Any, fault: str) -> None:
    """The store as it is passes every test; with the fault, the test that is there for it fails."""
    chosen = ["-k", FAULTS[fault].replace("[", " and ")] if fault else []

    done = run_contract(fault, *chosen)

    if fault:
        assert done.returncode == 1, done.stdout
        assert f"FAILED test_it.py::TestFileStore::{FAULTS[fault]}" in done.stdout
    else:
        assert done.returncode == 0, done.stdout
        assert "passed" in done.stdout
