"""The log of a graph and its progress bars: one file, one start and one end, a bar for each manager."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

from celestialflow_core import Backoff, TaskGraph, TaskManager

THIRTY = """
import sys
from celestialflow_core import TaskGraph, TaskManager

def step(task):
    if task == 3:
        raise ValueError("three")
    return task

stages = [TaskManager(step, name=f"s{at}", show_progress=True) for at in range(30)]
graph = TaskGraph("long", show_progress=len(sys.argv) > 1).chain(*stages)
summary = graph.start({stages[0]: range(10)})
assert summary.succeeded == 270, summary
"""


def log_lines() -> list[str]:
    """What the one log file says, without the moments."""
    (path,) = Path("logs").glob("*.log")
    return [re.sub(r"^\S+ \S+ ", "", line) for line in path.read_text().splitlines()]


def test_log_has_the_lines_of_all_stages_between_one_start_and_one_end() -> None:
    """Each line names its stage; retries, failures and duplicates too."""
    tried: set[int] = set()

    def shaky(task: int) -> int:
        if task not in tried:
            tried.add(task)
            raise TimeoutError("slow")
        if task == 2:
            raise ValueError("two")
        return 7

    a = TaskManager(int, name="a")
    b = TaskManager(shaky, "thread", 1, name="b", backoff=Backoff(initial=0, jitter=0))
    c = TaskManager(str, name="c")
    quiet = TaskManager(str, name="quiet", log_dir=None)
    TaskGraph("flow").chain(a, b, c).connect(b, quiet).start({a: [1, 2, 3]})
    lines = log_lines()
    assert lines[0] == "INFO 'flow' starts tasks in graph mode with 4 workers."
    assert re.fullmatch(r"INFO flow: 10 tasks in \d\.\d\d s: 7 ok, 1 failed, 3 retries, 2 duplicates\.", lines[-1])
    text = "\n".join(lines)
    assert len([line for line in lines if " starts " in line or line.startswith("INFO flow:")]) == 2
    for task in (1, 2, 3):
        assert f"SUCCESS In 'a', task {task} completed by serial-0. Result is {task}." in text
        assert f"WARNING In 'b', task {task} failed on attempt 1 and is retried: TimeoutError: slow" in text
    assert re.search(r"ERROR In 'b', task 2 failed by thread-0 on attempt 2 after 0\.\d\d s: ValueError: two", text)
    assert len(re.findall(r"SUCCESS In 'c', task 7 completed by serial-0\. Result is '7'\.", text)) == 1
    assert len(re.findall(r"INFO In 'c', task 7 equals task number \d+ and was not run\.", text)) == 1
    assert "In 'quiet'" not in text


def test_graph_of_quiet_managers_or_without_a_folder_writes_no_file() -> None:
    """Its log_dir is the graph's; where no manager writes lines there is nothing to open."""
    a, b = TaskManager(int, name="a"), TaskManager(int, name="b")
    TaskGraph(log_dir=None).connect(a, b).start({a: [1]})
    a, b = TaskManager(int, name="a", log_dir=None), TaskManager(int, name="b", log_dir=None)
    TaskGraph(log_dir="elsewhere").connect(a, b).start({a: [1]})
    assert list(Path().iterdir()) == []


def test_log_level_and_folder_of_the_graph_replace_those_of_its_managers() -> None:
    """WARNING leaves the successes out, whatever the managers want; everything is in the graph's folder."""
    a, b = TaskManager(int, name="a", log_level="TRACE", log_dir="mine"), TaskManager(_fail, name="b")
    TaskGraph(log_dir="ours", log_level="WARNING").connect(a, b).start({a: [1]})
    assert sorted(path.name for path in Path().iterdir()) == ["ours"]
    (path,) = Path("ours").glob("*.log")
    (line,) = path.read_text().splitlines()
    assert " ERROR In 'b', task 1 failed by serial-0 after 0.00 s: ValueError: 1" in line


def _fail(task: int) -> int:
    raise ValueError(task)


def test_graph_of_thirty_stages_says_at_most_three_lines(child: Callable[..., subprocess.Popen[str]]) -> None:
    """On stderr, in a script that configures nothing; its managers' own show_progress does not count."""
    process = child(THIRTY)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, ""), err
    assert 1 <= len(err.splitlines()) <= 3, err
    assert len(log_lines()) == 2 + 270 + 1


def test_progress_of_a_graph_is_a_line_for_each_stage_where_there_is_no_terminal(
    child: Callable[..., subprocess.Popen[str]],
) -> None:
    """Plain lines with the name of the stage, no carriage return."""
    process = child(THIRTY, "bars")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "\r" not in err
    for at in range(30):
        tasks = 10 if at == 0 else 9
        assert len(re.findall(rf"(?m)^s{at}: {tasks} of {tasks} tasks in 0:0\d", err)) == 1, err


def test_progress_of_a_graph_is_a_bar_for_each_stage_on_a_terminal(own_folder: Path) -> None:
    """Below each other, each of them at its end, and nothing else is left on the screen."""
    import celestialflow_core

    script = own_folder / "script.py"
    script.write_text(THIRTY.replace("range(30)", "range(3)").replace("270", "27"))
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (24, 100))
    home = str(Path(celestialflow_core.__file__).parents[1])
    with subprocess.Popen(
        [sys.executable, str(script), "bars"], stderr=follower, env={**os.environ, "PYTHONPATH": home}
    ) as process:
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
    assert process.returncode == 0, text
    rows = [row.rstrip() for row in screen_of(text)]
    bars = [row for row in rows if "|" in row and "INFO" not in row]
    assert [bar[:3] for bar in bars] == ["s0:", "s1:", "s2:"], rows
    assert ["10/10" in bars[0], "9/9" in bars[1], "9/9" in bars[2]] == [True] * 3, rows
    assert "failed=1" in bars[0]


def screen_of(shown: str) -> list[str]:
    """The lines of a terminal that was sent *shown*: text, carriage returns, line feeds, and tqdm's cursor up."""
    shown = re.sub(r"\x1b\[[0-9;]*m", "", shown)
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
            row = max(0, row - 1)
        else:
            line = rows[row]
            line.extend(" " * (column + len(part) - len(line)))
            line[column : column + len(part)] = part
            column += len(part)
    return ["".join(line) for line in rows]


def test_summary_of_a_graph_is_readable(make: Any, graph: Any) -> None:
    """The account of the whole, one line a stage, what failed where, what took longest."""
    a, b = make(int, name="a"), make(_fail, name="b")
    summary = graph("flow").connect(a, b).start({a: [1, 2]})
    lines = str(summary).splitlines()
    assert re.fullmatch(r"flow: 4 tasks in \d+\.\d\d s: 2 ok, 2 failed\.", lines[0])
    assert lines[1:5] == ["Stages:", "  a: 2: 2 ok, 0 failed", "  b: 2: 0 ok, 2 failed", "Errors:"]
    assert re.fullmatch(r"  2 x ValueError in b at .*test_reports\.py:\d+: 1, as for 1", lines[5])
    assert {line.split(": ")[0].split()[-1] for line in lines[7:]} == {"a", "b"}
