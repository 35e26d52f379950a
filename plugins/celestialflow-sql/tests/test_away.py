"""A database that goes away in the middle of a run: for a while, for good, and only for our connection."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest

from celestialflow_core import Outcome, TaskManager
from celestialflow_core.errors import SinkError
from celestialflow_core.sinks import Manifest
from celestialflow_core.testing import Resources
from celestialflow_sql import make_store

RUN = Manifest(name="work", stages=("work",), resume=True)


def double(number: int) -> int:
    """What the tasks do."""
    return 2 * number


def outcome(number: int) -> Outcome[int, int]:
    """The outcome of a task."""
    return Outcome(0, number, "success", 2 * number, key=f"cf1:{number:032x}", stage="work")


def stored(url: str) -> dict[str, str | None]:
    """What the store has: the value of each task; fails if it has one twice."""
    with make_store(url).reader() as reader:
        rows = list(reader.rows())
        assert reader.count() == len(rows)
    values = {row.task: row.value for row in rows}
    assert len(values) == len(rows)
    return values


@pytest.fixture
def restarting(server: Any) -> Iterator[Any]:
    """A server that the test may stop; it runs again afterwards."""
    before = Resources()
    yield server
    if not server.is_running:
        server.start()
    before.expect_no_leaks(lambda leak: "mariadbd" in leak or "postgres" in leak)


def test_run_outlives_a_database_that_is_away_for_five_seconds(restarting: Any) -> None:
    """Killed in the middle of a run, and back five seconds later: every task is stored once, and none failed."""
    url = restarting.url()
    manager = TaskManager(double, "thread", worker_limit=4, max_in_flight=200, sinks=[url], log_dir=None)
    back = threading.Timer(5.0, restarting.start)
    with manager.stream(range(3000)) as outcomes:
        for count, one in enumerate(outcomes):
            assert one.ok
            if count == 1000:
                restarting.stop()
                back.start()
    back.join()

    assert manager.summary is not None
    assert manager.summary.succeeded == 3000
    assert stored(url) == {str(number): str(2 * number) for number in range(3000)}


def test_database_that_is_gone_for_good_ends_the_run(restarting: Any) -> None:
    """SinkError with the reason and all outcomes that are not stored; the next run goes on from the others."""
    url = restarting.url(patience=2)
    manager = TaskManager(double, "thread", worker_limit=4, max_in_flight=200, sinks=[url], log_dir=None)
    seen = set()
    began = 0.0
    with pytest.raises(SinkError, match="away for 2 s.*resume=True") as caught, manager.stream(range(2000)) as outcomes:
        for one in outcomes:
            seen.add(one.task)
            if len(seen) == 500:
                restarting.stop()
                began = monotonic()
    assert 2 <= monotonic() - began < 20
    unwritten = {one.task for one in caught.value.unwritten}  # type: ignore[attr-defined]  # SinkError says object
    assert unwritten
    assert unwritten.isdisjoint(seen)
    assert "geh/eim@1" not in str(caught.value)
    assert "geh" not in repr(caught.value)

    restarting.start()
    before = stored(url)
    assert seen <= {int(task) for task in before}
    summary = TaskManager(double, "thread", sinks=[url], resume=True, log_dir=None).start(range(2000))
    assert (summary.restored, summary.succeeded) == (len(before), 2000 - len(before))
    assert len(stored(url)) == 2000


def test_connection_that_is_cut_is_made_again(server: Any) -> None:
    """When the server ends the session of a store, the next batch is stored all the same, in order, under the lock."""
    url = server.url()
    store = make_store(url)
    store.open(RUN)
    try:
        store.write([outcome(1), outcome(2)])
        _cut(server, _session(server, url))
        store.write([outcome(3), outcome(1)])
        with pytest.raises(SinkError, match="in use by this process"):
            make_store(url).open(RUN)
        _cut(server, _session(server, url))
        assert set(store.restore([outcome(number).key for number in range(9)])) == {
            outcome(number).key for number in (1, 2, 3)
        }
    finally:
        store.close(None)
    with make_store(url).reader() as reader:
        assert [row.task for row in reader.rows()] == ["2", "3", "1"]


def test_store_that_another_took_meanwhile_is_given_up(server: Any) -> None:
    """Without its connection a store has no lock; when another has it then, writing is refused with that one's name."""
    url = server.url(patience=0.5)
    first, second = make_store(url), make_store(url)
    first.open(RUN)
    try:
        _cut(server, _session(server, url))
        second.open(RUN)
        with pytest.raises(SinkError, match="in use by this process") as caught:
            first.write([outcome(1)])
        assert len(caught.value.unwritten) == 1
        second.write([outcome(2)])
    finally:
        second.close(None)
        first.close(None)
    assert set(stored(url)) == {"2"}


def test_store_whose_tables_are_gone_says_so(server: Any) -> None:
    """A database that came back empty is no store to go on with."""
    url = server.url()
    store = make_store(url)
    store.open(RUN)
    try:
        store.write([outcome(1)])
        session = _session(server, url)
        server.execute(f"DELETE FROM {_prefix(url)}manifest")
        _cut(server, session)
        with pytest.raises(SinkError, match="came back without"):
            store.write([outcome(2)])
    finally:
        store.close(None)


def test_server_that_is_not_there_is_said_at_once(server: Any, unused_port: int) -> None:
    """A run does not begin, and does not wait, for a database that cannot be reached; its password is shown nowhere."""
    url = server.url().replace(str(server.port), str(unused_port))
    began = monotonic()
    with pytest.raises(SinkError) as caught:
        make_store(url).open(RUN)
    assert monotonic() - began < 15
    assert "geh" not in f"{caught.value!r} {caught.value.__cause__}"


def _session(server: Any, url: str) -> int:
    """The server's number of the session that holds the store at *url*."""
    ((session,),) = server.execute(f"SELECT holder_session FROM {_prefix(url)}manifest")
    return int(session)


def _prefix(url: str) -> str:
    return url.partition("table_prefix=")[2].partition("&")[0]


def _cut(server: Any, session: int) -> None:
    """End a session on the server's side."""
    if server.scheme == "postgresql":
        assert server.execute(f"SELECT pg_terminate_backend({session}, 30000)") == [(True,)]
    else:
        server.execute(f"KILL {session}")
