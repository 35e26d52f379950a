"""What a URL says, what is refused, and that no password is shown."""

from __future__ import annotations

import subprocess
import sys

import pytest

from celestialflow_core.errors import SinkError
from celestialflow_core.sinks import Manifest, Mergeable, Readable, Store
from celestialflow_sql import make_store, plugin


@pytest.mark.parametrize("name", ["postgresql", "postgresql+psycopg", "mariadb", "mysql", "mysql+pymysql"])
def test_store_is_made_without_a_connection(name: str) -> None:
    """Nothing is asked of the network before ``open``; the store can be resumed from, read and merged into."""
    store = make_store(f"{name}://ana:secret@no.such.host/db?table_prefix=a_&patience=5&connect_timeout=3")
    assert isinstance(store, Store)
    assert isinstance(store, Readable)
    assert isinstance(store, Mergeable)
    assert "secret" not in repr(store)
    assert "no.such.host" in repr(store)
    store.close(None)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql:", "postgresql://user@host/database"),
        ("mysql:db", "mysql://user@host/database"),
        ("mariadb://ana@host", "names no database"),
        ("postgresql://host:port/db", "not the URL of a database"),
        ("postgresql://host:99999/db", "port"),
        ("postgresql+asyncpg://host/db", "driver is psycopg, not asyncpg"),
        ("mysql+mysqldb://host/db", "driver is pymysql, not mysqldb"),
        ("oracle://host/db", "no store of this name.*postgresql"),
        ("postgresql://host/db?table_prefix=a;b", "table_prefix"),
        ("postgresql://host/db?table_prefix=1a", "table_prefix"),
        ("postgresql://host/db?table_prefix=a&table_prefix=b", "table_prefix"),
        ("postgresql://host/db?patience=long", "patience"),
        ("postgresql://host/db?patience=-1", "patience"),
        ("postgresql://host/db?patience=inf", "patience"),
        ("postgresql://ana:sec@ret@host/db", "%40"),
    ],
)
def test_url_that_cannot_be_meant_is_refused(url: str, said: str) -> None:
    """Before the run begins, with what to write."""
    with pytest.raises(SinkError, match=said) as caught:
        make_store(url)
    assert "sec@ret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ana:hush-hush@{host}/db",
        "postgresql://ana:hush%2Dhush@{host}/db",
        "postgresql://{host}/db?password=hush-hush&user=ana",
        "mariadb://ana:hush-hush@{host}/db",
        "mysql://ana:hush-hush@{host}/db?password=hush-hush",
        "mysql://ana:hush-hush@{host}/db?no_such_option=1",
        "postgresql://ana:hush-hush@{host}/db?no_such_option=1",
    ],
)
def test_secret_is_in_no_error(url: str, unused_port: int) -> None:
    """Neither in the message nor in what it was caused by, whatever the driver says."""
    store = make_store(url.format(host=f"127.0.0.1:{unused_port}"))
    with pytest.raises(SinkError) as caught:
        store.open(Manifest(name="work", stages=("work",)))
    error: BaseException | None = caught.value
    while error is not None:
        assert "hush-hush" not in f"{error} {error!r}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    assert "hush-hush" not in repr(store)


def test_plugin_is_thin() -> None:
    """A run with another sink imports neither SQLAlchemy nor a driver."""
    assert set(plugin.sink_factories()) == {"postgresql", "mariadb", "mysql"}
    code = (
        "import sys, celestialflow_sql as it; it.plugin.sink_factories(); "
        "print(sorted({'sqlalchemy', 'psycopg', 'pymysql'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.strip() == "[]"
