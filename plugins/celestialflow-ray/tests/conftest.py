"""One Ray for all tests, of two CPUs on this machine; and clusters of their own for those that end them.

Where a test has Ray to itself, its scripts run in processes apart, since a process has one Ray.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from celestialflow_core.testing import wait_until

os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
"""Tests may run under ``uv run``, from which the clusters that are the user's would make an environment a worker."""

SMALL = {"object_store_memory": 100_000_000, "include_dashboard": False, "log_to_driver": False}
"""What a Ray of the tests is given: /dev/shm may be small."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the long proofs, unless the marker expression speaks of them."""
    if "soak" not in (config.option.markexpr or ""):
        soak = [item for item in items if item.get_closest_marker("soak")]
        config.hook.pytest_deselected(items=soak)
        items[:] = [item for item in items if item not in soak]


@pytest.fixture(scope="session")
def session_ray() -> Iterator[Any]:
    """The user's Ray, of two CPUs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        ray.init(address="local", num_cpus=2, resources={"stove": 2}, logging_level=logging.ERROR, **SMALL)
        yield ray
        ray.shutdown()


@pytest.fixture
def local_ray(session_ray: Any) -> Any:
    """The user's Ray, which a test must not shut down."""
    yield session_ray
    assert session_ray.is_initialized(), "The test has shut down the user's Ray."


class Head:
    """A cluster of one node to begin with, in processes of its own, on the loopback interface."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self._processes: list[subprocess.Popen[bytes]] = []
        port = self.address.rpartition(":")[2]
        self.start("--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={folder / 'ray'}")

    def start(self, *options: str, cpus: int = 2, ready: str = "Ray runtime started") -> subprocess.Popen[bytes]:
        """Start a node, and wait until it has joined."""
        log = self.folder / f"log-{len(self._processes)}"
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", f"--num-cpus={cpus}"]
        command += ["--object-store-memory=100000000", "--disable-usage-stats", *options]
        # The cluster and its drivers are processes of one test: tokens would only be in the way.
        environ = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
        with log.open("wb") as output:
            node = subprocess.Popen(command, stdout=output, stderr=output, env=environ, start_new_session=True)
        self._processes.append(node)

        def joined() -> bool:
            text = log.read_text(errors="replace")
            assert node.poll() is None, text
            return ready in text

        wait_until(joined, 60)
        return node

    def join(self, cpus: int = 1) -> subprocess.Popen[bytes]:
        """One more node."""
        return self.start(f"--address={self.address}", cpus=cpus)

    def kill(self, node: subprocess.Popen[bytes] | None = None) -> None:
        """End a node, or all, as a machine that loses power."""
        for process in [node] if node is not None else self._processes:
            for pid in [*below(process.pid), process.pid]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            process.wait()


def below(pid: int) -> list[int]:
    """The processes below *pid*."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            except OSError:  # it ended while we looked
                continue
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found: list[int] = []
    level = parents.get(pid, [])
    while level:
        found += level
        level = [child for parent in level for child in parents.get(parent, [])]
    return found


@pytest.fixture
def descendants() -> Callable[[int], list[int]]:
    """Gives the processes below one."""
    return below


@pytest.fixture
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """A cluster that the test may end."""
    # Ray's sockets are in it, and their paths must be short.
    made = Head(tmp_path_factory.mktemp("h"))
    try:
        yield made
    finally:
        made.kill()


Script = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    """Starts a script, as a user does; what it begins with is there already."""
    begun: list[subprocess.Popen[str]] = []

    def start(source: str, **environ: str) -> subprocess.Popen[str]:
        path = tmp_path / f"script_{len(begun)}.py"
        path.write_text(f"SMALL = {SMALL!r}\n" + textwrap.dedent(source))
        process = subprocess.Popen(
            [sys.executable, str(path)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environ},
        )  # fmt: skip
        begun.append(process)
        return process

    yield start
    for process in begun:
        if process.poll() is None:
            process.kill()
        process.communicate()
