"""Result sinks: where the outcomes of a run are kept, and from where a later run takes what is done.

`interface` is all that a sink has to be. ``sqlite:`` and ``jsonl:`` are built in; they come in through the same door as
those of plugins. A store holds pickles, which a run that goes on loads: a store is code, so go on only with your own.
"""

from __future__ import annotations

from celestialflow_core.sinks._reading import Mergeable, Readable, Reader
from celestialflow_core.sinks._rows import Row, record_of, rows_of
from celestialflow_core.sinks.interface import Manifest, Record, Sink, SinkFactory, Store

__all__ = [
    "Manifest",
    "Mergeable",
    "Readable",
    "Reader",
    "Record",
    "Row",
    "Sink",
    "SinkFactory",
    "Store",
    "record_of",
    "rows_of",
]
