"""What the URL of a store says: which database, which tables, how long it may be away, and what may be shown of it.

postgresql://user:password@host/database?table_prefix=crawl_&patience=60
name        for the driver            for us; all other options are the driver's
"""

from __future__ import annotations

import re
from typing import Final

import attrs
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from celestialflow_core.errors import SinkError
from celestialflow_core.sinks import redacted, without_secrets

__all__ = ["Target"]

DRIVERS: Final = {
    "postgresql": "postgresql+psycopg",
    "mariadb": "mariadb+pymysql",
    "mysql": "mysql+pymysql",
}
PREFIX: Final = "celestialflow_"
PATIENCE: Final = 30.0
_PREFIX = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")


@attrs.frozen(kw_only=True)
class Target:
    """The URL of a store.

    Attributes:
        label: What to call the store in messages.
        url: What SQLAlchemy is given.
        prefix: What the names of the tables begin with.
        patience: Seconds for which a database may be away in the middle of a run.
    """

    label: str
    url: URL = attrs.field(repr=False)
    prefix: str = PREFIX
    patience: float = PATIENCE
    given: str = attrs.field(repr=False)

    @classmethod
    def parse(cls, given: str) -> Target:
        """Read a URL.

        Raises:
            SinkError: It names no database, or an option has a value that it cannot have.
        """
        label = redacted(given)
        name = given.partition(":")[0].lower()
        example = f"{name.partition('+')[0]}://user@host/database"
        try:
            url = make_url(given)
            if url.port is not None and not 0 < url.port < 65536:
                raise ValueError("the port is not from 1 to 65535")
        except (ArgumentError, ValueError) as error:
            why = "" if isinstance(error, ArgumentError) else f" ({error})"
            raise SinkError(label, f"This is not the URL of a database{why}. Write {example}.") from None
        if "@" in (url.host or ""):
            raise SinkError(label, "Its password has an '@', which ends a password. Write it as %40.")
        base, _, driver = name.partition("+")
        if base not in DRIVERS:
            raise SinkError(label, f"There is no store of this name. There is: {', '.join(DRIVERS)}.")
        if name not in (base, DRIVERS[base]):
            raise SinkError(label, f"The driver is {DRIVERS[base].partition('+')[2]}, not {driver}. Write {base}:.")
        if not url.database and base != "postgresql":
            raise SinkError(label, f"It names no database. Write {example}.")
        query = dict(url.query)
        prefix, patience = query.pop("table_prefix", PREFIX), query.pop("patience", PATIENCE)
        return cls(
            label=label,
            url=url.set(drivername=DRIVERS[base], query=query),
            prefix=_prefix(label, prefix),
            patience=_seconds(label, patience),
            given=given,
        )

    def shown(self, text: str) -> str:
        """*text*, which a driver wrote, without what is secret in the URL."""
        shown = without_secrets(text, self.given)
        password = self.url.password
        return shown.replace(str(password), "***") if password else shown


def _prefix(label: str, value: object) -> str:
    if not isinstance(value, str) or not _PREFIX.fullmatch(value):
        raise SinkError(label, "table_prefix must be at most 40 letters, digits and underscores, no digit first.")
    return value


def _seconds(label: str, value: object) -> float:
    try:
        seconds = float(value) if isinstance(value, str | float) else -1.0
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise SinkError(label, "patience must be a number of seconds, such as 30.")
    return seconds
