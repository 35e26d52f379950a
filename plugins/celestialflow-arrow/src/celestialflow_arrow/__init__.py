"""``parquet:folder/``: the outcomes of a run as Parquet files, and a store from which the next run goes on.

    TaskManager(fetch, "thread", sinks=["parquet:pages/"], resume=True)
    duckdb.sql("select status, count(*) from 'pages/*.parquet' group by status")

Installed, the sink is there for every manager and for the command line. pyarrow is loaded when one is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from celestialflow_core import hookimpl

if TYPE_CHECKING:
    from celestialflow_arrow._store import ParquetStore
    from celestialflow_core.sinks import Sink, SinkFactory

__all__ = ["Arrow", "ParquetStore", "plugin"]


class Arrow:
    """Declares the sink ``parquet``."""

    @hookimpl
    def sink_factories(self) -> Mapping[str, SinkFactory]:
        """``parquet:folder/``."""
        return {"parquet": _parquet}


def _parquet(url: str) -> Sink:
    from celestialflow_arrow._store import ParquetStore

    return ParquetStore(url)


def __getattr__(name: str) -> Any:
    if name != "ParquetStore":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from celestialflow_arrow._store import ParquetStore

    return ParquetStore


plugin = Arrow()
"""What is active where this distribution is installed."""
