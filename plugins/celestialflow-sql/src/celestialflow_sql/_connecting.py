"""An engine for a store, and what the errors of its driver mean to a user."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from celestialflow_core.errors import SinkError
from celestialflow_sql._database import Database
from celestialflow_sql._mariadb import MariaDB
from celestialflow_sql._postgresql import PostgreSQL
from celestialflow_sql._target import Target

__all__ = ["GOES_ON", "connect", "database_of", "failure", "make_engine", "said"]

GOES_ON: Final = "What was accepted is stored; a run with resume=True goes on from there."


def database_of(target: Target) -> Database:
    """The kind of database that *target* names."""
    return PostgreSQL() if target.url.get_backend_name() == "postgresql" else MariaDB()


def make_engine(target: Target, database: Database) -> Engine:
    """An engine that connects to nothing yet, keeps no connection, and puts no values into its messages."""
    special = {"use_native_hstore": False} if isinstance(database, PostgreSQL) else {}
    return sa.create_engine(
        target.url,
        poolclass=NullPool,
        pool_reset_on_return=None,
        hide_parameters=True,
        connect_args=dict(database.options(target.url)),
        **special,
    )


def connect(engine: Engine, target: Target) -> Connection:
    """A connection of *engine*.

    Raises:
        DBAPIError: The server cannot be reached, or refuses.
        SinkError: The driver does not understand the URL's options, or lacks something.
    """
    try:
        return engine.connect()
    except SQLAlchemyError:
        raise
    except Exception as error:  # a driver raises what it likes over an option that it does not know
        text = target.shown(f"{type(error).__name__}: {error}").rstrip(".")
        raise SinkError(target.label, f"The driver cannot connect ({text}). Look at the options in the URL.") from None


def said(error: SQLAlchemyError, target: Target) -> str:
    """What the server or the driver says, on one line, without secrets."""
    original = error.orig if isinstance(error, DBAPIError) else error
    args: tuple[Any, ...] = getattr(original, "args", ())
    text = args[-1] if len(args) == 2 and isinstance(args[0], int) else original  # PyMySQL: (number, text)
    return target.shown(" ".join(str(text).split())).rstrip(".") or type(original).__name__


def failure(
    error: SQLAlchemyError,
    target: Target,
    database: Database,
    unwritten: tuple[object, ...] = (),
    *,
    away: bool = False,
) -> SinkError:
    """The `SinkError` that says what *error* means, and what to do.

    Args:
        error: Of the driver, or of SQLAlchemy.
        target: The store.
        database: The kind of database.
        unwritten: The outcomes that were not stored.
        away: Whether the store has waited for it to pass.
    """
    text = said(error, target)
    advice = database.advice(database.code(error)) if isinstance(error, DBAPIError) else None
    if away:
        reason = f"The database has been away for {target.patience:g} s ({text}). {GOES_ON}"
    elif advice is not None:
        reason = advice.format(said=text)
    else:
        reason = f"It failed ({text})."
    made = SinkError(target.label, reason, unwritten)
    # Not chained where it speaks of a secret: tracebacks end up in logs.
    made.__cause__ = error if target.shown(str(error)) == str(error) else None
    made.__suppress_context__ = True
    return made
