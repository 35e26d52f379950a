"""The jsonl store keeps the contract of sinks, as it is and with a sync a batch."""

from __future__ import annotations

from celestialflow_core.testing import SinkContract


class TestJsonl(SinkContract):
    """A file beside the others."""

    url = "jsonl:{folder}/out.jsonl"


class TestJsonlFull(SinkContract):
    """Against a power failure too."""

    url = "jsonl://{folder}/out.jsonl?synchronous=full"
