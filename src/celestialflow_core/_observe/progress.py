"""Shows how far a run has come: a bar on a terminal or in a notebook, and elsewhere a line every half minute.

Where nobody can see a bar, its carriage returns would make one endless line of a log file. All is written in the
caller's thread when a batch settles; there is no thread that watches. A display that cannot be written ends itself, and
never the run.
"""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TextIO

from celestialflow_core._observe.interface import RunInfo, Settled, Summary
from celestialflow_core._observe.tally import Tally, duration

__all__ = ["ProgressManager"]

Clock = Callable[[], float]


class _View(Protocol):
    """One way of showing a tally."""

    def update(self, size: int) -> None: ...
    def close(self, size: int) -> None: ...


class ProgressManager:
    """The progress of a run, on stderr.

    Args:
        desc: What to write in front; None: what the run says.
        total: How many tasks there will be; None: what the run says.
        stream: Where to write; None: what ``sys.stderr`` is when the run starts.
        interval: Seconds from line to line where a bar cannot be shown.
        clock: Gives seconds, and does not jump.
    """

    def __init__(
        self,
        desc: str | None = None,
        total: int | None = None,
        *,
        stream: TextIO | None = None,
        interval: float = 30.0,
        clock: Clock = time.monotonic,
    ) -> None:
        self.error: Exception | None = None
        """What ended the display before the run, if anything did."""
        self.tally: Tally = Tally(total, 0.0)
        self._desc = desc
        self._total = total
        self._stream = stream
        self._interval = interval
        self._clock = clock
        self._view: _View | None = None

    def start(self, run: RunInfo) -> None:
        """Show the display."""
        total = run.total if self._total is None else self._total
        desc = run.desc if self._desc is None else self._desc
        self.tally = Tally(total, self._clock())
        self.error = None
        try:
            self._view = self._open(desc)
        except Exception as error:
            self._drop(error)

    def settled(self, batch: Settled) -> None:
        """Count a batch, and show it if it is time to."""
        size = self.tally.add(batch, self._clock())
        if self._view is not None:
            try:
                self._view.update(size)
            except Exception as error:
                self._drop(error)

    def retried(self, task: Any, error: BaseException, attempt: int, delay: float) -> None:
        """Count a retry; it is shown with the next batch."""
        self.tally.retried += 1

    def finish(self, summary: Summary | None) -> None:
        """Show the final numbers, and let go of the stream."""
        tally = self.tally
        missed = 0 if summary is None else summary.total - tally.n
        tally.n += missed
        if tally.total is None or tally.total < tally.n:
            tally.total = tally.n
        view, self._view = self._view, None
        if view is not None:
            try:
                view.close(missed)
            except Exception as error:
                self._drop(error)

    @contextmanager
    def above(self) -> Iterator[None]:
        """What is written to the terminal meanwhile, from any thread, stands above the bar."""
        bar = self._view.bar if isinstance(self._view, _Bar) else None
        if bar is None or not hasattr(type(bar), "external_write_mode"):
            yield
            return
        with type(bar).external_write_mode(file=bar.fp):
            yield

    def _drop(self, error: Exception) -> None:
        # A closed stream, a full disk behind it, a widget whose kernel is gone: no reason to end a run.
        # Kept without its traceback, whose frames would hold on to the display.
        self.error = error.with_traceback(None)
        self._view = None

    def _open(self, desc: str) -> _View | None:
        kernel = self._stream is None and _in_kernel()
        if kernel and _imports("ipywidgets"):
            from celestialflow_core._observe.bars import notebook_bar

            return _Bar(notebook_bar(self.tally, desc, self._clock), self.tally)
        stream = sys.stderr if self._stream is None else self._stream
        if not _usable(stream):
            return None
        if kernel or stream.isatty():
            from celestialflow_core._observe.bars import text_bar

            return _Bar(text_bar(self.tally, desc, self._clock, stream), self.tally)
        return _Text(self.tally, desc, stream, self._interval, self._clock)


class _Bar:
    """A bar of tqdm."""

    def __init__(self, bar: Any, tally: Tally) -> None:
        self.bar = bar
        self.tally = tally

    def update(self, size: int) -> None:
        self.bar.total = self.tally.total
        self.bar.set_postfix_str(self.tally.parts(), refresh=False)
        self.bar.update(size)

    def close(self, size: int) -> None:
        bar, tally = self.bar, self.tally
        bar.ended = True
        bar.total = tally.total
        bar.n += size
        bar.set_postfix_str(tally.parts(), refresh=False)
        if bar.is_widget:
            bar.refresh()
        # On a terminal it leaves its line where the cursor is, and the first of several bars is closed first. Were it
        # drawn in its old place once more, that would be below by as many lines as have been left.
        bar.close()


class _Text:
    """A line from time to time, for a log file or the output of a build."""

    def __init__(self, tally: Tally, desc: str, stream: TextIO, interval: float, clock: Clock) -> None:
        self.tally = tally
        self.desc = desc
        self.stream = stream
        self.interval = interval
        self.clock = clock
        self.due = tally.started + interval

    def update(self, size: int) -> None:
        now = self.clock()
        if now < self.due:
            return
        self.due = now + self.interval
        tally = self.tally
        done = f"{tally.n} tasks"
        if tally.total:
            done = f"{tally.n} of {tally.total} tasks ({100 * tally.n / tally.total:.0f} %)"
        left = tally.remaining(now)
        self.write(done, tally.rate(now), "" if left is None else f", {duration(left)} left")

    def close(self, size: int) -> None:
        now = self.clock()
        done = f"{self.tally.n} of {self.tally.total} tasks in {duration(now - self.tally.started)}"
        self.write(done, self.tally.mean_rate(now), "")

    def write(self, done: str, rate: float | None, rest: str) -> None:
        speed = "" if rate is None else f", {rate:.1f}/s"
        self.stream.write(f"{self.desc}: {done}{speed}, {self.tally.parts()}{rest}\n")
        self.stream.flush()


def _in_kernel() -> bool:
    """True in a notebook, where IPython has been imported by whoever runs us, and runs a kernel."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


def _imports(module: str) -> bool:
    try:
        __import__(module)
    except ImportError:
        return False
    return True


def _usable(stream: TextIO | None) -> bool:
    """False for no stream, a closed one, and one whose descriptor was closed under it."""
    if stream is None or stream.closed:
        return False
    try:
        os.fstat(stream.fileno())
    except (io.UnsupportedOperation, AttributeError):
        return True  # it writes elsewhere than to a descriptor
    except OSError:
        return False
    return True
