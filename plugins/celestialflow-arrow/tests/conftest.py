"""A folder of its own for each test, outcomes, and stores that are closed in the end with nothing left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest

from celestialflow_arrow import ParquetStore
from celestialflow_core import Outcome
from celestialflow_core.sinks import Manifest
from celestialflow_core.testing import Resources


class Outcomes:
    """Makes outcomes of the manager "work"."""

    run = Manifest(name="work", stages=("work",), version="1", resume=True)

    @staticmethod
    def key(task: object) -> str:
        """The key of *task*."""
        return f"cf1:{blake2b(repr(task).encode(), digest_size=16).hexdigest()}"

    def success(self, task: Any, value: Any = None) -> Outcome[Any, Any]:
        """*task* gave *value*."""
        return Outcome(0, task, "success", value, key=self.key(task), attempts=1, seconds=0.5, worker=0, stage="work")

    def failure(self, task: Any, error: BaseException) -> Outcome[Any, Any]:
        """*task* failed with *error*."""
        return Outcome(
            0, task, "error", error=error, key=self.key(task), attempts=3, seconds=0.5, worker=1, stage="work"
        )

    def all(self, tasks: range) -> list[Outcome[Any, Any]]:
        """Each of *tasks* gave itself."""
        return [self.success(task, task) for task in tasks]


@pytest.fixture(scope="session")
def outcomes() -> Outcomes:
    """Makes outcomes."""
    return Outcomes()


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def opened(own_folder: Path, outcomes: Outcomes) -> Iterator[Callable[..., ParquetStore]]:
    """Opens stores by their URLs, and closes them in the end."""
    before = Resources()
    stores: list[ParquetStore] = []

    def make(url: str = "parquet:results/", run: Manifest = outcomes.run) -> ParquetStore:
        store = ParquetStore(url)
        store.open(run)
        stores.append(store)
        return store

    yield make
    for store in stores:
        store.close(None)
    before.expect_no_leaks()
