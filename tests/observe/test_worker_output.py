"""What process workers print and log: passed on by the parent, marked, above the bar, and kept where a task failed."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from celestialflow_core import Outcome, TaskManager, TaskTimeout, WorkerCrashed

SPEAK = """
import logging, sys, warnings
from celestialflow_core import TaskManager

def speak(task):
    print("printed", task)
    print("printed to stderr", task, file=sys.stderr)
    warnings.warn(f"warned {task}")
    logging.getLogger("theirs").warning("logged %s", task)
    from loguru import logger
    logger.info("logged by loguru {}", task)

if __name__ == "__main__":
    summary = TaskManager(speak, "process", 2, show_progress=len(sys.argv) > 1, log_dir=None).start(range(100, 106))
    assert summary.succeeded == 6, summary
"""
TO_STDERR = ("printed to stderr {}", "UserWarning: warned {}", "logged {}", "- logged by loguru {}")
MARKED = re.compile(r"\[worker [01]\] (.*)")
KEPT = 64 * 1024


def marked_lines(text: str) -> list[str]:
    """What workers wrote, line by line, without the marks."""
    return [match[1] for line in text.splitlines() if (match := MARKED.fullmatch(line))]


def screen_of(shown: str) -> list[str]:
    """The lines of a terminal that was sent *shown*: text, carriage returns, line feeds, and tqdm's cursor up."""
    rows: list[list[str]] = [[]]
    row = column = 0
    for part in re.findall(r"\x1b\[A|\r|\n|[^\r\n\x1b]+", shown):
        if part == "\r":
            column = 0
        elif part == "\n":
            row += 1
            if row == len(rows):
                rows.append([])
        elif part == "\x1b[A":
            row -= 1
        else:
            line = rows[row]
            line += " " * (column - len(line))
            line[column : column + len(part)] = part
            column += len(part)
    return ["".join(line).rstrip() for line in rows]


def expect_each_once(lines: list[str], texts: tuple[str, ...]) -> None:
    """Every task has written each of *texts*, as the end of one line."""
    for task in range(100, 106):
        for text in texts:
            assert [line.endswith(text.format(task)) for line in lines].count(True) == 1, (text, task, lines)


def test_output_of_workers_reaches_the_streams_it_was_written_to(child: Callable[..., subprocess.Popen[str]]) -> None:
    """print, warnings, logging and loguru: each line once, whole, marked with its worker, on the stream meant."""
    process = child(SPEAK)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert sorted(marked_lines(stdout)) == [f"printed {task}" for task in range(100, 106)]
    assert len(stdout.splitlines()) == 6
    expect_each_once(marked_lines(stderr), TO_STDERR)
    assert "\x1e" not in stdout + stderr


def test_output_of_workers_stands_above_the_bar(tmp_path: Path) -> None:
    """On a terminal, what a worker writes is a line of its own, and the one bar is below it."""
    script = tmp_path / "script.py"
    script.write_text(SPEAK)
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (24, 250))
    command = [sys.executable, str(script), "with a bar"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=follower, stderr=follower) as process:
        os.close(follower)
        shown = b""
        try:
            while part := os.read(leader, 65536):
                shown += part
        except OSError:  # Linux reports the end of a terminal as an error
            pass
        finally:
            os.close(leader)
    screen = screen_of(shown.decode())
    assert process.returncode == 0, screen
    expect_each_once(marked_lines("\n".join(screen)), ("printed {}", *TO_STDERR))
    assert [line for line in screen if "Processing:" in line] == [line for line in screen if "6/6" in line]
    (bar,) = (number for number, line in enumerate(screen) if "6/6" in line)
    assert not [line for line in screen[bar:] if MARKED.fullmatch(line)]


def fail_loudly(how: str) -> None:
    """Writes more than is kept, says how it ends, and ends so."""
    for number in range(20_000):
        print(f"line {number}")
    sys.stdout.flush()
    print(f"the end comes by {how}", file=sys.stderr)
    if how == "SIGKILL":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "exit":
        os._exit(3)
    elif how == "hang":
        time.sleep(600)
    elif how == "error":
        raise ValueError(how)


def test_failed_task_keeps_the_last_64_kb_of_its_output(capfd: pytest.CaptureFixture[str]) -> None:
    """Whether it raises, hangs or dies; all of what it wrote reaches the user, and a success keeps nothing."""
    ways = ["error", "SIGKILL", "fine", "exit", "hang"]
    manager: TaskManager[str, None] = TaskManager(
        fail_loudly, "process", 2, max_retries=0, task_timeout=2, log_dir=None, log_level="ERROR"
    )
    outcomes: dict[str, Outcome[str, None]] = {outcome.task: outcome for outcome in manager.stream(ways)}
    errors = {"error": ValueError, "SIGKILL": WorkerCrashed, "exit": WorkerCrashed, "hang": TaskTimeout}
    for how, kind in errors.items():
        outcome = outcomes[how]
        assert isinstance(outcome.error, kind)
        assert outcome.output is not None
        assert 60_000 < len(outcome.output.encode()) <= KEPT
        assert "line 19999\n" in outcome.output
        assert f"the end comes by {how}\n" in outcome.output
        assert "line 1\n" not in outcome.output
    assert outcomes["fine"].ok
    assert outcomes["fine"].output is None
    lines = marked_lines(capfd.readouterr().out)
    assert lines.count("line 0") == lines.count("line 19999") == len(ways)
    assert len(lines) == 20_000 * len(ways)
