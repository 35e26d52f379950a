"""What holds for every test: a folder of its own, nothing left behind, and hypothesis that repeats itself in CI.

 - A module that needs neither processes, signals nor sockets says ``pytestmark = pytest.mark.pure``: it also runs on
   every supported Python.
 - Long proofs are marked ``soak`` and run only where the marker is asked for: ``pytest -m soak``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from celestialflow_core.testing import Resources

settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the long proofs, unless the marker expression speaks of them."""
    if "soak" in (config.option.markexpr or ""):
        return
    soak = [item for item in items if item.get_closest_marker("soak")]
    if soak:
        config.hook.pytest_deselected(items=soak)
        items[:] = [item for item in items if not item.get_closest_marker("soak")]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of the test: its own, so that ``logs/`` and the like are never written beside the code."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _logger_state() -> str | None:
    """What loguru looks like, or None while nobody has loaded it."""
    loguru = sys.modules.get("loguru")
    return None if loguru is None else repr(loguru.logger)


def _is_a_pool_of_the_test(leak: str) -> bool:
    """A pool that a test gave to a manager is the test's: a thread of it that is busy ends with its call."""
    return leak.startswith("thread 'ThreadPoolExecutor")


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest, own_folder: Path) -> Iterator[None]:
    """Fails a test that leaves a thread, a child, a descriptor or a log handler; a pure one can leave none of them.

    A module whose tests leave something on purpose overrides this fixture.
    """
    if request.node.get_closest_marker("pure"):
        yield
        return
    loky = sys.modules.get("loky.backend.resource_tracker")
    if loky is not None:
        loky.ensure_running()  # one a process, for good: it is not the test that leaves it
    before, logger = Resources(), _logger_state()
    yield
    before.expect_no_leaks(_is_a_pool_of_the_test)
    if logger is not None:
        assert _logger_state() == logger, "A log handler was left behind."
