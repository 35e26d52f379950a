"""Stores, as a person names them on the command line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celestialflow_core.sinks import Readable, Row, Sink

__all__ = ["check", "error_matches", "place_of", "readable", "row_as_json", "shown", "url_of"]


def url_of(store: str) -> str:
    """The URL that *store* means: itself, or the path of an SQLite or, by its suffix, a JSON Lines file."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", store):
        return store
    kind = "jsonl" if store.endswith((".jsonl", ".ndjson")) else "sqlite"
    return f"{kind}:{store}"


def shown(store: str) -> str:
    """*store* for messages: without a password that may be in it."""
    from celestialflow_core.sinks import redacted

    return redacted(store)


def check(urls: Sequence[str], resumes: bool) -> None:
    """Refuse sinks that there are not, and to go on from one that does not know what it has.

    Raises:
        click.UsageError: Says which, and what there is.
    """
    sinks = [_sink(url) for url in urls]
    from celestialflow_core.sinks import Store

    if resumes and not any(isinstance(sink, Store) for _, sink in sinks):
        names = ", ".join(name for name, _ in sinks)
        raise click.UsageError(f"--resume needs a store that knows what it has, as sqlite: and jsonl: do; not {names}.")


def _sink(url: str) -> tuple[str, Sink]:
    from celestialflow_core.errors import UnknownSink
    from celestialflow_core.sinks import label_of, resolve_sink

    try:
        return label_of(url), resolve_sink(url)
    except UnknownSink as error:
        raise click.UsageError(str(error)) from error


def readable(store: str) -> Readable:
    """The store that *store* names, to be read.

    Raises:
        click.UsageError: There is no such kind of store, or it cannot be read.
    """
    from celestialflow_core.sinks import Readable

    name, sink = _sink(url_of(store))
    if not isinstance(sink, Readable):
        raise click.UsageError(f"{name} stores outcomes, but the command line cannot read them back.")
    return sink


def error_matches(stored: str | None, wanted: str) -> bool:
    """Whether the error type *stored* is the one that a person calls *wanted*: with its module or without, or a base.

    Nothing is unpickled or imported for it, so the bases are known of built-in errors and of ours only.
    """
    if stored is None:
        return False
    if wanted in (stored, stored.rpartition(".")[2]):
        return True
    import builtins

    from celestialflow_core import errors

    module, _, name = stored.rpartition(".")
    home: Any = {"": builtins, errors.__name__: errors}.get(module)
    kind = getattr(home, name, None)
    return isinstance(kind, type) and wanted in {base.__name__ for base in kind.__mro__}


def place_of(row: Row) -> str | None:
    """Where the error of *row* was raised; not for a program, whose error is raised by a line of ours."""
    place = row.error_place
    return None if place is None or place.rpartition(":")[0].endswith("celestialflow_core/_cli/program.py") else place


def row_as_json(row: Row, value: Any = None) -> str:
    """One JSON object on one line: what `run --json` prints of an outcome, and where and when it was stored.

    Args:
        row: The row; its pickles are not loaded.
        value: The value of a success.
    """
    from celestialflow_core._cli.output import fields_as_json

    shown: dict[str, Any] = {"task": stored(row.task, row.task_pickle), "status": row.status}
    shown["ok"] = row.status == "success"
    if shown["ok"]:
        shown["value"] = value
    else:
        shown["error"] = {"type": row.error_type, "message": row.error_message, "place": place_of(row)}
        shown["traceback"] = row.error_traceback
    shown |= {"attempts": row.attempts, "seconds": row.seconds, "worker": row.worker}
    shown |= {"stage": row.stage, "key": row.key, "at": row.at}
    return fields_as_json(shown)


def stored(text: str | None, pickled: bytes | None) -> Any:
    """What is stored, without loading a pickle: the value where it is JSON, else the text that stands for it."""
    import json

    return json.loads(text) if text is not None and pickled is None else text
