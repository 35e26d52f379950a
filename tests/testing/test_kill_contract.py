"""`KillContract` finds out what is wrong with a store: each fault, put into a good one, is found."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

STORE = '''
import os
from celestialflow_core import hookimpl
from celestialflow_core.sinks.jsonl import JsonlStore

FAULT = os.environ.get("FAULT", "")


class FaultyStore(JsonlStore):
    """A good store, but for FAULT."""

    held = ()

    def write(self, outcomes):
        if FAULT == "buffers":
            self.held, outcomes = outcomes, self.held
        super().write(outcomes)

    def close(self, error):
        if self.held and self._fd >= 0:
            super().write(self.held)
            self.held = ()
        super().close(error)

    def restore(self, keys):
        found = super().restore(keys)
        if FAULT == "forgets":
            return {key: record for key, record in found.items() if not key.endswith(tuple("0123"))}
        return found

    def reader(self):
        reader = super().reader()
        if FAULT == "repeats":
            rows = reader.rows
            reader.rows = lambda **chosen: [*rows(**chosen), *rows(**chosen)]
        return reader


class Plugin:
    @hookimpl
    def sink_factories(self):
        return {"faulty": FaultyStore}


plugin = Plugin()
'''

TEST = """
from celestialflow_core.testing import KillContract

class TestFaultyStore(KillContract):
    url = "faulty:{folder}/store.jsonl"
"""

FAULTS = {
    "buffers": "The run gave these away, and they are not stored",
    "forgets": "These ran although their rows could be read",
    "repeats": "These have several rows",
}
"""What is wrong with the store, and what the contract says of it."""


@pytest.mark.parametrize("fault", FAULTS)
def test_contract_finds_the_fault(own_folder: Path, fault: str) -> None:
    """The test fails, and says what was wrong and with which seed; without a fault it passes, as jsonl: shows."""
    (own_folder / "celestialflow_faulty.py").write_text(STORE)
    (own_folder / "test_it.py").write_text(TEST)
    info = own_folder / "celestialflow_faulty-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: celestialflow-faulty\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[celestialflow]\nfaulty = celestialflow_faulty:plugin\n")

    path = os.pathsep.join([str(own_folder), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", "-k", "thread and manager"],
        env={**os.environ, "PYTHONPATH": path, "FAULT": fault},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )

    assert done.returncode == 1, done.stdout
    assert FAULTS[fault] in done.stdout
    assert "This was with the seed 1." in done.stdout
