"""Pytest fixtures for plugin authors: ``pytest_plugins = ["celestialflow_core.testing.fixtures"]``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from celestialflow_core.testing.clock import FakeClock
from celestialflow_core.testing.leaks import Resources

__all__ = ["fake_clock", "no_leaks"]


@pytest.fixture
def no_leaks() -> Iterator[Resources]:
    """Fails the test if it leaves a thread, a child process or a descriptor behind."""
    before = Resources()
    yield before
    before.expect_no_leaks()


@pytest.fixture
def fake_clock() -> FakeClock:
    """A clock that stands still until the test moves it."""
    return FakeClock()
