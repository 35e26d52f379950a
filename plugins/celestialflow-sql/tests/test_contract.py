"""What every sink keeps, against real servers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from celestialflow_core.testing import SinkContract


class TestPostgreSQL(SinkContract):
    """PostgreSQL."""

    @pytest.fixture(autouse=True)
    def _server(self, postgresql: Any) -> None:
        self.server = postgresql

    def make_url(self, folder: Path) -> str:
        """A store with tables of its own."""
        return self.server.url()


class TestMariaDB(SinkContract):
    """MariaDB."""

    @pytest.fixture(autouse=True)
    def _server(self, mariadb: Any) -> None:
        self.server = mariadb

    def make_url(self, folder: Path) -> str:
        """A store with tables of its own."""
        return self.server.url()
