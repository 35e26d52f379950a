"""Stores in the folder of the test, and child interpreters that use them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from celestialflow_core.plugins.registry import Registry
from celestialflow_core.sinks._resolve import resolve_sink
from celestialflow_core.testing._outcomes import RUN

KINDS = {"sqlite": "sqlite:store.db", "jsonl": "jsonl:store.jsonl"}
"""The URL of each built-in store."""


@pytest.fixture(params=sorted(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    """The name of each built-in store."""
    return str(request.param)


@pytest.fixture
def opened() -> Iterator[Callable[..., Any]]:
    """Makes stores and opens them for a run; closes them in the end."""
    stores: list[Any] = []

    def make(url: str, run: Any = RUN) -> Any:
        stores.append(resolve_sink(KINDS.get(url, url), Registry.load([], {})))
        stores[-1].open(run)
        return stores[-1]

    yield make
    for store in stores:
        store.close(None)


@pytest.fixture
def closed_folder() -> Iterator[Path]:
    """A folder in which only root may write."""
    with tempfile.TemporaryDirectory() as outer:
        os.chmod(outer, 0o755)
        folder = Path(outer) / "closed"
        folder.mkdir()
        yield folder
        folder.chmod(0o700)


@contextmanager
def without_privileges() -> Iterator[None]:
    """As a user who is not root, where the tests are run by root, who may write anywhere."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def unprivileged() -> Callable[[], Any]:
    """A context manager in which permissions count."""
    return without_privileges


@pytest.fixture
def run_child() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs code in an interpreter of its own, in the folder of the test."""

    def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env=environ,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run
