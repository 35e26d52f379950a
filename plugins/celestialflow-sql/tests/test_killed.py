"""Runs that are killed with SIGKILL and go on, again and again, until they are done: against real servers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from celestialflow_core.testing import KillContract


class TestPostgreSQLKilled(KillContract):
    """PostgreSQL."""

    @pytest.fixture(autouse=True)
    def _server(self, postgresql: Any) -> None:
        self.server = postgresql

    def make_url(self, folder: Path) -> str:
        """A store with tables of its own."""
        return self.server.url()


class TestMariaDBKilled(KillContract):
    """MariaDB."""

    @pytest.fixture(autouse=True)
    def _server(self, mariadb: Any) -> None:
        self.server = mariadb

    def make_url(self, folder: Path) -> str:
        """A store with tables of its own."""
        return self.server.url()


@pytest.mark.soak
@pytest.mark.timeout(3600)
class TestPostgreSQLKilledOften(TestPostgreSQLKilled):
    """Fifty kills a combination: five in each of ten lives."""

    kills, seeds = 5, range(2, 12)


@pytest.mark.soak
@pytest.mark.timeout(3600)
class TestMariaDBKilledOften(TestMariaDBKilled):
    """Fifty kills a combination: five in each of ten lives."""

    kills, seeds = 5, range(2, 12)
