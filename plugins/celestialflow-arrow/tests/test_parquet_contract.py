"""What every sink keeps, kept by ``parquet:``, with parts as they come and with many small ones."""

from __future__ import annotations

from celestialflow_core.testing import SinkContract


class TestParquet(SinkContract):
    """As it is used."""

    url = "parquet:{folder}/results/"


class TestParquetInSmallParts(SinkContract):
    """A part for every few rows, so that everything happens across parts."""

    url = "parquet:{folder}/results?rows=3"
