"""Who may have a store: one process at a time, for the work that it is of; and what it keeps when its holder dies."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from celestialflow_core._digest import digest
from celestialflow_core.errors import SinkError
from celestialflow_core.sinks.interface import Sink, Store
from celestialflow_core.testing._contract.sink_suite import SinkSuite
from celestialflow_core.testing._outcomes import RUN, success, value_of
from celestialflow_core.testing.waiting import wait_until

__all__ = ["HoldingTests"]

Writer = Callable[[int, int], "subprocess.Popen[str]"]
KILLED_AFTER = (1, 4, 12)
"""Batches that a writer has written when it is killed."""


class HoldingTests(SinkSuite):
    """Locks, manifests, endings."""

    def test_second_holder_is_refused_with_the_pid_of_the_first(
        self, new_sink: Callable[[], Sink], writer: Writer
    ) -> None:
        """While another process has the store, opening it is a SinkError that names that process."""
        holder = writer(0, 0)
        assert _line(holder) == "open"

        with pytest.raises(SinkError, match=rf"\b{holder.pid}\b"):
            new_sink().open(RUN)

        holder.communicate("")
        assert holder.returncode == 0
        self._open_in_time(new_sink).write([success(1)])

    def test_dead_holder_blocks_nobody(self, new_sink: Callable[[], Sink], writer: Writer) -> None:
        """A process that was killed with SIGKILL no longer has the store."""
        holder = writer(0, 0)
        assert _line(holder) == "open"
        holder.kill()
        holder.wait()

        self._open_in_time(new_sink).write([success(1)])

    def test_second_sink_of_one_process_is_refused(self, sink: Sink, new_sink: Callable[[], Sink]) -> None:
        """Two runs of one process would undo each other too; the first is not harmed by the attempt."""
        for _ in range(2):
            with pytest.raises(SinkError, match=rf"\b{os.getpid()}\b"):
                new_sink().open(RUN)

        sink.write([success(1)])
        sink.close(None)
        self._open_in_time(new_sink).write([success(2)])

    def test_accepted_is_safe_from_the_death_of_the_writer(self, new_sink: Callable[[], Sink], writer: Writer) -> None:
        """What ``write`` has returned from is in no buffer of the process: after a SIGKILL every row of it is there."""
        process = writer(0, 3)
        said = [_line(process) for _ in range(4)]
        assert said[0] == "open"
        process.kill()
        process.wait()

        sink = self._open_in_time(new_sink)
        if not isinstance(sink, Store):
            pytest.skip("It is no store: it has no restore().")
        keys = {digest(number): number for number in range(int(said[-1]) + 10)}
        found = {keys[key]: record.value for key, record in sink.restore(list(keys)).items()}
        assert found == {number: value_of(number) for number in range(int(said[-1]))}

    @pytest.mark.filterwarnings("ignore:.*last line was incomplete")
    def test_nothing_accepted_is_lost_when_the_writer_is_killed(
        self, new_sink: Callable[[], Sink], writer: Writer
    ) -> None:
        """Killed with SIGKILL in the middle of writing, again and again: all that ``write`` had returned from is there.

        What is there beyond is whole, and the next run goes on.
        """
        accepted = 0
        for batches in KILLED_AFTER:
            process = writer(accepted, -1)
            assert _line(process) == "open"
            for _ in range(batches):
                accepted = int(_line(process))
            process.kill()
            rest, _ = process.communicate()
            accepted = max([accepted, *map(int, rest.split("\n")[:-1])])

            sink = self._open_in_time(new_sink)
            if not isinstance(sink, Store):
                pytest.skip("It is no store: it has no restore().")
            keys = {digest(number): number for number in range(accepted + 1000)}
            found = sink.restore(list(keys))
            assert [number for key, number in keys.items() if number < accepted and key not in found] == []
            assert {keys[key]: record.value for key, record in found.items()} == {
                keys[key]: value_of(keys[key]) for key in found
            }
            between = 0 if batches == KILLED_AFTER[0] else 1
            assert self.count_rows(sink) in (len(found) + between, None)
            sink.write([success("between the runs", batches)])
            sink.close(None)

            accepted = max(accepted, *(keys[key] + 1 for key in found))
            self._check_between(new_sink, batches)

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"version": "2"}, "'1'.*'2'"),
            ({"name": "other"}, "'work'.*'other'"),
            ({"keys": "cf9"}, "cf1.*cf9"),
        ],
    )
    def test_store_of_other_work_is_refused(
        self, sink: Sink, new_sink: Callable[[], Sink], change: dict[str, Any], said: str
    ) -> None:
        """Another version, name or key scheme: a SinkError with both, and what to do; the store is as it was."""
        sink.write([success(1, "kept")])
        sink.close(None)

        for resume in (True, False):
            with pytest.raises(SinkError, match=said) as caught:
                new_sink().open(attrs.evolve(RUN, resume=resume, **change))
            assert "ive a" in str(caught.value)

        store = new_sink()
        store.open(RUN)
        if isinstance(store, Store):
            assert store.restore([digest(1)])[digest(1)].value == "kept"

    def test_stage_may_be_added(self, sink: Sink, reopened: Callable[[Sink], Store], new_sink: Any) -> None:
        """A graph that has grown goes on with its store, and so does a function that has moved."""
        sink.write([success(1, "kept")])
        sink.close(None)
        grown = new_sink()
        grown.open(attrs.evolve(RUN, stages=("work", "more"), target="elsewhere:work"))
        grown.write([success(2, "new")])

        assert len(reopened(grown).restore([digest(1), digest(2)])) == 2

    @pytest.mark.parametrize("error", [None, ValueError("the run failed"), KeyboardInterrupt()])
    def test_close_releases_everything(
        self, sink: Sink, new_sink: Callable[[], Sink], error: BaseException | None
    ) -> None:
        """Whether the run ended well or not; twice is once; what was accepted is kept."""
        sink.write([success(1, "kept")])
        sink.close(error)
        sink.close(error)

        store = new_sink()
        store.open(RUN)
        if isinstance(store, Store):
            assert store.restore([digest(1)])[digest(1)].value == "kept"

    def test_sink_can_be_opened_again(self, sink: Sink) -> None:
        """A manager that runs twice has one sink for both; the second run knows what the first has stored."""
        sink.write([success(1, "a")])
        sink.close(None)
        sink.open(RUN)
        if isinstance(sink, Store):
            assert list(sink.restore([digest(1), digest(2)])) == [digest(1)]
        sink.write([success(2, "b")])
        sink.close(None)
        sink.open(RUN)
        if isinstance(sink, Store):
            assert len(sink.restore([digest(1), digest(2)])) == 2

    def test_sink_that_is_not_open_says_so(self, new_sink: Callable[[], Sink]) -> None:
        """Writing before ``open`` is an error, and closing is none."""
        sink = new_sink()
        with pytest.raises(SinkError) as caught:
            sink.write([success(1)])
        assert "not open" in str(caught.value)
        sink.close(None)

    def _open_in_time(self, new_sink: Callable[[], Sink]) -> Sink:
        """A sink that is open as soon as the store is free: a server may notice late that a client is dead."""

        def opened() -> Sink | None:
            sink = new_sink()
            try:
                sink.open(RUN)
            except SinkError as error:
                if "in use" in str(error):
                    return None
                raise
            return sink

        sink = wait_until(opened, self.patience)
        assert sink is not None
        return sink

    def _check_between(self, new_sink: Callable[[], Sink], batches: int) -> None:
        """The row that was written between two writers is there, whatever the dead one left."""
        sink = self._open_in_time(new_sink)
        assert isinstance(sink, Store)
        assert sink.restore([digest("between the runs")])[digest("between the runs")].value == batches
        sink.close(None)


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()
