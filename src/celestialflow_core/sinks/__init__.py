"""Result sinks: where the outcomes of a run are kept, and from where a later run takes what is done.

`interface` is all that a sink has to be. ``sqlite:`` and ``jsonl:`` are built in; they come in through the same door as
those of plugins. A store holds pickles, which a run that goes on loads: a store is code, so go on only with your own.

For those who write a store: `rows_of` and `record_of` are the one encoding of values, `check_manifest` and
`join_manifests` the one rule of who may go on with a store, `manifest_to_json` and `manifest_from_json` what it
remembers, and `redacted` and `without_secrets` keep what is secret in a URL out of messages. For a store that is a file
there is more in `files`.

For those who use stores: `resolve_sink` makes a sink of its URL, and `merge` puts several stores into one.
"""

from __future__ import annotations

from celestialflow_core.sinks._manifest import check as check_manifest
from celestialflow_core.sinks._manifest import from_json as manifest_from_json
from celestialflow_core.sinks._manifest import joined as join_manifests
from celestialflow_core.sinks._manifest import to_json as manifest_to_json
from celestialflow_core.sinks._merge import merge
from celestialflow_core.sinks._reading import Mergeable, Readable, Reader
from celestialflow_core.sinks._resolve import label_of, resolve_sink
from celestialflow_core.sinks._rows import Row, record_of, rows_of
from celestialflow_core.sinks._urls import redacted, without_secrets
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
    "check_manifest",
    "join_manifests",
    "label_of",
    "manifest_from_json",
    "manifest_to_json",
    "merge",
    "record_of",
    "redacted",
    "resolve_sink",
    "rows_of",
    "without_secrets",
]
