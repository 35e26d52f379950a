"""What every sink keeps, as tests: subclass `SinkContract` in a test file and give the URL.

    class TestMySink(SinkContract):
        url = "mine:{folder}/results"

A sink without ``restore`` is tested as far as that goes; one with ``reader`` also for what it shows. The plugin that
declares it has to be installed, since some tests open the store in a process apart.
"""

from __future__ import annotations

from celestialflow_core.testing._contract.sink_holding import HoldingTests
from celestialflow_core.testing._contract.sink_writing import WritingTests

__all__ = ["SinkContract"]


class SinkContract(WritingTests, HoldingTests):
    """Tests for one sink. Override `url` or `make_url`, and the rest where it has to be.

    Attributes:
        url: The sink's URL, in which ``{folder}`` stands for a folder that each test has anew.
        patience: Seconds to wait for what must come. Raise it for a system that is slow to notice a dead client.
    """
