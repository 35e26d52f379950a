"""The tables of a store, who may use them, and what the command line makes of them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest

from celestialflow_core import Outcome, TaskManager
from celestialflow_core.errors import SinkError
from celestialflow_core.sinks import Manifest
from celestialflow_core.testing import wait_until
from celestialflow_sql import make_store

RUN = Manifest(name="work", stages=("work",), resume=True)
FORKING = """
import os, signal, sys
from celestialflow_sql import make_store
from celestialflow_core.sinks import Manifest
store = make_store(sys.argv[1])
store.open(Manifest(name="work", stages=("work",)))
child = os.fork()
if not child:
    del store
    signal.pause()
    os._exit(0)
print(child, flush=True)
signal.pause()
"""


def outcome(number: int, key: str | None = None) -> Outcome[int, int]:
    """The outcome of a task."""
    return Outcome(0, number, "success", 2 * number, key=key or f"cf1:{number:032x}", stage="work")


def test_table_of_something_else_is_refused(server: Any) -> None:
    """A table that has the name and not the columns is left alone; the message says which, and how to have others."""
    url = server.url()
    prefix = _prefix(url)
    server.execute(f"CREATE TABLE {prefix}results (id integer)", f"INSERT INTO {prefix}results VALUES (7)")
    if server.scheme == "postgresql":
        server.execute(f"GRANT ALL ON {prefix}results TO ana")
    with pytest.raises(SinkError, match=f"{prefix}results belongs to something else.*table_prefix"):
        make_store(url).open(RUN)
    assert server.execute(f"SELECT * FROM {prefix}results") in ([(7,)], ((7,),))


@pytest.mark.parametrize(
    ("change", "said"),
    [("tables_version = 99", "version 99.*table_prefix"), ("json = '{'", "cannot be read.*Give a new store")],
)
def test_store_of_another_version_is_refused(server: Any, change: str, said: str) -> None:
    """With what to do, for a run and for a reader."""
    url = _filled(server)
    server.execute(f"UPDATE {_prefix(url)}manifest SET {change}")
    with pytest.raises(SinkError, match=said):
        make_store(url).open(RUN)
    with pytest.raises(SinkError, match=said):
        make_store(url).reader().__enter__()


def test_user_without_rights_is_told_so(server: Any) -> None:
    """Who may read the database and not write to it gets the server's words, and what to grant."""
    url = server.url().replace("ana:geh%2Feim%401", "guest:gast")
    if server.scheme == "postgresql":
        server.execute("DROP ROLE IF EXISTS guest", "CREATE ROLE guest LOGIN PASSWORD 'gast'")
    else:
        server.execute(
            "CREATE OR REPLACE USER guest@'127.0.0.1' IDENTIFIED BY 'gast'",
            "GRANT SELECT ON test.* TO guest@'127.0.0.1'",
        )
    with pytest.raises(SinkError, match=r"denied.*Grant it"):
        make_store(url).open(RUN)
    with pytest.raises(SinkError, match=r"Nothing has been stored"):
        make_store(url).reader().__enter__()
    with pytest.raises(SinkError, match=r"failed|denied") as caught:
        make_store(url.replace("gast", "wrong-one")).open(RUN)
    assert "wrong-one" not in str(caught.value)


def test_holder_elsewhere_is_named_with_its_machine(server: Any) -> None:
    """A pid means something only with the machine it is on; ours is not said."""
    url = server.url()
    store = make_store(url)
    store.open(RUN)
    try:
        with pytest.raises(SinkError, match=rf"this process \(pid {os.getpid()}\)"):
            make_store(url).open(RUN)
        server.execute(f"UPDATE {_prefix(url)}manifest SET holder_pid = 4711")
        server.execute(f"UPDATE {_prefix(url)}manifest SET holder_host = 'far.example'")
        with pytest.raises(SinkError, match=r"pid 4711 on far\.example"):
            make_store(url).open(RUN)
    finally:
        store.close(None)


def test_stores_of_one_database_do_not_know_each_other(server: Any) -> None:
    """Each table_prefix is a store of its own, with a lock of its own."""
    one, other = make_store(server.url()), make_store(server.url())
    one.open(RUN)
    other.open(attrs.evolve(RUN, name="other"))
    try:
        one.write([outcome(1)])
        assert other.restore([outcome(1).key]) == {}
    finally:
        one.close(None)
        other.close(None)


def test_fork_of_a_dead_holder_does_not_keep_the_store(server: Any) -> None:
    """A child that the user's code forked has no share in the connection: it neither keeps the lock nor drops it."""
    url = server.url()
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", FORKING, url]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        child = int(holder.stdout.readline())
        try:
            with pytest.raises(SinkError, match=str(holder.pid)):
                make_store(url).open(RUN)
            holder.kill()
            holder.wait()
            os.kill(child, 0)
            store = make_store(url)
            wait_until(lambda: _opens(store), 30)
            store.close(None)
            os.kill(child, 0)
        finally:
            holder.kill()
            os.kill(child, signal.SIGKILL)


def test_value_that_the_server_never_takes_is_said_at_once(mariadb: Any) -> None:
    """MariaDB cuts the connection over a packet that is too large: no reason to try again for half a minute."""
    url = mariadb.url()
    store = make_store(url)
    store.open(RUN)
    try:
        store.write([attrs.evolve(outcome(1), value="x" * 3_000_000)])
        with pytest.raises(SinkError, match=r"task 2 gave has 17,\d+,\d+ bytes.*max_allowed_packet") as caught:
            store.write([outcome(3), attrs.evolve(outcome(2), value="x" * 17_000_000)])
        assert len(caught.value.unwritten) == 2
        store.write([outcome(4)])
        assert len(store.restore([outcome(number).key for number in range(5)])) == 2
    finally:
        store.close(None)


def test_keys_are_compared_byte_by_byte(server: Any) -> None:
    """Case, a space at the end and an accent make another key; what no text in a database can have is kept too."""
    keys = ["k@a", "k@A", "k@a ", "k@á", "k@a\u0301", "k@", "k@\0", "k@\ud800", "k@💩"]
    store = make_store(server.url())
    store.open(RUN)
    try:
        store.write([outcome(number, key) for number, key in enumerate(keys)])
        found = store.restore(keys)
        assert {key: record.value for key, record in found.items()} == {key: 2 * n for n, key in enumerate(keys)}
    finally:
        store.close(None)


def test_reader_sees_one_state(server: Any) -> None:
    """What is stored while somebody reads is not in what he reads, page after page; his next look has it."""
    url = server.url()
    store = make_store(url)
    store.open(RUN)
    try:
        store.write([outcome(number) for number in range(1200)])
        with store.reader() as reader:
            rows = reader.rows()
            first = next(rows)
            store.write([outcome(0), outcome(5000)])
            assert [first.task, *(row.task for row in rows)] == [str(number) for number in range(1200)]
            assert reader.count() == 1200
        with store.reader() as reader:
            assert [row.task for row in reader.rows()] == [str(number) for number in [*range(1, 1200), 0, 5000]]
        assert store.restore([f"cf1:{number:032x}" for number in range(1200)]).keys() == {
            f"cf1:{number:032x}" for number in range(1200)
        }
    finally:
        store.close(None)


def test_command_line_reads_and_merges(server: Any, tmp_path: Path) -> None:
    """``run``, ``failures``, ``results`` and ``merge`` take the URL as they take a file."""
    url, other = server.url(), server.url()
    done = _command("run", "--store", url, "math:sqrt", "--", "4", "9", "-1", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "geh" not in done.stdout + done.stderr
    failures = _command("failures", url, cwd=tmp_path)
    assert "ValueError" in failures.stdout, failures.stderr
    assert "geh" not in failures.stdout + failures.stderr

    merged = _command("merge", url, "-o", other, cwd=tmp_path)
    assert merged.returncode == 0, merged.stderr
    assert "geh" not in merged.stdout + merged.stderr
    results = _command("results", other, cwd=tmp_path)
    assert "2.0" in results.stdout
    assert "3.0" in results.stdout


def test_failed_tasks_run_again(server: Any) -> None:
    """``resume=True`` restores what succeeded and runs what failed; its row is replaced."""
    url = server.url()
    broken = {3, 5}

    def work(number: int) -> int:
        if number in broken:
            raise ValueError(number)
        return number

    manager = TaskManager(work, "thread", sinks=[url], resume=True, log_dir=None, enable_success_cache=True)
    first = manager.start(range(10))
    assert (first.succeeded, first.failed, first.restored) == (8, 2, 0)
    broken.clear()
    second = manager.start(range(10))
    assert (second.succeeded, second.failed, second.restored) == (2, 0, 8)
    assert manager.get_success_dict() == {number: number for number in range(10)}
    with make_store(url).reader() as reader:
        assert reader.count() == 10
        assert list(reader.rows(status="error")) == []


def _command(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("celestialflow", path=os.path.dirname(sys.executable))
    assert program is not None
    return subprocess.run([program, *args], cwd=cwd, capture_output=True, text=True, check=False)


def _filled(server: Any) -> str:
    """The URL of a store with one row."""
    url: str = server.url()
    store = make_store(url)
    store.open(RUN)
    store.write([outcome(1)])
    store.close(None)
    return url


def _opens(store: Any) -> bool:
    try:
        store.open(RUN)
    except SinkError:
        return False
    return True


def _prefix(url: str) -> str:
    return url.partition("table_prefix=")[2].partition("&")[0]
