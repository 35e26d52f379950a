"""Runs that are killed with SIGKILL go on where they stopped, and other readers find each task once."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from celestialflow_core.testing import KillContract


class TestParquetKilled(KillContract):
    """With parts as they come."""

    url = "parquet:{folder}/results/"

    def check_store(self, url: str) -> None:
        """When a run has come to its end, all rows are in parts, and no key has two."""
        folder = Path(url.partition(":")[2].partition("?")[0])
        parts = [pq.read_table(path).column("key").to_pylist() for path in folder.glob("*.parquet")]
        keys = [key for part in parts for key in part]
        assert len(keys) == len(set(keys)) >= self.tasks


@pytest.mark.soak
@pytest.mark.timeout(3600)
class TestParquetKilledOften(TestParquetKilled):
    """Fifty kills a combination: five in each of ten lives."""

    kills, seeds = 5, range(2, 12)


@pytest.mark.soak
@pytest.mark.timeout(3600)
class TestParquetInSmallPartsKilledOften(TestParquetKilledOften):
    """A part for every few rows, so that most kills are somewhere in the making of one."""

    url = "parquet:{folder}/results?rows=40"


@pytest.mark.soak
@pytest.mark.timeout(3600)
class TestParquetInShortPartsKilledOften(TestParquetKilledOften):
    """A part for every tenth of a second."""

    url = "parquet:{folder}/results?seconds=0.1"
