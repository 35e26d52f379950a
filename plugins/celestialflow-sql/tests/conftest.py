"""Real servers, started for the tests in a folder of their own; where a program is missing, the skip says which.

initdb and mariadbd refuse to work for root, so for root they run as the user whom their package has made.
"""

from __future__ import annotations

import glob
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import psycopg
import pymysql
import pytest

from celestialflow_core.testing import wait_until

_NUMBERS = itertools.count(1)


class Server(ABC):
    """A database server on the loopback interface, with a database "test", and a user "ana" who has a password."""

    scheme: ClassVar[str]
    package: ClassVar[str]
    user: ClassVar[str]
    password = "geh/eim@1"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._process: subprocess.Popen[Any] | None = None
        self.make()
        self.start()
        self.make_user()

    @abstractmethod
    def make(self) -> None:
        """Make the files of the server."""

    @abstractmethod
    def make_user(self) -> None:
        """Make the user and the database, in the server that runs."""

    @abstractmethod
    def command(self) -> list[str]:
        """What starts it."""

    @abstractmethod
    def execute(self, *statements: str, database: str | None = "test", **account: str) -> list[tuple[Any, ...]]:
        """What the last of *statements* gives."""

    def url(self, **options: object) -> str:
        """The URL of a new store."""
        given = {"table_prefix": f"t{next(_NUMBERS)}_", **options}
        query = "&".join(f"{name}={value}" for name, value in given.items())
        return f"{self.scheme}://ana:geh%2Feim%401@127.0.0.1:{self.port}/test?{query}"

    @property
    def is_running(self) -> bool:
        """Whether it was started, and not stopped since."""
        return self._process is not None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with open(self.folder / "log", "ab") as log:
            command, account = self.command(), _account(self)
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, text=False, **account)
        wait_until(self._answers, 60)

    def stop(self) -> None:
        """Kill it, as a machine that fails does."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGQUIT if self.scheme == "postgresql" else signal.SIGKILL)
            process.wait()

    def run(self, *command: str | Path) -> None:
        """Run a program of the server's."""
        done = subprocess.run(
            command, cwd=self.folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
            **_account(self),
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{command[0]} failed:\n{done.stdout[-2000:]}")

    def _answers(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"It did not start:\n{(self.folder / 'log').read_text(errors='replace')[-2000:]}")
        try:
            self.execute("SELECT 1", database=None)
        except (psycopg.OperationalError, pymysql.OperationalError):
            return False
        return True


class PostgreSQLServer(Server):
    """PostgreSQL, without fsync: what the tests kill is the server, not the machine."""

    scheme = "postgresql"
    package = "postgresql"
    user = "postgres"

    def make(self) -> None:
        """A cluster."""
        self.run(
            _program("initdb", self.package), "-D", "data", "-U", "root", "-A", "trust", "-E", "UTF8", "--locale", "C",
            "--no-sync",
        )  # fmt: skip
        (self.folder / "data" / "pg_hba.conf").write_text(
            "host all root 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        )

    def make_user(self) -> None:
        """A user, who owns the database."""
        self.execute(f"CREATE ROLE ana LOGIN PASSWORD '{self.password}'", database=None)
        self.execute("CREATE DATABASE test OWNER ana", database=None)

    def command(self) -> list[str]:
        """The server itself, in the foreground."""
        settings: dict[str, object] = {"port": self.port, "listen_addresses": "127.0.0.1", "fsync": "off"}
        settings |= {"unix_socket_directories": "", "shared_buffers": "32MB"}
        given = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [_program("postgres", self.package), "-D", "data", *given]

    def execute(self, *statements: str, database: str | None = "test", **account: str) -> list[tuple[Any, ...]]:
        """Each in a transaction of its own, as the user root."""
        known: dict[str, Any] = {"user": "root", "dbname": database or "postgres", **account}
        with psycopg.connect(
            host="127.0.0.1", port=self.port, autocommit=True, connect_timeout=5, **known
        ) as connection:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []


class MariaDBServer(Server):
    """MariaDB."""

    scheme = "mariadb"
    package = "mariadb-server"
    user = "mysql"

    def make(self) -> None:
        """The system tables, with a root who needs no password."""
        self.run(
            _program("mariadb-install-db", self.package), "--no-defaults", f"--datadir={self.folder / 'data'}",
            "--auth-root-authentication-method=normal", "--skip-test-db",
        )  # fmt: skip

    def make_user(self) -> None:
        """A user, and a database in which that may do all."""
        self.execute(
            "CREATE DATABASE test",
            f"CREATE USER ana@'127.0.0.1' IDENTIFIED BY '{self.password}'",
            "GRANT ALL ON test.* TO ana@'127.0.0.1'",
            database=None,
        )

    def command(self) -> list[str]:
        """The server itself, in the foreground."""
        return [
            _program("mariadbd", self.package), "--no-defaults", f"--datadir={self.folder / 'data'}",
            f"--port={self.port}", "--bind-address=127.0.0.1", f"--socket={self.folder / 'socket'}",
            f"--pid-file={self.folder / 'pid'}", "--innodb-flush-log-at-trx-commit=2", "--skip-name-resolve",
            "--innodb-buffer-pool-size=32M",
        ]  # fmt: skip

    def execute(self, *statements: str, database: str | None = "test", **account: str) -> list[tuple[Any, ...]]:
        """Each in a transaction of its own, as the user root."""
        known: dict[str, Any] = {"user": "root", "database": database, **account}
        connection = pymysql.connect(host="127.0.0.1", port=self.port, autocommit=True, connect_timeout=5, **known)
        with connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())


def _program(name: str, package: str) -> str:
    """Where the program is, or a skip: Debian keeps those of PostgreSQL out of the PATH."""
    found = shutil.which(name, path=os.pathsep.join([*sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True),
                                                     os.environ.get("PATH", ""), "/usr/sbin"]))  # fmt: skip
    if found is None:
        pytest.skip(f"{name} is not installed: apt-get install {package}")
    return found


def _account(server: Server) -> dict[str, Any]:
    """As whom a server's programs run: not as root."""
    if os.geteuid() != 0:
        return {}
    try:
        pwd.getpwnam(server.user)
    except KeyError:
        pytest.skip(f"There is no user {server.user}: apt-get install {server.package}")
    return {"user": server.user, "group": server.user, "extra_groups": []}


def _running(kind: type[Server]) -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="celestialflow-sql-"))  # pytest's own folders are closed to other users
    try:
        if os.geteuid() == 0 and kind.user in {entry.pw_name for entry in pwd.getpwall()}:
            shutil.chown(folder, kind.user, kind.user)
        server = kind(folder)
        yield server
        server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A PostgreSQL server for all tests."""
    yield from _running(PostgreSQLServer)


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Server]:
    """A MariaDB server for all tests."""
    yield from _running(MariaDBServer)


@pytest.fixture(params=["postgresql", "mariadb"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each of them."""
    made: Server = request.getfixturevalue(request.param)
    return made


@pytest.fixture
def unused_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port
