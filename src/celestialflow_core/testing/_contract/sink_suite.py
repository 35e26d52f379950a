"""What the tests of `SinkContract` stand on: a store of its own for each test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from celestialflow_core.sinks import Readable, resolve_sink
from celestialflow_core.sinks.interface import Sink, Store
from celestialflow_core.testing._outcomes import RUN
from celestialflow_core.testing.leaks import Resources

__all__ = ["SinkSuite"]


class SinkSuite:
    """What a subclass says of its sink, and the fixtures that all tests use.

    Attributes:
        url: The sink's URL, in which ``{folder}`` stands for a folder that each test has anew.
        patience: Seconds to wait for what must come. Raise it for a system that is slow to notice a dead client.
    """

    url: str = ""
    patience: float = 60.0

    def make_url(self, folder: Path) -> str:
        """The URL of a store that is new; called once a test. A process apart must be able to open it too."""
        if not self.url:
            raise TypeError(f"{type(self).__name__} must define url, or make_url(self, folder).")
        return self.url.format(folder=folder)

    def make_sink(self, url: str) -> Sink:
        """A new sink for the store at *url*: what the plugin that is installed makes of it."""
        return resolve_sink(url)

    def warm_up(self) -> None:
        """Called before each test begins to look for leaks: start here what a foreign client keeps for good."""

    def leak_allowance(self, leak: str) -> bool:
        """Whether *leak* is a thing that a foreign client is known to leave."""
        return False

    @pytest.fixture
    def store_url(self, tmp_path: Path) -> str:
        """The URL of the test's store."""
        return self.make_url(tmp_path)

    @pytest.fixture
    def new_sink(self, store_url: str) -> Iterator[Callable[[], Sink]]:
        """Makes sinks for the test's store; closes them in the end, and checks that nothing is left of any."""
        self.warm_up()
        before = Resources()
        sinks: list[Sink] = []

        def make() -> Sink:
            sinks.append(self.make_sink(store_url))
            return sinks[-1]

        yield make
        for sink in sinks:
            sink.close(None)
        before.expect_no_leaks(self.leak_allowance)

    @pytest.fixture
    def sink(self, new_sink: Callable[[], Sink]) -> Sink:
        """A sink for the test's store, opened."""
        made = new_sink()
        made.open(RUN)
        return made

    @pytest.fixture
    def reopened(self, new_sink: Callable[[], Sink]) -> Callable[[Sink], Store]:
        """Closes a sink, and gives another one that is opened for the same store."""

        def reopen(sink: Sink) -> Store:
            sink.close(None)
            again = new_sink()
            if not isinstance(again, Store):
                pytest.skip("It is no store: it has no restore().")
            again.open(RUN)
            return again

        return reopen

    @pytest.fixture
    def writer(self, store_url: str) -> Iterator[Callable[[int, int], subprocess.Popen[str]]]:
        """Starts a process that opens the test's store, says "open", and writes batches, naming each that is accepted.

        Its arguments are the number of the first task, and how many batches to write; a negative number has no end.
        """
        started: list[subprocess.Popen[str]] = []

        def start(first: int, batches: int) -> subprocess.Popen[str]:
            environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            command = [sys.executable, "-m", "celestialflow_core.testing._writer", store_url, str(first), str(batches)]
            started.append(
                subprocess.Popen(command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            return started[-1]

        yield start
        for process in started:
            process.kill()
            process.communicate()

    @staticmethod
    def count_rows(sink: Sink) -> int | None:
        """How many rows the store of *sink* has, or None where it cannot be read. Override for a store of your own."""
        if not isinstance(sink, Readable):
            return None
        with sink.reader() as reader:
            return reader.count()
