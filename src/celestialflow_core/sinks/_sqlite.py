"""The database of a `SqliteStore`: its tables, how it is opened, and what its errors mean to a user.

    results     one row a task; the columns are those of `Row`
    manifest    one row: what the store is of

``PRAGMA application_id`` says that it is a store of this package, ``PRAGMA user_version`` which tables it has. A key
"cf1:<32 digits>" is stored as the 16 bytes of its digits, one of a graph with "@stage" behind them; ``hex(key)`` shows
them. Any other key is stored as text, and so is never equal to one of those.
"""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import Final

from celestialflow_core.errors import SinkError
from celestialflow_core.sinks import _manifest
from celestialflow_core.sinks._rows import Row
from celestialflow_core.sinks._values import clean
from celestialflow_core.sinks.interface import Manifest

__all__ = [
    "COLUMNS",
    "INSERT",
    "check_ours",
    "connect",
    "key_from_stored",
    "key_to_stored",
    "put_manifest",
    "set_up",
    "stored_manifest",
    "what_happened",
]

APPLICATION: Final = 0x63666C77  # "cflw"
VERSION: Final = 1
SCHEME: Final = "cf1:"
_DIGITS: Final = re.compile(r"cf1:[0-9a-f]{32}(?:@.*)?", re.DOTALL)

COLUMNS: Final = ", ".join(Row._fields)
INSERT: Final = f"INSERT OR REPLACE INTO results ({COLUMNS}) VALUES ({', '.join('?' * len(Row._fields))})"

_TABLES: Final = (
    """
    CREATE TABLE results (
        key BLOB NOT NULL PRIMARY KEY,
        stage TEXT,
        task TEXT NOT NULL,
        task_pickle BLOB,
        status TEXT NOT NULL,
        value TEXT,
        value_pickle BLOB,
        error_type TEXT,
        error_message TEXT,
        error_place TEXT,
        error_traceback TEXT,
        error_pickle BLOB,
        attempts INTEGER NOT NULL,
        seconds REAL,
        worker INTEGER,
        at REAL NOT NULL
    )
    """,
    "CREATE TABLE manifest (id INTEGER PRIMARY KEY CHECK (id = 1), json TEXT NOT NULL)",
    f"PRAGMA application_id = {APPLICATION}",
    f"PRAGMA user_version = {VERSION}",
)


def connect(path: Path, synchronous: str, label: str) -> sqlite3.Connection:
    """Open the database at *path* for writing, and make it if it is not there.

    Raises:
        SinkError: It is somebody else's, or of another version; nothing of it is changed.
    """
    connection = sqlite3.connect(path, timeout=30.0, isolation_level=None, check_same_thread=False)
    try:
        check_ours(connection, label)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        # The index is written all over (see sqlite.py): room for the pages of one that has some hundred thousand keys,
        # and a log long enough that each page is carried over to the database once for many times that it changed.
        connection.execute("PRAGMA cache_size = -16000")
        connection.execute("PRAGMA wal_autocheckpoint = 16000")
    except BaseException:
        connection.close()
        raise
    return connection


def set_up(connection: sqlite3.Connection, label: str) -> None:
    """Make the tables in a database that is new. Inside a transaction.

    Raises:
        SinkError: It is somebody else's, or of another version.
    """
    if not check_ours(connection, label):
        for statement in _TABLES:
            connection.execute(statement)


def check_ours(connection: sqlite3.Connection, label: str) -> bool:
    """Whether the database is a store, rather than new.

    Raises:
        SinkError: It is somebody else's, or of another version.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION:
        if application or connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone():
            raise SinkError(label, "This database belongs to something else. Give another file.")
    elif version != VERSION:
        raise SinkError(
            label,
            f"It was written by another version of celestialflow-core (its tables are of version {version}, and this "
            f"one knows {VERSION}). Use that version, or give a new file.",
        )
    return bool(application)


def stored_manifest(connection: sqlite3.Connection) -> Manifest | None:
    """What the store is of; None where that has not been written."""
    row = connection.execute("SELECT json FROM manifest").fetchone()
    try:
        return None if row is None else _manifest.from_json(row[0])
    except (ValueError, TypeError) as error:
        raise sqlite3.DatabaseError(f"the manifest cannot be read: {error}") from error


def put_manifest(connection: sqlite3.Connection, run: Manifest) -> None:
    """Remember what the store is of."""
    connection.execute("INSERT OR REPLACE INTO manifest VALUES (1, ?)", (_manifest.to_json(run),))


def key_to_stored(key: str) -> bytes | str:
    """*key* as it is stored."""
    if not _DIGITS.fullmatch(key):
        return clean(key)
    return bytes.fromhex(key[4:36]) + key[36:].encode("utf-8", "surrogatepass")


def key_from_stored(stored: bytes | str) -> str:
    """The key that `key_to_stored` was given."""
    if isinstance(stored, str):
        return stored
    return f"{SCHEME}{stored[:16].hex()}{stored[16:].decode('utf-8', 'surrogatepass')}"


def what_happened(error: Exception, path: Path) -> str:
    """What *error* means, and what to do, as sentences."""
    name = getattr(error, "sqlite_errorname", "") or ""
    said = str(error).rstrip(".")
    for names, advice in _ADVICE.items():
        if name.startswith(names):
            return advice.format(path=path, folder=path.parent, said=said)
    if isinstance(error, sqlite3.DatabaseError) and type(error) is sqlite3.DatabaseError:
        return _ADVICE["SQLITE_NOTADB", "SQLITE_CORRUPT"].format(path=path, folder=path.parent, said=said)
    return f"It failed ({said})." if isinstance(error, sqlite3.Error) else str(error)


_GOES_ON: Final = "What was accepted is stored; a run with resume=True goes on from there."
_ADVICE: Final[dict[tuple[str, ...], str]] = {
    ("SQLITE_FULL",): f"There is no room left on the disk of {{folder}}. Make room. {_GOES_ON}",
    ("SQLITE_IOERR",): f"{{path}} cannot be read or written ({{said}}): is the disk full, or gone? {_GOES_ON}",
    ("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH"): (
        "{path} cannot be written ({said}). Give a path in a folder that this user may write to."
    ),
    ("SQLITE_NOTADB", "SQLITE_CORRUPT"): (
        "{path} is damaged, or no SQLite database ({said}). Move it away, or give another file; "
        "'sqlite3 {path} .recover' may save what is left."
    ),
    ("SQLITE_BUSY", "SQLITE_LOCKED"): (
        "Another program has held the database for 30 s, with a transaction that it has not ended. End it. " + _GOES_ON
    ),
    ("SQLITE_TOOBIG",): "A value is larger than a SQLite database can hold ({said}). Store it in a file of its own.",
}
