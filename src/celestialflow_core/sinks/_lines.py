"""The lines of a `JsonlStore`: a row as JSON, and back.

    {"key":"cf1:...","stage":"fetch","task":"http://a","status":"success","value":{"title":"A"},"attempts":1,...}

A task or value that JSON gives back exactly stands there as it is, for ``jq`` and everybody. Of any other one, the
text stands there, and its pickle beside it as base64 (``task_pickle``, ``value_pickle``; empty where it has none). What
a row has not is left out.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable
from typing import Any, Final

from celestialflow_core.sinks._rows import Row, record_of
from celestialflow_core.sinks._values import clean, to_json
from celestialflow_core.sinks.interface import Record

__all__ = [
    "FIRST_START",
    "KEY_START",
    "VERSION",
    "first_line",
    "key_in",
    "key_text",
    "lines_of",
    "manifest_of",
    "record_in",
    "row_of",
]

KEY_START: Final = b'{"key":"'
"""How each line begins that is written here."""
VERSION: Final = 1
_FIRST: Final = "celestialflow_store"
_PLAIN: Final = re.compile(r"[A-Za-z0-9:@._ -]*").fullmatch
"""Whether a key is its own JSON, as most are."""
_decode: Final = json.JSONDecoder().raw_decode
FIRST_START: Final = f'{{"{_FIRST}":'.encode()
"""How a line begins that says what the store is of: the first, and one for each run that had more to say."""


def first_line(manifest: str) -> bytes:
    """The line that a file begins with: that it is a store, and of what."""
    return f'{{"{_FIRST}":{VERSION},"manifest":{manifest}}}\n'.encode()


def manifest_of(line: bytes) -> tuple[int, str]:
    """The version of the lines, and the manifest.

    Raises:
        ValueError: It is no first line.
    """
    begun = json.loads(line)
    if not isinstance(begun, dict) or not isinstance(begun.get(_FIRST), int):
        raise ValueError("it does not begin as a result store")
    return begun[_FIRST], json.dumps(begun.get("manifest"))


def key_text(key: str) -> str:
    """*key* as a line has it between its quotes."""
    return key if _PLAIN(key) else to_json(clean(key))[1:-1]


def key_in(line: bytes) -> bytes:
    """The key of a line, as it stands between the quotes of a line that is written here.

    Raises:
        ValueError: The line is no row.
    """
    if line.startswith(KEY_START) and line.endswith(b"}\n"):
        end = line.find(b'"', len(KEY_START))
        if end > 0 and line[end - 1] != 0x5C:  # a backslash
            return line[len(KEY_START) : end]
    return key_text(_object(line)["key"]).encode()  # with an escaped quote in it, or edited by somebody


def lines_of(rows: Iterable[tuple[Any, ...]]) -> bytes:
    """*rows* as lines, each with its line feed."""
    lines: list[str] = []
    name: str | None = None
    stage_text = ""
    for (
        key, stage, task, task_pickle, status, value, value_pickle, error_type, error_message, error_place,
        error_traceback, error_pickle, attempts, seconds, worker, at,
    ) in rows:  # fmt: skip
        if stage is not name:
            name = stage
            stage_text = "" if stage is None else f',"stage":{to_json(stage)}'
        if task_pickle is not None:
            task = _with_pickle("task", task, task_pickle)
        if status == "success":
            if value_pickle is not None:
                value = _with_pickle("value", value, value_pickle)
            what = f'"success","value":{value}'
        else:
            error = {
                "error_type": error_type,
                "error_message": error_message,
                "error_place": error_place,
                "error_traceback": error_traceback,
                "error_pickle": None if error_pickle is None else b64encode(error_pickle).decode(),
            }
            known = {field: text for field, text in error.items() if text is not None}
            what = f'"error",{to_json(known)[1:-1]}' if known else '"error"'
        if seconds is not None:
            what += f',"seconds":{float(seconds)!r}'
        if worker is not None:
            what += f',"worker":{worker:d}'
        lines.append(
            f'{{"key":"{key_text(key)}"{stage_text},"task":{task},"status":{what},"attempts":{attempts},"at":{at!r}}}\n'
        )
    return "".join(lines).encode()


def row_of(line: bytes) -> Row:
    """The row of a line.

    Raises:
        ValueError: It is none.
    """
    found = _object(line)
    try:
        task, task_pickle = _text_and_pickle(found, "task")
        value, value_pickle = _text_and_pickle(found, "value") if found["status"] == "success" else (None, None)
        return Row(
            key=found["key"],
            stage=found.get("stage"),
            task=task,
            task_pickle=task_pickle,
            status=found["status"],
            value=value,
            value_pickle=value_pickle,
            error_type=found.get("error_type"),
            error_message=found.get("error_message"),
            error_place=found.get("error_place"),
            error_traceback=found.get("error_traceback"),
            error_pickle=_bytes(found.get("error_pickle")),
            attempts=found["attempts"],
            seconds=found.get("seconds"),
            worker=found.get("worker"),
            at=found["at"],
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"it has no {error}") from error


def record_in(key: str, line: bytes) -> Record | None:
    """What a run that goes on is told by a line, or None where the value cannot be had again.

    Raises:
        ValueError: The line is no row.
    """
    found = _object(line)
    if found.get("status") == "success" and "value_pickle" not in found and "value" in found:
        return Record(
            key=key,
            status="success",
            value=found["value"],
            attempts=found.get("attempts", 1),
            seconds=found.get("seconds"),
        )
    row = row_of(line)
    return record_of(
        key,
        row.status,
        row.value,
        row.value_pickle,
        row.error_type,
        row.error_message,
        row.error_traceback,
        row.error_pickle,
        row.attempts,
        row.seconds,
    )


def _object(line: bytes) -> dict[str, Any]:
    text = line.decode()
    found, end = _decode(text)
    if not isinstance(found, dict) or not isinstance(found.get("key"), str) or not text[end:].isspace():
        raise ValueError("it is no object with a key")
    return found


def _with_pickle(name: str, text: str, pickled: bytes) -> str:
    return f'{to_json(text)},"{name}_pickle":"{b64encode(pickled).decode()}"'


def _text_and_pickle(found: dict[str, Any], name: str) -> tuple[str, bytes | None]:
    pickled = _bytes(found.get(f"{name}_pickle"))
    return (to_json(found[name]) if pickled is None else found[name]), pickled


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else b64decode(text)
