"""What the tests of faults share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from celestialflow_core.testing import Resources


@pytest.fixture
def account() -> Callable[..., None]:
    """Asserts of a manager whose run has ended, however, that its counts add up and agree with its dicts."""

    def check(manager: Any, pulled: int | None = None) -> None:
        summary, counts = manager.summary, manager.counts
        settled = summary.succeeded + summary.failed + summary.duplicates + summary.cancelled
        assert summary.total == settled == counts.taken
        assert counts.running == counts.pending == 0
        assert pulled is None or summary.total == pulled
        assert len(manager.success_dict) == summary.succeeded
        assert len(manager.error_dict) == summary.failed

    return check


@pytest.fixture
def resources() -> Resources:
    """What there was before the test."""
    return Resources()
