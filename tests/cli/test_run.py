"""``celestialflow run``: functions over tasks, from words, files and standard input."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest


def test_results_are_printed_and_summed_up(run: Any) -> None:
    """A line for each result on stdout, the account on stderr, and 0 for the script that asks."""
    done = run("run", "math:sqrt", "1", "4", "9")

    assert (done.exit_code, done.stdout) == (0, "1.0\n2.0\n3.0\n")
    assert done.stderr.startswith("sqrt: 3 tasks in ")


def test_words_are_json_where_they_are_json(run: Any) -> None:
    """Numbers, lists and quoted texts are what they say; anything else is a text; --text takes all as texts."""
    words = ("1", "[1, 2]", '"1"', "one", "NaN", "2024-01-01")

    assert run("run", "job:pair", *words, "-q").stdout.splitlines() == [
        "[1, 1]",
        "[[1, 2], [1, 2]]",
        '["1", "1"]',
        '["one", "one"]',
        '["NaN", "NaN"]',
        '["2024-01-01", "2024-01-01"]',
    ]
    assert run("run", "job:pair", "1", "--text", "-q").stdout == '["1", "1"]\n'


def test_texts_are_printed_as_they_are(run: Any) -> None:
    """A text result has no quotes; everything else is JSON, or its repr where it is none."""
    assert run("run", "job:same", "text", "null", '{"a": "é"}', "-q").stdout == 'text\nnull\n{"a": "é"}\n'
    assert run("run", "decimal:Decimal", "1", "-q").stdout == "\"Decimal('1')\"\n"


def test_json_has_an_object_for_each_task(run: Any) -> None:
    """--json prints failures and duplicates too, each as one object on one line."""
    done = run("run", "job:odd_fails", "1", "2", "2", "--json", "-q", "--ordered")

    failed, succeeded, duplicate = map(json.loads, done.stdout.splitlines())
    assert done.exit_code == 1
    assert (failed["task"], failed["status"], failed["ok"]) == (1, "error", False)
    assert failed["error"] == {"type": "ValueError", "message": "1 is odd"}
    assert "job.py" in failed["traceback"]
    assert (succeeded["task"], succeeded["value"], succeeded["attempts"]) == (2, 2, 1)
    assert (duplicate["status"], duplicate["ok"]) == ("duplicate", False)


def test_failures_are_shown_up_to_a_number(run: Any) -> None:
    """Failed tasks are named on stderr as they come, but a flood of them is only counted."""
    done = run("run", "job:fail", *map(str, range(30)))

    assert (done.exit_code, done.stdout) == (1, "")
    assert "Failed: 0: ValueError: no 0" in done.stderr
    assert done.stderr.count("Failed: ") == 20
    assert "30 failed" in done.stderr


def test_quiet_leaves_stderr_empty(run: Any) -> None:
    """-q is for scripts that only want the exit code and the results."""
    done = run("run", "job:odd_fails", "1", "2", "-q")

    assert (done.exit_code, done.stdout, done.stderr) == (1, "2\n", "")


def test_function_is_found_in_the_working_folder_or_in_a_file(run: Any, job: Path) -> None:
    """A module of the working folder, a file by its path, a function inside a class, a builtin."""
    assert run("run", "job:double", "2", "-q").stdout == "4\n"
    assert run("run", "./job.py:double", "2", "-q").stdout == "4\n"
    assert run("run", f"{job}:Group.triple", "2", "-q").stdout == "6\n"
    assert run("run", "builtins:len", "abc", "-q").stdout == "3\n"


@pytest.mark.parametrize("name", ["json.py", "my-job.py", "2nd job.py"])
@pytest.mark.parametrize("mode", ["serial", "process"])
def test_file_of_any_name_can_be_run(run: Any, job: Path, name: str, mode: str) -> None:
    """Also one whose name is no identifier, or that of another module; workers find the function too."""
    folder = job.parent / "odd"
    folder.mkdir()
    (folder / name).write_text("def double(x): return x * 2\n")

    done = run("run", f"./odd/{name}:double", "2", "-q", "--mode", mode)

    assert (done.stdout, done.exit_code, done.stderr) == ("4\n", 0, "")


def test_coroutine_function_is_awaited(run: Any) -> None:
    """No mode has to be named for it."""
    assert run("run", "job:later", "1", "2", "-q", "--ordered", "-j", "2").stdout == "1\n2\n"


def test_jobs_mean_processes(run: Any) -> None:
    """-j alone runs the function beside this process, where --timeout and crashes do no harm."""
    assert run("run", "job:pid", "1", "-q").stdout == f"{os.getpid()}\n"
    assert run("run", "job:pid", "1", "-q", "-j", "1").stdout != f"{os.getpid()}\n"


def test_timeout_ends_a_task(run: Any) -> None:
    """--timeout alone is kept too, and what was too late has failed."""
    done = run("run", "job:sleep", "60", "--timeout", "0.5", "--retries", "0")

    assert done.exit_code == 1
    assert "TaskTimeout" in done.stderr


def test_retry_on_adds_exceptions(run: Any) -> None:
    """--retries are for time-outs and connections, and for what --retry-on names."""

    def attempts(*options: str) -> int:
        done = run("run", "job:fail", "1", "--json", "-q", "--retries", "1", *options)
        return int(json.loads(done.stdout)["attempts"])

    assert attempts() == 1
    assert attempts("--retry-on", "ValueError") == 2
    assert attempts("--retry-on", "json:JSONDecodeError") == 1


def test_executor_options_are_passed_on(run: Any) -> None:
    """--executor-option has the value as JSON, and a wrong name is wrong usage."""
    options = ("--mode", "process", "-q", "--executor-option")

    assert run("run", "job:double", "1", *options, "max-tasks-per-worker=1").exit_code == 0
    done = run("run", "job:double", "1", *options, "max-tasks=1")
    assert done.exit_code == 2
    assert "Did you mean" in done.stderr


@pytest.mark.parametrize(
    ("halt", "code", "said"),
    [
        ("2", 3, "stop at errors=2"),
        ("10%", 3, "stop above fraction=0.1"),
        ("3-in-a-row", 3, "stop at consecutive=3"),
        ("100", 1, ""),
    ],
)
def test_halt_ends_the_run(run: Any, halt: str, code: int, said: str) -> None:
    """A broken rule is 3, which is not what a run with failures gives that went to its end."""
    done = run("run", "job:fail", *map(str, range(50)), "--halt", halt)

    assert done.exit_code == code
    assert said in done.stderr


def test_halt_after_successes_is_no_failure(run: Any) -> None:
    """1-ok ends the run with the first success, and with 0."""
    done = run("run", "job:double", *map(str, range(5000)), "--halt", "1-ok", "--halt-now")

    assert done.exit_code == 0
    assert "stop at successes=1" in done.stderr


def test_log_is_written_where_it_is_wanted(run: Any, job: Path) -> None:
    """By default there is no log file; --log-dir has a line for each task."""
    run("run", "job:double", "1", "-q")
    assert not (job.parent / "logs").exists()

    run("run", "job:double", "1", "-q", "--log-dir", "mylogs")
    (log,) = (job.parent / "mylogs").iterdir()
    assert "task 1 completed" in log.read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Say what to run"),
        (["math.sqrt", "1"], "Did you mean math:sqrt?"),
        (["job.double", "1"], "Did you mean job:double?"),
        (["job.py", "1"], "For a function in that file: job.py:function."),
        (["double", "1"], "must be like module:function"),
        (["mth:sqrt", "1"], "There is no module 'mth'. Did you mean 'math'?"),
        (["xml.etre:x", "1"], "There is no module 'xml.etre'. Did you mean 'xml.etree'?"),
        (["job:dubble", "1"], "There is no 'dubble' in job. Did you mean 'double'?"),
        (["job:Group.x", "1"], "There is no 'x' in Group. It has triple."),
        (["./jop.py:double", "1"], "Did you mean 'job.py'?"),
        (["job:NUMBER", "1"], "'job:NUMBER' is no function but int"),
        (["job:double"], "There are no tasks."),
        (["job:double", "-a", "nothing.txt"], "nothing.txt"),
        (["job:double", "1", "--mode", "thred"], "No executor is named 'thred'"),
        (["job:double", "1", "--mode", "serial", "--timeout", "1"], "task_timeout does not work with"),
        (["job:double", "1", "-j", "0"], "0 is not in the range"),
        (["job:double", "1", "--halt", "soon"], "'soon' is no rule. It is like 100"),
        (["job:double", "1", "--halt", "0"], "must be a positive int"),
        (["job:double", "1", "--retry-on", "Nothing"], "'Nothing' is no exception class"),
        (["job:double", "1", "--executor-option", "x"], "must be like name=value"),
        (["job:double", "1", "--resume"], "--resume needs a store"),
        (["job:double", "1", "--shard", "1/2"], "--shard needs a store"),
        (["job:double", "1", "--shard", "3/2", "--store", "a.db"], "There is no shard 3 of 2"),
        (["job:double", "1", "--shell"], "--shell is for --command"),
        (["--command", "true", "1", "--mode", "process"], "A program is started by a thread"),
        (["--command", "nosuchprogram", "1"], "There is no program 'nosuchprogram'"),
        (["--command", "'", "1"], "cannot be read: No closing quotation"),
        (["--command", "", "1"], "There is no program in it"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_usage_says_what_to_do(run: Any, arguments: list[str], said: str) -> None:
    """Exits with 2 before anything runs, with a sentence that helps."""
    done = run("run", *arguments)

    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import nothing_of_this_name", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ("x = 1 / 0", "ZeroDivisionError"),
        ("raise SystemExit(0)", "put what it does as a script under"),
        ("def f(:", "SyntaxError"),
    ],
)
@pytest.mark.parametrize("target", ["broken:f", "./bro-ken.py:f"])
def test_module_that_cannot_be_imported_fails_the_run(run: Any, job: Path, target: str, source: str, said: str) -> None:
    """Exits with 4, and shows the user's part of the traceback."""
    for name in ("broken.py", "bro-ken.py"):
        (job.parent / name).write_text(source + "\n")

    done = run("run", target, "1")

    assert done.exit_code == 4
    assert said in done.stderr
    assert "cannot be imported" in done.stderr
    assert "_cli" not in done.stderr


class TestFiles:
    """Tasks from files."""

    def test_csv_rows_are_dicts(self, run: Any, job: Path) -> None:
        """One dict a row, of texts, under the names of the first line."""
        (job.parent / "rows.csv").write_text('\ufeffa,b\r\n1,"two, three"\r\n', encoding="utf-8")

        assert run("run", "job:same", "-a", "rows.csv", "-q").stdout == '{"a": "1", "b": "two, three"}\n'
        assert run("run", "job:add", "-a", "rows.csv", "-q", "--unpack").stdout == "1two, three\n"

    def test_jsonl_lines_are_values(self, run: Any, job: Path) -> None:
        """One JSON value a line; empty lines are none."""
        (job.parent / "tasks.jsonl").write_text('1\n\n"two"\n[3]\n')

        assert run("run", "job:double", "-a", "tasks.jsonl", "-q").stdout == "2\ntwotwo\n[3, 3]\n"
        assert run("run", "job:add", "-a", "tasks.jsonl", "-q", "[1, 2]", "--unpack").exit_code == 1

    def test_other_files_are_texts(self, run: Any, job: Path) -> None:
        """One text a line, also where it looks like a number, unless --format says otherwise."""
        (job.parent / "list").write_text("1\r\n\r\n two \n3")

        assert run("run", "job:double", "-a", "list", "-q").stdout == "11\n two  two \n33\n"
        assert run("run", "job:double", "-a", "list", "-q", "--format", "jsonl").exit_code == 4

    def test_words_and_files_are_one_list(self, run: Any, job: Path) -> None:
        """Words first, then each file; the shell's standard input may be one of them."""
        (job.parent / "a.txt").write_text("a\n")
        (job.parent / "b.jsonl").write_text('"b"\n')

        done = run("run", "job:same", "0", "-a", "a.txt", "-a", "-", "-a", "b.jsonl", "-q", input="1\nx\n")

        assert done.stdout == "0\na\n1\nx\nb\n"

    def test_standard_input_is_words(self, run: Any) -> None:
        """As words of the command line: JSON where they are JSON, unless --text or --format say otherwise."""
        assert run("run", "job:double", "-a", "-", "-q", input="1\nx\n").stdout == "2\nxx\n"
        assert run("run", "job:double", "-a", "-", "-q", "--text", input="1\nx\n").stdout == "11\nxx\n"
        assert run("run", "job:double", "-a", "-", "-q", "--format", "txt", input="1\n").stdout == "11\n"
        assert run("run", "job:same", "-a", "-", "-q", "--format", "csv", input="a\n1\n").stdout == '{"a": "1"}\n'

    @pytest.mark.parametrize(
        ("name", "text", "said"),
        [
            ("a.jsonl", "1\n\nnope\n2\n", "Line 3 of 'a.jsonl' is no JSON: Expecting value at column 1."),
            ("a.csv", "a,b\n1,2\n3\n", "Line 3 of 'a.csv' has not 2 cells"),
            ("a.csv", "a,b\n1,2\n3,4,5\n", "Line 3 of 'a.csv' has not 2 cells"),
            ("a.csv", 'a,b\n1,2\n3,"4\n', "Line 3 of 'a.csv' is no CSV: unexpected end of data."),
        ],
    )
    def test_bad_line_fails_the_run_after_what_came_before(
        self, run: Any, job: Path, name: str, text: str, said: str
    ) -> None:
        """Exits with 4; the tasks that had been read have their results."""
        (job.parent / name).write_text(text)

        done = run("run", "job:same", "-a", name)

        assert done.exit_code == 4
        assert said in done.stderr
        assert "Traceback" not in done.stderr
        assert len(done.stdout.splitlines()) == 1

    def test_no_cell_of_a_csv_file_is_lost(self, run: Any, job: Path) -> None:
        """Two columns of one name are no dict, but a list; and a cell may be as long as it likes."""
        (job.parent / "twice.csv").write_text("a,a\n1,2\n")
        (job.parent / "long.csv").write_text(f"a\n{'x' * 200_000}\n")

        refused = run("run", "job:same", "-a", "twice.csv", "-q")
        assert refused.exit_code == 4
        assert "more than one column of the name 'a'" in refused.stderr
        assert run("run", "job:add", "-a", "twice.csv", "-q", "--unpack").stdout == "12\n"
        assert len(run("run", "job:same", "-a", "long.csv", "-q").stdout) > 200_000

    @pytest.mark.parametrize(
        ("format", "text", "expected"),
        [("words", "1\n", "2\n"), ("jsonl", "1\n", "2\n"), ("csv", "a\n1\n", '{"a": "1"}\n')],
    )
    def test_mark_of_windows_is_no_part_of_standard_input(
        self, run: Any, format: str, text: str, expected: str
    ) -> None:
        """A file that begins with a byte order mark is the same file when it comes through a pipe."""
        function = "job:same" if format == "csv" else "job:double"
        options = () if format == "words" else ("--format", format)

        done = run("run", function, "-a", "-", "-q", *options, input="\ufeff" + text)

        assert done.stdout == expected

    def test_file_that_is_named_as_a_task_is_a_task(self, run: Any, job: Path) -> None:
        """With a hint for those who meant its lines."""
        (job.parent / "tasks.jsonl").write_text("1\n")

        done = run("run", "job:same", "tasks.jsonl")

        assert done.stdout == "tasks.jsonl\n"
        assert "To read tasks from the file: -a tasks.jsonl" in done.stderr


class TestDryRun:
    """--dry-run."""

    def test_counts_and_runs_nothing(self, run: Any, job: Path) -> None:
        """It says how many tasks there are, and where they would run."""
        done = run("run", "job:sleep", "0", "0", "1", "--dry-run", "--mode", "thread", "-j", "3")

        assert done.exit_code == 0
        assert done.stdout.splitlines() == [
            "job:sleep: 3 tasks, 1 duplicate.",
            "To run: 2, in thread mode, 3 at a time, 4144 read ahead at most.",
        ]
        assert not list(job.parent.glob("began-*"))

    def test_counts_what_a_store_has(self, run: Any, job: Path) -> None:
        """What would be run depends on how the run goes on; nothing is written to the store."""
        words = ("1", "2", "3", "4")
        run("run", "job:odd_fails", "1", "2", "--store", "a.db", "-q")
        before = (job.parent / "a.db").read_bytes()

        def to_run(*options: str) -> tuple[int, int, int]:
            done = run("run", "job:odd_fails", *words, "--store", "a.db", "--dry-run", "--json", *options)
            plan = json.loads(done.stdout)
            return plan["done"], plan["failed_before"], plan["to_run"]

        assert to_run() == (1, 1, 4)
        assert to_run("--resume") == (1, 1, 3)
        assert to_run("--resume=unfinished") == (1, 1, 2)
        assert to_run("--resume=failed") == (1, 1, 1)
        assert (job.parent / "a.db").read_bytes() == before

    def test_does_not_make_a_store(self, run: Any, job: Path) -> None:
        """A store that is not there is not there afterwards."""
        done = run("run", "job:double", "1", "--store", "a.db", "--dry-run")

        assert done.exit_code == 0
        assert "There is no store" in done.stderr
        assert not (job.parent / "a.db").exists()
