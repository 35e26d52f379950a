"""A run that is killed with SIGKILL goes on where it stopped (faults.md, 35), with each of the built-in stores."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from pathlib import Path

import pytest

from celestialflow_core.testing import KillContract


class TestSqlite(KillContract):
    """A database."""

    url = "sqlite:{folder}/store.db"

    def check_store(self, url: str) -> None:
        """SQLite finds nothing wrong with it, and one row a key."""
        with sqlite3.connect(url.partition(":")[2]) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            rows, keys = connection.execute(
                "SELECT count(*), count(DISTINCT key || coalesce(stage, '')) FROM results"
            ).fetchone()
        connection.close()
        assert rows == keys > self.tasks // 2


class TestJsonl(KillContract):
    """A file of lines."""

    url = "jsonl:{folder}/store.jsonl"

    def check_store(self, url: str) -> None:
        """Each line is JSON, and no task has two."""
        lines = [json.loads(line) for line in Path(url.partition(":")[2]).read_text().splitlines()]
        keys = Counter(line["key"] for line in lines if "key" in line)
        assert set(keys.values()) == {1}


@pytest.mark.soak
@pytest.mark.timeout(3600)
class TestSqliteOften(TestSqlite):
    """Fifty kills a combination: five in each of ten lives."""

    kills, seeds = 5, range(2, 12)


@pytest.mark.soak
@pytest.mark.timeout(3600)
class TestJsonlOften(TestJsonl):
    """Fifty kills a combination: five in each of ten lives."""

    kills, seeds = 5, range(2, 12)
