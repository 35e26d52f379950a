"""What a person writes for a store, as the URL of a sink."""

from __future__ import annotations

import re

__all__ = ["url_of"]


def url_of(store: str) -> str:
    """The URL that *store* means: itself, or the path of an SQLite or, by its suffix, a JSON Lines file."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", store):
        return store
    kind = "jsonl" if store.endswith((".jsonl", ".ndjson")) else "sqlite"
    return f"{kind}:{store}"
