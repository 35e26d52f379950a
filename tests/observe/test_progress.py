"""Progress: the right numbers at the end, in a form that suits where they are shown, and never an error."""

from __future__ import annotations

import gc
import io
import os
import pty
import re
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import tqdm
from hypothesis import given
from hypothesis import strategies as st

from celestialflow_core._observe.interface import RunInfo, Settled
from celestialflow_core._observe.progress import ProgressManager
from celestialflow_core._observe.tally import Tally, duration

pytestmark = pytest.mark.pure


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def run(total: int | None = None) -> RunInfo:
    return RunInfo(name="f", mode="thread", workers=4, total=total, desc="Fetching")


def batch(ok: int = 0, failed: int = 0, duplicates: int = 0) -> Settled:
    others = [SimpleNamespace(status="error")] * failed + [SimpleNamespace(status="duplicate")] * duplicates
    return Settled(ids=range(ok), tasks=range(ok), others=others)


def summary(total: int) -> Any:
    return SimpleNamespace(total=total)


batches = st.lists(st.builds(batch, *[st.integers(min_value=0, max_value=2000)] * 3), max_size=20)


@pytest.mark.parametrize("kind", [Terminal, io.StringIO])
@pytest.mark.parametrize("known", [True, False, "too few", "too many"])
@given(sizes=batches, missed=st.integers(min_value=0, max_value=3))
def test_progress_ends_at_the_total(kind: type[io.StringIO], known: Any, sizes: list[Settled], missed: int) -> None:
    """Whatever the batches, and whatever total was announced, the final number is that of the summary."""
    total = sum(len(size.tasks) + len(size.others) for size in sizes) + missed
    announced = {True: total, False: None, "too few": total // 2, "too many": total + 10}[known]
    stream = kind()
    progress = ProgressManager(stream=stream)
    progress.start(run(announced))
    for size in sizes:
        progress.settled(size)
    bar = getattr(progress._view, "bar", None)
    progress.finish(summary(total))
    whole = total + 10 if known == "too many" else total
    assert progress.error is None
    assert (progress.tally.n, progress.tally.total) == (total, whole)
    if bar is not None:
        assert (bar.n, bar.total, bar.disable) == (total, whole, True)
    last = re.split("[\r\n]", stream.getvalue().rstrip())[-1]
    if bar is None:
        assert f"Fetching: {total} of {whole} tasks" in last
    else:
        assert (f"{total}/{whole}" if whole else "0it") in last


def test_progress_line_has_rate_errors_and_time_left() -> None:
    """Away from a terminal there is a line every interval, and one at the end, without carriage returns."""
    clock, stream = Clock(), io.StringIO()
    progress = ProgressManager(stream=stream, clock=clock)
    progress.start(run(1000))
    for _ in range(65):
        clock.now += 1
        progress.settled(batch(ok=9, failed=1))
    progress.retried("task", KeyError(), 1, 0.0)
    progress.finish(summary(650))
    assert stream.getvalue().splitlines() == [
        "Fetching: 300 of 1000 tasks (30 %), 10.0/s, ok=270 failed=30, 1:10 left",
        "Fetching: 600 of 1000 tasks (60 %), 10.0/s, ok=540 failed=60, 0:40 left",
        "Fetching: 650 of 1000 tasks in 1:05, 10.0/s, ok=585 failed=65 retried=1",
    ]
    assert "\r" not in stream.getvalue()


def test_progress_line_without_total_has_no_time_left() -> None:
    """Where nobody knows how many there are, none is said to be left."""
    clock, stream = Clock(), io.StringIO()
    progress = ProgressManager("Reading", stream=stream, interval=5, clock=clock)
    progress.start(run())
    clock.now += 5
    progress.settled(batch(ok=10))
    progress.finish(None)
    assert stream.getvalue().splitlines() == [
        "Reading: 10 tasks, 2.0/s, ok=10",
        "Reading: 10 of 10 tasks in 0:05, 2.0/s, ok=10",
    ]


def test_progress_of_nothing() -> None:
    """A run without tasks, in no time, ends with a line that says so."""
    stream = io.StringIO()
    progress = ProgressManager(stream=stream, clock=Clock())
    progress.start(run(0))
    progress.finish(summary(0))
    assert stream.getvalue() == "Fetching: 0 of 0 tasks in 0:00, ok=0\n"


def test_progress_arguments_win_over_the_run() -> None:
    """What the constructor is given is shown in place of what the run says."""
    progress = ProgressManager("Mine", 7, stream=io.StringIO())
    progress.start(run(3))
    progress.finish(summary(3))
    assert progress.tally.total == 7
    assert progress._stream is not None
    assert progress._stream.getvalue().startswith("Mine: 3 of 7 tasks")  # type: ignore[attr-defined]


def test_tally_rate_counts_what_was_run() -> None:
    """Duplicates and cancelled tasks take no time, so they count as done but not as speed."""
    tally = Tally(10_000, 0.0)
    for second in range(1, 200):
        tally.add(batch(ok=2, failed=1, duplicates=40), float(second))
    rate, mean = tally.rate(199.0), tally.mean_rate(199.0)
    assert rate is not None
    assert rate == pytest.approx(3.0)
    assert mean == 3.0
    assert tally.n == 199 * 43
    assert tally.remaining(199.0) == pytest.approx((10_000 - 199 * 43) / rate)


def test_tally_rate_follows_a_change() -> None:
    """A run that turns slow shows it, while it is stuck as well."""
    tally = Tally(None, 0.0)
    assert tally.rate(0.0) is None
    for second in range(1, 101):
        tally.add(batch(ok=100), float(second))
    fast = tally.rate(100.0)
    for second in range(101, 201):
        tally.add(batch(ok=10), float(second))
    slow, stuck = tally.rate(200.0), tally.rate(240.0)
    assert fast is not None
    assert slow is not None
    assert stuck is not None
    assert fast == pytest.approx(100)
    assert slow == pytest.approx(10, rel=0.1)
    assert stuck < slow / 5
    assert tally.remaining(200.0) is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (7.4, "0:07"), (59.6, "1:00"), (750, "12:30"), (3600 * 30 + 61, "30:01:01")]
)
def test_duration_is_a_clock(seconds: float, text: str) -> None:
    """Seconds as minutes, and hours where there are any."""
    assert duration(seconds) == text


def test_bar_shows_our_rate_and_counts() -> None:
    """tqdm's own rate, which would count duplicates, is replaced; the postfix has the counts."""
    clock, stream = Clock(), Terminal()
    progress = ProgressManager(stream=stream, clock=clock)
    progress.start(run(4000))
    clock.now += 10
    progress.retried("task", KeyError(), 1, 0.0)
    progress.settled(batch(ok=15, failed=5, duplicates=1980))
    bar = progress._view.bar  # type: ignore[union-attr]
    assert bar.format_dict["rate"] == pytest.approx(progress.tally.rate(clock.now))
    clock.now += 10
    progress.finish(summary(2000))
    assert bar.format_dict["rate"] == 1.0
    last = re.split("[\r\n]", stream.getvalue().rstrip())[-1]
    assert "Fetching:  50%" in last
    assert "1.00it/s, ok=15 failed=5 retried=1" in last


def test_bar_starts_no_thread_and_leaves_no_bar() -> None:
    """tqdm's monitor thread, which outlives a bar, is never started, and no bar is left registered."""
    before = set(threading.enumerate())
    progress = ProgressManager(stream=Terminal())
    progress.start(run(10))
    assert set(threading.enumerate()) == before
    progress.settled(batch(ok=10))
    progress.finish(summary(10))
    assert set(threading.enumerate()) == before
    assert not [bar for bar in tqdm.tqdm._instances if not bar.disable]


@pytest.mark.parametrize("kind", [Terminal, io.StringIO])
@pytest.mark.parametrize("moment", ["before", "during", "at the end"])
def test_progress_survives_a_closed_stream(kind: type[io.StringIO], moment: str) -> None:
    """A stream that is closed, at whatever moment, ends the display and not the run."""
    stream, clock = kind(), Clock()
    progress = ProgressManager(stream=stream, interval=0.0, clock=clock)
    if moment == "before":
        stream.close()
    progress.start(run(3))
    progress.settled(batch(ok=1))
    if moment == "during":
        stream.close()
    for _ in range(3):
        clock.now += 60
        progress.settled(batch(ok=1))
    if moment == "at the end":
        stream.close()
    progress.finish(summary(4))
    assert progress.tally.n == 4


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("writes", [0, 1])
def test_progress_survives_a_stream_that_raises(terminal: bool, writes: int) -> None:
    """An error of the stream is kept, and it is not written to again, not even by what is collected later."""

    class Broken(io.StringIO):
        calls = 0

        def isatty(self) -> bool:
            return terminal

        def write(self, text: str) -> int:
            self.calls += 1
            if self.calls > writes:
                raise OSError(28, "No space left on device")
            return len(text)

    stream = Broken()
    clock = Clock()
    progress = ProgressManager(stream=stream, interval=0.0, clock=clock)
    progress.start(run(3))
    for _ in range(3):
        clock.now += 1
        progress.settled(batch(ok=1))
    progress.finish(summary(3))
    gc.collect()
    assert isinstance(progress.error, OSError)
    assert stream.calls == writes + 1


def test_progress_without_stderr_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """sys.stderr may be None."""
    monkeypatch.setattr(sys, "stderr", None)
    progress = ProgressManager()
    progress.start(run(3))
    progress.settled(batch(ok=3))
    progress.finish(summary(3))
    assert progress.error is None
    assert progress.tally.n == 3


def child(prelude: str, **options: Any) -> subprocess.CompletedProcess[str]:
    code = (
        f"import os, sys\n{prelude}\n"
        "from celestialflow_core._observe.progress import ProgressManager\n"
        "from celestialflow_core._observe.interface import RunInfo, Settled\n"
        "progress = ProgressManager()\n"
        "progress.start(RunInfo(name='f', mode='thread', total=200))\n"
        "for _ in range(4): progress.settled(Settled(ids=range(50), tasks=range(50)))\n"
        "class Summary: total = 200\n"
        "progress.finish(Summary)\n"
        "assert progress.tally.n == 200 and progress.error is None, progress.error\n"
        "assert 'multiprocessing.synchronize' not in sys.modules\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "COLUMNS": "100"}
    return subprocess.run([sys.executable, "-W", "error", "-c", code], env=env, text=True, check=False, **options)


@pytest.mark.parametrize("prelude", ["os.close(2)", "[os.close(fd) for fd in (0, 1, 2)]", "sys.stderr.close()"])
def test_progress_survives_closed_descriptors(prelude: str) -> None:
    """Descriptors that were closed under the streams cost the display alone."""
    assert child(prelude, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def test_progress_in_a_pipe_is_one_line() -> None:
    """A short run whose stderr is no terminal writes its final line, and does not load tqdm."""
    done = child("import atexit; atexit.register(lambda: print('tqdm' in sys.modules))", capture_output=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "False\n"
    assert re.fullmatch(r"Processing: 200 of 200 tasks in 0:00, [\d.]+/s, ok=200\n", done.stderr)


@pytest.mark.parametrize("columns", [100, 0])
def test_progress_on_a_terminal_is_a_bar(columns: int) -> None:
    """On a real terminal there is a bar, redrawn in place, that ends full and with a line feed."""
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (24, columns))
    done = child("", stderr=follower)
    os.close(follower)
    shown = b""
    try:
        while part := os.read(leader, 65536):
            shown += part
    except OSError:  # Linux reports the end of a terminal as an error
        pass
    finally:
        os.close(leader)
    text = shown.decode()
    assert done.returncode == 0, text
    assert text.startswith("\rProcessing:   0%|")
    assert "200/200" in text.rstrip().rsplit("\r", 1)[-1]
    assert text.endswith("\r\n")


class Widget:
    """Stands in for any widget of ipywidgets."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.children: Any = ()
        self.layout, self.style = SimpleNamespace(), SimpleNamespace(bar_color=None)
        self.value: Any = 0
        self.max: Any = None
        self.bar_style = ""
        self.__dict__.update(options)

    def close(self) -> None:
        self.visible = False


def forget_notebook() -> None:
    """Have tqdm look anew for ipywidgets."""
    if sys.modules.pop("tqdm.notebook", None):
        del tqdm.notebook


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """A kernel and widgets, as far as tqdm looks at them; gives what is displayed."""
    shown: list[Any] = []
    ipython, display, ipywidgets = ModuleType("IPython"), ModuleType("IPython.display"), ModuleType("ipywidgets")
    ipython.get_ipython = lambda: SimpleNamespace(kernel=object())  # type: ignore[attr-defined]
    display.display = shown.append  # type: ignore[attr-defined]
    for name in ("FloatProgress", "IntProgress", "HBox", "HTML", "VBox"):
        setattr(ipywidgets, name, type(name, (Widget,), {}))
    ipywidgets.__version__ = "8.1.0"  # type: ignore[attr-defined]
    ipywidgets.__path__ = []
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setitem(sys.modules, "ipywidgets", ipywidgets)
    forget_notebook()
    yield shown
    forget_notebook()


@pytest.mark.parametrize("total", [10, None, 4])
def test_progress_in_a_notebook_is_a_widget(notebook: list[Any], total: int | None) -> None:
    """In a kernel that has ipywidgets the bar is a widget; it ends full, and in green."""
    before = set(threading.enumerate())
    progress = ProgressManager()
    progress.start(run(total))
    progress.settled(batch(ok=7))
    progress.settled(batch(ok=3))
    bar = progress._view.bar  # type: ignore[union-attr]
    progress.finish(summary(10))
    assert progress.error is None
    assert len(notebook) == 1
    widget = bar.container.children[-2]
    assert (bar.n, widget.value, widget.max, widget.bar_style) == (10, 10, 10, "success")
    assert set(threading.enumerate()) == before


def test_progress_in_a_notebook_without_widgets_is_text(
    notebook: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A kernel without ipywidgets shows the text bar, without tqdm's warning."""
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    progress = ProgressManager()
    progress.start(run(10))
    progress.settled(batch(ok=10))
    progress.finish(summary(10))
    assert not notebook
    assert "10/10" in capsys.readouterr().err
