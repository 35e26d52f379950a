"""Who is measured with stores: ours, and the bare calls that write and read the same rows in the same batches.

The rows of the bare ones are made beforehand: what is measured is the database, or the file, alone.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from hashlib import blake2b
from itertools import count
from typing import Any

import tasks
from contestants import Contestant, Function, Runner, manager, manager_stream

__all__ = [
    "ROWS", "bare_executemany", "bare_lines", "bare_select", "prepare", "resuming", "storing", "streaming_again",
    "streaming_into",
]  # fmt: skip

ROWS = 1_000_000
BATCH = 1000
_size = ROWS
_numbers = count()


def prepare(size: int) -> None:
    """Say how many tasks there will be: so many rows are made beforehand."""
    global _size
    _size = size


def _url(kind: str) -> str:
    return f"{kind}:store-{next(_numbers)}"


def _filled(kind: str) -> str:
    """The URL of a store that has all tasks. A process apart has filled it, so that its memory is not ours."""
    url = _url(kind)
    subprocess.run([sys.executable, __file__, url, str(_size)], check=True)
    return url


@contextmanager
def _storing(kind: str, function: Function, workers: int) -> Iterator[Runner]:
    with manager("serial", sinks=[_url(kind)], enable_error_cache=False)(function, workers) as run:
        yield run


def storing(kind: str) -> Contestant:
    """``start()`` with a sink, in series."""
    return partial(_storing, kind)


@contextmanager
def _resuming(kind: str, function: Function, workers: int) -> Iterator[Runner]:
    with manager("serial", sinks=[_filled(kind)], resume=True)(function, workers) as run:
        yield run


def resuming(kind: str) -> Contestant:
    """``start(resume=True)`` over tasks that are all in the store."""
    return partial(_resuming, kind)


@contextmanager
def _streaming_into(kind: str, function: Function, workers: int) -> Iterator[Runner]:
    with manager_stream("serial", sinks=[_url(kind)])(function, workers) as run:
        yield run


def streaming_into(kind: str) -> Contestant:
    """``stream()`` with a sink, and nothing kept."""
    return partial(_streaming_into, kind)


@contextmanager
def _streaming_again(kind: str, function: Function, workers: int) -> Iterator[Runner]:
    options = {"sinks": [_filled(kind)], "resume": True, "enable_duplicate_check": True}
    with manager_stream("serial", **options)(function, workers) as run:
        yield run


def streaming_again(kind: str) -> Contestant:
    """``stream()`` with ``resume=True`` over tasks that are all in the store; the tasks seen are remembered."""
    return partial(_streaming_again, kind)


def _rows() -> list[tuple[Any, ...]]:
    """Rows like those of a run of so many small tasks."""
    return [
        (
            *(blake2b(b"%d" % number, digest_size=16).digest(), "add_one", str(number), None, "success"),
            *(str(number + 1), None, None, None, None, None, None, 1, 0.0, 0, 1.0),
        )
        for number in range(_size)
    ]


def _connect() -> sqlite3.Connection:
    from celestialflow_core.sinks._sqlite import _TABLES

    connection = sqlite3.connect(f"bare-{next(_numbers)}.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    for statement in _TABLES:
        connection.execute(statement)
    return connection


def _insert(connection: sqlite3.Connection, rows: list[tuple[Any, ...]]) -> None:
    from celestialflow_core.sinks._sqlite import INSERT

    for begin in range(0, len(rows), BATCH):
        connection.execute("BEGIN")
        connection.executemany(INSERT, rows[begin : begin + BATCH])
        connection.execute("COMMIT")


@contextmanager
def bare_executemany(function: Function, workers: int) -> Iterator[Runner]:
    """A transaction of a thousand rows at a time into the same table."""
    rows, connection = _rows(), _connect()

    def run(tasks: Iterable[int]) -> int:
        size = len(list(tasks))
        _insert(connection, rows[:size])
        return size * (size + 1) // 2

    yield run
    connection.close()


@contextmanager
def bare_select(function: Function, workers: int) -> Iterator[Runner]:
    """The same rows by their keys, a thousand at a time."""
    rows, connection = _rows(), _connect()
    _insert(connection, rows)
    keys = [row[0] for row in rows]
    question = f"SELECT * FROM results WHERE key IN ({', '.join('?' * BATCH)})"

    def run(tasks: Iterable[int]) -> int:
        size = len(list(tasks))
        found = 0
        for begin in range(0, size, BATCH):
            batch = keys[begin : min(begin + BATCH, size)]
            batch += [b""] * (BATCH - len(batch))
            found += len(connection.execute(question, batch).fetchall())
        return found * (found + 1) // 2

    yield run
    connection.close()


@contextmanager
def bare_lines(function: Function, workers: int) -> Iterator[Runner]:
    """``json.dumps`` of the same fields, and one write for a thousand lines."""
    names = ("key", "stage", "task", "status", "value", "attempts", "seconds", "worker", "at")
    rows = [
        dict(zip(names, (f"cf1:{row[0].hex()}", "add_one", number, "success", number + 1, 1, 0.0, 0, 1.0), strict=True))
        for number, row in enumerate(_rows())
    ]
    with open(f"bare-{next(_numbers)}.jsonl", "wb", buffering=0) as file:

        def run(tasks: Iterable[int]) -> Collection[int] | int:
            size = len(list(tasks))
            for begin in range(0, size, BATCH):
                file.write("".join([json.dumps(row) + "\n" for row in rows[begin : min(begin + BATCH, size)]]).encode())
            return size * (size + 1) // 2

        yield run


def main(url: str, size: str) -> None:
    """Fill a store."""
    with manager("serial", sinks=[url], enable_success_cache=False)(tasks.add_one, 1) as run:
        run(range(int(size)))


if __name__ == "__main__":
    main(*sys.argv[1:])
