"""``celestialflow run --command``: a program for each task."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from celestialflow_core._cli.program import STDERR_BYTES, Program
from celestialflow_core._cli.template import Template
from celestialflow_core.errors import CommandFailed, TaskTimeout
from celestialflow_core.testing import wait_until


@pytest.mark.parametrize(
    ("command", "task", "words"),
    [
        ("convert {} {stem}.png", "a b/c.tar.gz", ["convert", "a b/c.tar.gz", "c.tar.png"]),
        ("x {name} {parent} {suffix}", "a b/c.jpg", ["x", "c.jpg", "a b", ".jpg"]),
        ("x {parent}/{stem}", "c", ["x", "./c"]),
        ("x {}{} --n={n}", "1", ["x", "11", "--n=4"]),
        ("x 'a b' \"{}\"", "$HOME; rm", ["x", "a b", "$HOME; rm"]),
        ("wc -l", "file", ["wc", "-l", "file"]),
        ("awk '{print NR}'", "file", ["awk", "{print NR}", "file"]),
        ("x {a} {}", {"a": "1", "b": 2}, ["x", "1", '{"a": "1", "b": 2}']),
        ("x {b} {stem}", {"stem": "s", "b": [2]}, ["x", "[2]", "s"]),
        ("x {} {c}", 7, ["x", "7", "{c}"]),
    ],
)
def test_words_are_filled_in(command: str, task: Any, words: list[str]) -> None:
    """A task stays one word, whatever is in it; without a place for it, it is the last word."""
    assert Template(command).argv(task, 4) == words


def test_shell_gets_quoted_tasks() -> None:
    """What comes from a task is no syntax for the shell that runs the command."""
    template = Template("cat {} | wc -l", shell=True)

    assert template.argv("a b; rm") == ["/bin/sh", "-c", "cat 'a b; rm' | wc -l"]
    assert Template("cat", shell=True).argv("a b") == ["/bin/sh", "-c", "cat 'a b'"]


@pytest.mark.parametrize("shell", [False, True])
def test_target_gives_the_template_again(shell: bool) -> None:
    """What a store remembers is enough for `retry`."""
    import shlex

    template = Template("convert 'a b' {} | x", shell)

    *switches, command = shlex.split(template.target)
    assert (command, "--shell" in switches) == ("convert 'a b' {} | x", shell)


def program(command: str, timeout: float | None = None) -> Program:
    return Program(Template(command), timeout)


def is_alive(pid: int) -> bool:
    """Whether there is such a process, and it is more than the entry that waits for its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class TestProgram:
    """A function that runs a program."""

    def test_output_is_the_result(self) -> None:
        """As a text, without the last line feeds; what is no UTF-8 is kept, as in the names of files."""
        assert program("printf '%s\\n\\n'")(" a\nb ") == " a\nb "
        assert program("printf '\\377%s'")("x") == "\udcffx"

    def test_long_output_is_read(self) -> None:
        """More than a pipe holds, on both streams."""
        text = program('sh -c \'head -c 1000000 /dev/zero | tr "\\0" x >&2; head -c 1000000 /dev/zero | tr "\\0" y\'')(
            ""
        )

        assert text == "y" * 1_000_000

    def test_exit_code_is_the_error(self) -> None:
        """With the end of what the program said on stderr."""
        with pytest.raises(CommandFailed) as failed:
            program("sh -c 'echo why >&2; exit 7'")("x")

        assert failed.value.exitcode == 7
        assert failed.value.stderr == "why\n"

    def test_signal_is_the_error(self) -> None:
        """A program that was killed is no success."""
        with pytest.raises(CommandFailed, match="got SIGKILL"):
            program("sh -c 'kill -9 $$'")("x")

    def test_only_the_end_of_stderr_is_kept(self) -> None:
        """However much a program says, an error stays small."""
        with pytest.raises(CommandFailed) as failed:
            program("sh -c 'seq 100000 >&2; exit 1'")("x")

        assert len(failed.value.stderr) == STDERR_BYTES
        assert failed.value.stderr.endswith("\n100000\n")

    def test_program_has_no_input(self) -> None:
        """One that reads standard input finds its end, and takes no tasks away."""
        assert program("sh -c cat")("x") == ""

    @pytest.mark.parametrize(
        "script",
        [
            "sleep 300 & echo $! > {0}; wait",
            "trap : TERM; echo $$ > {0}; while true; do sleep 1; done",
            "exec > /dev/null 2>&1; echo $$ > {0}; sleep 300",
            "sleep 300 & echo $! > {0}",
        ],
        ids=["child", "deaf", "silent", "left behind"],
    )
    def test_time_limit_ends_the_whole_group(self, own_folder: Path, script: str) -> None:
        """Also what the program has started, one that ignores SIGTERM, and one that has closed its output."""
        (own_folder / "run.sh").write_text(script.format("pid"))

        with pytest.raises(TaskTimeout):
            program("sh run.sh", timeout=1)("x")

        pid = int((own_folder / "pid").read_text())
        assert wait_until(lambda: not is_alive(pid), seconds=30)

    def test_program_that_cannot_be_started_leaves_nothing_open(self) -> None:
        """It is the error of its task, with no descriptor left behind."""
        before = os.listdir("/proc/self/fd")

        with pytest.raises(FileNotFoundError):
            program("{}")("nowhere")

        assert os.listdir("/proc/self/fd") == before

    def test_nothing_starts_after_the_end(self) -> None:
        """A thread that is about to start a program when the run ends leaves none behind."""
        ended = program("sh -c 'sleep 300'")
        ended.end()

        with pytest.raises(CommandFailed, match="SIGTERM"):
            ended("x")


def test_outcome_has_exit_code_and_stderr(run: Any) -> None:
    """--json gives a program both."""
    done = run("run", "--command", "sh -c 'echo why >&2; exit 7'", "x", "--json", "-q")

    error = json.loads(done.stdout)["error"]
    assert done.exit_code == 1
    assert (error["type"], error["exit_code"], error["stderr"]) == ("CommandFailed", 7, "why\n")


def test_file_that_is_no_program_is_said_to_be_there(run: Any, job: Path) -> None:
    """A script that may not be executed is another mistake than a name that nothing has."""
    done = run("run", "--command", "./job.py", "x")

    assert done.exit_code == 2
    assert "chmod +x" in done.stderr


def test_tasks_are_texts(run: Any) -> None:
    """A word stays as it was written, also where it is JSON."""
    assert run("run", "--command", "echo", "01", "1.50", '"a"', "-q", "--ordered").stdout == '01\n1.50\n"a"\n'


def test_tasks_have_their_numbers(run: Any) -> None:
    """{n} is the place of the task in the list, whatever runs first."""
    done = run("run", "--command", "echo {n} {}", "a", "b", "a", "c", "-q", "--ordered")

    assert done.stdout == "1 a\n2 b\n4 c\n"


def test_failed_programs_are_tried_again_on_demand(run: Any, job: Path) -> None:
    """--retries means any failure of a program; without it, none is run twice."""
    (job.parent / "once.sh").write_text("echo x >> log; test $(wc -l < log) = 3")
    command = ("run", "--command", "sh once.sh", "x", "-q", "--json")

    assert json.loads(run(*command).stdout)["attempts"] == 1
    assert json.loads(run(*command, "--retries", "3").stdout)["attempts"] == 2


def test_programs_end_with_the_run(command: Callable[..., subprocess.Popen[str]], job: Path) -> None:
    """No program outlives a run that was interrupted, and the terminal's Ctrl-C does not reach it before its grace."""
    (job.parent / "run.sh").write_text("echo $$ > pid-$1; echo done > began; sleep 300")
    process = command("run", "--command", "sh run.sh", "a", "b", "-j", "2", "--grace", "0.5")
    pids = [job.parent / "pid-a", job.parent / "pid-b"]
    assert wait_until(lambda: all(pid.exists() and pid.read_text().strip() for pid in pids), seconds=60)

    assert os.getpgid(int(pids[0].read_text())) != os.getpgid(process.pid)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "Traceback" not in err
    assert not any(is_alive(int(pid.read_text())) for pid in pids)
