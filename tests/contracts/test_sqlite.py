"""The sqlite store keeps the contract of sinks, as it is and with a sync a batch."""

from __future__ import annotations

from celestialflow_core.testing import SinkContract


class TestSqlite(SinkContract):
    """A file beside the others."""

    url = "sqlite:{folder}/results.db"


class TestSqliteFull(SinkContract):
    """Against a power failure too."""

    url = "sqlite://{folder}/results.db?synchronous=full"
