"""Kills a run again and again, and holds what its functions began against what its store has."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import monotonic

from celestialflow_core.errors import SinkError
from celestialflow_core.sinks import Readable, Row
from celestialflow_core.sinks.interface import Sink
from celestialflow_core.testing._killed_run import fails
from celestialflow_core.testing.waiting import wait_until

__all__ = ["Life", "kill_and_resume"]

MOMENTS = ("begins", "calls", "rows")
"""When a run is killed: so many milliseconds after it began to open its store, or after so many calls, or rows."""


class Life:
    """One store, and the runs that work on it until all is done.

    Args:
        kind: "manager" or "graph".
        mode: How its function is executed.
        url: The store's.
        sink: Makes what reads it.
        folder: Where the runs leave their traces.
        tasks: How many there are.
        patience: Seconds to wait for anything.
    """

    def __init__(
        self, kind: str, mode: str, url: str, sink: Callable[[str], Sink], folder: Path, tasks: int, patience: float
    ) -> None:
        self._arguments = (kind, mode, url, tasks)
        self._url = url
        self._sink = sink
        self._folder = folder
        self._patience = patience
        self._known: set[str] = set()

    @property
    def known(self) -> int:
        """How many rows could be read when they were looked at last."""
        return len(self._known)

    def traced(self, name: str) -> list[str]:
        """The keys in a trace of the runs; a line that was torn by a kill is none."""
        try:
            text = (self._folder / name).read_text()
        except FileNotFoundError:
            return []
        return text.split("\n")[:-1]

    def rows(self) -> list[Row]:
        """What can be read in the store; nothing as long as it is being made."""
        store = self._sink(self._url)
        assert isinstance(store, Readable), "A store is needed that has reader()."
        try:
            with store.reader() as reader:
                return list(reader.rows())
        except SinkError:
            if self._known:
                raise
            return []

    def begun(self) -> subprocess.Popen[str]:
        """A run that goes on with the store, and has come so far as to open it."""
        code = f"from celestialflow_core.testing._killed_run import main; main(*{self._arguments!r})"
        child = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=self._folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        if child.stdout.readline() != "begins\n":
            raise AssertionError(f"The run did not begin:\n{child.communicate()[1]}")
        return child

    def is_at(self, moment: str, more: int, ran: int, began: float, child: subprocess.Popen[str]) -> bool:
        """Whether the run has come so far that it is to be killed, or to its end."""
        if child.poll() is not None:
            return True
        if moment == "rows":
            return len(self.rows()) >= len(self._known) + more
        if moment == "calls":
            return len(self.traced("ran")) >= ran + more
        return monotonic() >= began + more / 1000

    def kill_once(self, moment: str, more: int) -> None:
        """Let a run go on, kill it after *more* of what *moment* counts, and look at what it has left."""
        ran = len(self.traced("ran"))
        child = self.begun()
        try:
            wait_until(partial(self.is_at, moment, more, ran, monotonic(), child), self._patience)
        finally:
            child.send_signal(signal.SIGKILL)
            _, said = child.communicate(timeout=self._patience)
        assert child.returncode in (0, -signal.SIGKILL), said
        self.check(ran)

    def end(self) -> tuple[int, int]:
        """Let a run come to its end; how many outcomes it had, and how many of them were restored."""
        ran = len(self.traced("ran"))
        child = self.begun()
        out, said = child.communicate(timeout=2 * self._patience)
        assert child.returncode == 0, said
        self.check(ran)
        total, restored = map(int, out.split())
        return total, restored

    def check(self, ran: int) -> None:
        """Hold the calls since *ran*, and all outcomes that came, against the rows."""
        again = self._known.intersection(self.traced("ran")[ran:])
        assert not again, f"These ran although their rows could be read: {sorted(again)[:5]}"
        keys = Counter(row.key for row in self.rows())
        twice = [key for key, times in keys.items() if times > 1]
        assert not twice, f"These have several rows: {twice[:5]}"
        gone = self._known - keys.keys()
        assert not gone, f"These could be read, and are gone: {sorted(gone)[:5]}"
        lost = set(self.traced("came")) - keys.keys()
        assert not lost, f"The run gave these away, and they are not stored: {sorted(lost)[:5]}"
        self._known = set(keys)


def kill_and_resume(life: Life, kind: str, tasks: int, kills: int, dice: random.Random) -> None:
    """Kill the runs of *life* so often, and then let one come to its end."""
    moments: list[str] = []
    while len(moments) < kills:
        moments += dice.sample(MOMENTS, len(MOMENTS))
    for moment in moments[:kills]:
        life.kill_once(moment, dice.randrange(1, max(2, tasks // (kills + 1))))
    known = life.known
    total, restored = life.end()
    assert restored == known, f"{known} rows could be read, and {restored} were restored."
    assert total == life.known, f"There are {total} outcomes, and {life.known} rows."
    _expect(kind, tasks, life.rows())


def _expect(kind: str, tasks: int, rows: Sequence[Row]) -> None:
    found = Counter((row.stage, row.status) for row in rows)
    failed = sum(map(fails, range(tasks)))
    if kind == "manager":
        wanted = {("work", "success"): tasks - failed, ("work", "error"): failed}
        values = {row.task: row.value for row in rows}
        kept = {str(task): None if fails(task) else f'[{task},"{"x" * (task % 7)}"]' for task in range(tasks)}
        assert values == kept, "The store has other values than the run."
    else:
        wanted = {(name, "success"): tasks for name in ("fetch", "links", "keep")}
        wanted |= {("seed", "success"): 1, ("gather", "success"): 1}
        sums = [row.value for row in rows if row.stage == "gather"]
        assert sums == [str(tasks * tasks)], f"The gather gave {sums}, not {tasks * tasks}."
    assert found == wanted, f"In the store are {dict(found)}, not {wanted}."
