"""What workers write: to whom it goes, and which of it is kept for the outcome of a call that failed."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
import warnings
from collections import defaultdict

import pytest

from celestialflow_core.errors import TaskTimeout, WorkerCrashed
from celestialflow_core.executors.interface import Work
from celestialflow_core.executors.process import output as module
from celestialflow_core.executors.process.output import Output, to_own_streams


class Listener:
    """Takes what an executor passes on."""

    def __init__(self):
        self.text: dict[tuple[int, str], bytes] = defaultdict(bytes)

    def __call__(self, index, stream, lines):
        assert lines.endswith(b"\n"), "lines are whole"
        self.text[index, stream] += lines

    def all(self, stream):
        """Everything that went to *stream*."""
        return b"".join(text for (_, name), text in self.text.items() if name == stream).decode()


@pytest.fixture
def heard(bench):
    """Runs a function over tasks; gives the results, and a listener with what the workers wrote."""

    def run(func, tasks, **options):
        one = bench(func, **options)
        listener = Listener()
        one.executor.on_output = listener
        one.executor.start(one.executor._work, one.queue.put)
        one.submit(tasks)
        return one.finish(), listener

    return run


def speak(x):
    """Writes in the five usual ways."""
    print(f"print {x}")
    print(f"print to stderr {x}", file=sys.stderr)
    warnings.warn(f"warning {x}", stacklevel=1)
    logging.warning("logging %s", x)
    from loguru import logger

    logger.info("loguru {}", x)


def test_failed_call_keeps_what_it_wrote_and_nothing_else(heard):
    """print, stderr, warnings, logging and loguru of the failing call are in its result, its neighbours' are not."""

    def job(x):
        speak(x)
        if x % 5 == 3:
            raise ValueError(x)
        return x

    tasks = [100 + n for n in range(60)]
    results, listener = heard(job, tasks)
    for task, result in zip(tasks, results, strict=True):
        if task % 5 != 3:
            assert result.output is None
            continue
        for what in ("print", "print to stderr", "UserWarning: warning", "WARNING:root:logging", "- loguru"):
            assert f"{what} {task}\n" in result.output
        assert not [other for other in tasks if other != task and f" {other}\n" in result.output]
    stdout, stderr = listener.all("stdout"), listener.all("stderr")
    for task in tasks:
        assert stdout.count(f"print {task}\n") == 1
        assert stderr.count(f"loguru {task}\n") == 1
    assert "\x1e" not in stdout + stderr


@pytest.mark.parametrize("end", ["kill", "exit", "hang", "segfault"])
def test_call_that_ends_its_worker_keeps_its_last_words(run, end):
    """A line without an end, written just before the death, is in the result."""

    def job(x):
        if x != 7:
            return print(f"neighbour {x}")
        print("first line")
        print("last words", end="", file=sys.stderr)
        if end == "kill":
            os.kill(os.getpid(), 9)
        elif end == "exit":
            os._exit(1)
        elif end == "segfault":
            os.kill(os.getpid(), 11)
        return time.sleep(1000)

    results = run(job, range(12), timeout=0.5 if end == "hang" else None)
    assert isinstance(results[7].error, TaskTimeout if end == "hang" else WorkerCrashed)
    assert sorted(results[7].output.splitlines()) == ["first line", "last words"] or (
        results[7].output == "last wordsfirst line\n"
    )


def test_output_of_a_child_process_is_kept(run):
    """What reaches the descriptors without Python is the failing call's too; what came long before is not."""

    def job(x):
        subprocess.run(["echo", f"child of {x}"], check=True)
        os.write(2, b"from C in %d\n" % x)
        time.sleep(0.05)
        if x == 3:
            raise ValueError(x)

    results = run(job, range(6), workers=1)
    assert "child of 3\n" in results[3].output
    assert "from C in 3\n" in results[3].output
    assert "child of 0\n" not in results[3].output


def test_output_of_a_call_is_kept_up_to_64_kb(heard):
    """The end of it; all of it reaches the user."""

    def job(x):
        for n in range(20_000):
            print(f"line {n}")
        raise ValueError

    (result,), listener = heard(job, [1])
    assert 60_000 < len(result.output) <= 65_536
    assert result.output.endswith("line 19998\nline 19999\n")
    assert listener.all("stdout") == "".join(f"line {n}\n" for n in range(20_000))


def test_a_megabyte_on_both_streams_at_once(heard):
    """Two threads of a task write a megabyte each, without a line's end: nothing blocks, nothing is missing."""

    def job(x):
        other = threading.Thread(target=sys.stderr.write, args=("e" * 1_000_000,))
        other.start()
        sys.stdout.write("o" * 1_000_000)
        other.join()

    results, listener = heard(job, [1, 2])
    assert [result.error for result in results] == [None, None]
    assert listener.all("stdout").count("o") == listener.all("stderr").count("e") == 2_000_000


def test_unfinished_line_ends_with_its_call(heard):
    """Calls that write no line's end do not run into each other."""
    _, listener = heard(lambda x: print(x, end=""), range(5), workers=1)
    assert listener.all("stdout") == "0\n1\n2\n3\n4\n"


def test_output_of_the_set_up_is_nobodys(heard):
    """It reaches the user, but is not in the result of the first call."""

    def job(x):
        raise ValueError

    results, listener = heard(job, [1, 2, 3], workers=1, setup=lambda: print("loading the model"))
    assert [result.output for result in results] == [None] * 3
    assert listener.all("stdout") == "loading the model\n"


def test_descriptor_that_a_task_points_elsewhere_gets_no_marks(run, tmp_path):
    """A task that redirects descriptor 1 to a file finds there what it printed, and nothing else."""

    def job(x):
        keep = os.dup(1)
        with open(tmp_path / str(x), "wb") as file:
            os.dup2(file.fileno(), 1)
            try:
                print(f"to the file {x}")
            finally:
                os.dup2(keep, 1)
                os.close(keep)

    assert [result.error for result in run(job, range(4))] == [None] * 4
    assert [(tmp_path / str(n)).read_text() for n in range(4)] == [f"to the file {n}\n" for n in range(4)]


def test_task_may_close_or_replace_its_streams(run):
    """Whatever a task makes of sys.stdout, the next calls are unharmed."""

    def job(x):
        if x == 2:
            sys.stdout.close()
        elif x == 4:
            sys.stdout = sys.__stdout__ = sys.stderr = None
        elif x == 6:
            os.close(1)
            os.close(2)
        return x

    assert [result.value for result in run(job, range(9), workers=1)] == list(range(9))


def test_stream_behaves_like_pythons_own(run):
    """Bytes, lone surrogates, fileno and name."""

    def job(x):
        sys.stdout.buffer.write(b"bytes\n")
        print("\udcff")
        assert not sys.stdout.isatty()
        assert sys.stdout.writable()
        assert (sys.stdout.fileno(), sys.stderr.fileno()) == (1, 2)
        assert (sys.stdout.name, sys.stderr.name) == ("<stdout>", "<stderr>")
        raise ValueError

    (result,) = run(job, [1])
    assert isinstance(result.error, ValueError)
    assert result.output == "bytes\n\\udcff\n"


def test_pipe_that_was_made_non_blocking_loses_nothing(heard):
    """A child process may set that on the pipe it shares with us."""

    def job(x):
        os.set_blocking(1, False)
        print("x" * 500_000)

    _, listener = heard(job, [1])
    assert listener.all("stdout") == "x" * 500_000 + "\n"


def test_warm_executor_listens_to_the_listener_of_the_moment(bench):
    """A second start with the same work takes the new on_output."""
    one = bench(print, workers=1)
    first, second = Listener(), Listener()
    work = Work(print)
    one.executor.stop(0)
    one.executor.on_output = first
    one.executor.start(work, one.queue.put)
    one.submit(["one"])
    one.take()
    one.submit(["two"])
    one.take()
    one.executor.on_output = second
    one.executor.start(work, one.queue.put)
    one.submit(["three"])
    one.finish()
    assert first.all("stdout").startswith("one\n")
    assert second.all("stdout").endswith("three\n")
    assert first.all("stdout") + second.all("stdout") == "one\ntwo\nthree\n"


@pytest.fixture
def pipes():
    """An `Output` on two pipes, the writing ends of these, and what was emitted."""
    os.set_blocking((out := os.pipe())[0], False)
    os.set_blocking((err := os.pipe())[0], False)
    emitted: list[tuple[str, bytes]] = []
    count = [0]
    one = Output(3, out[0], err[0], lambda: count[0], lambda index, name, lines: emitted.append((name, lines)))
    yield one, out[1], count, emitted
    for fd in (*out, *err):
        os.close(fd)


def test_marks_are_understood_wherever_they_are_cut(pipes):
    """Read in two pieces, cut at each position in turn, the text is the same, and is the right call's."""
    one, fd, count, emitted = pipes
    whole = b"".join(
        [
            one._prefix + b">7\x1e" + b"of seven \x1e\n" + one._prefix + b"<7\x1e",
            one._prefix + b">8\x1e" + b"of eight" + one._prefix + b"<8\x1e",
        ]
    )
    for cut in range(len(whole) + 1):
        count[0] = 7 if cut < len(whole) // 2 else 8
        os.write(fd, whole[:cut])
        one.drain()
        count[0] = 8
        os.write(fd, whole[cut:])
        one.drain()
        assert one.of(7) == "of seven \x1e\n"
        assert one.of(8) == "of eight"
        assert b"".join(lines for _, lines in emitted) == b"of seven \x1e\nof eight\n"
        one.forget(8)
        emitted.clear()
        assert one.of(8) is None
        one._streams[0].low = 0  # for the next round


def test_text_without_marks_belongs_to_whoever_may_have_written_it(pipes):
    """From the call that ran when the pipe was last empty to the one that runs now."""
    one, fd, count, _ = pipes
    count[0] = 4
    one.drain()
    count[0] = 6
    os.write(fd, b"somebody's\n")
    one.drain()
    assert [one.of(number) for number in range(3, 8)] == [None, "somebody's\n", "somebody's\n", "somebody's\n", None]


def test_memory_for_text_is_bounded(pipes):
    """A line without an end, and calls whose results do not come, hold a megabyte each at most."""
    one, fd, count, emitted = pipes
    count[0] = 1
    for _ in range(100):
        os.write(fd, b"x" * 60_000)
        one.drain()
    assert one._size <= module._KEPT
    assert sum(lines.count(b"x") for _, lines in emitted) >= 5_000_000
    assert len(one._streams[0].line) <= module._LONGEST_LINE
    one.finish()
    assert sum(lines.count(b"x") for _, lines in emitted) == 6_000_000


def test_lines_are_marked_on_our_own_streams(capsys):
    """Each line on its own, to the stream that it was written to, also where that cannot encode it."""
    to_own_streams(3, "stdout", b"one\n\ntwo\n")
    to_own_streams(0, "stderr", b"three\xff\n")
    assert tuple(capsys.readouterr()) == ("[worker 3] one\n[worker 3] \n[worker 3] two\n", "[worker 0] three\ufffd\n")


def test_streams_that_are_gone_do_no_harm(monkeypatch):
    """Closed, or None."""
    monkeypatch.setattr(sys, "stdout", None)
    to_own_streams(3, "stdout", b"one\n")
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", encoding="ascii", closefd=False) as broken:
        monkeypatch.setattr(sys, "stderr", broken)
        to_own_streams(3, "stderr", "\u00e9\n".encode())
        monkeypatch.undo()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, writer)  # what is left in the buffer has to go somewhere
        os.close(null)
    os.close(writer)
