"""Stores on the command line: run into them, read them, retry from them, merge them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from celestialflow_core._cli.stores import error_matches, url_of


@pytest.fixture(params=["a.db", "a.jsonl"])
def store(request: pytest.FixtureRequest) -> str:
    """A store of each built-in kind, by its name as people write it."""
    name: str = request.param
    return name


def lines(done: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("results.db", "sqlite:results.db"),
        ("dir/out.jsonl", "jsonl:dir/out.jsonl"),
        ("/abs/x", "sqlite:/abs/x"),
        ("jsonl:x.db", "jsonl:x.db"),
        ("postgresql+psycopg://u@h/d", "postgresql+psycopg://u@h/d"),
    ],
)
def test_store_is_a_file_or_a_url(text: str, url: str) -> None:
    """A path is SQLite, unless its suffix says JSON Lines; a URL is taken as it is."""
    assert url_of(text) == url


def test_resume_runs_what_is_left(run: Any, store: str) -> None:
    """What succeeded is restored, what failed is run again, what is new is run; and all results are printed."""
    first = run("run", "job:odd_fails", "1", "2", "--store", store)
    again = run("run", "job:odd_fails", "1", "2", "4", "--store", store, "--resume")

    assert (first.exit_code, first.stdout) == (1, "2\n")
    assert (again.exit_code, sorted(again.stdout.split())) == (1, ["2", "4"])
    assert "1 ok, 1 failed, 1 restored" in again.stderr


def test_restored_failures_are_failures(run: Any, store: str) -> None:
    """--resume=unfinished does not run them again, and the exit code still tells of them."""
    run("run", "job:odd_fails", "1", "2", "--store", store)
    again = run("run", "job:odd_fails", "1", "2", "4", "--store", store, "--resume=unfinished")

    assert again.exit_code == 1
    assert "1 ok, 0 failed, 2 restored" in again.stderr


@pytest.mark.parametrize("words", [("--resume", "failed"), ("--resume=failed",)])
def test_resume_failed_runs_nothing_else(run: Any, store: str, words: tuple[str, ...]) -> None:
    """New tasks are left aside; the value may stand behind a space or an equals sign."""
    run("run", "job:odd_fails", "1", "2", "--store", store)
    again = run("run", "job:odd_fails", "1", "2", "4", "--store", store, *words)

    assert "0 ok, 1 failed" in again.stderr


def test_resume_takes_no_word_that_is_not_its_own(run: Any) -> None:
    """`--resume job:same 1` is a function and a task."""
    assert run("run", "--store", "a.db", "--resume", "job:same", "1", "-q").stdout == "1\n"


def test_other_version_is_refused(run: Any, store: str) -> None:
    """Exits with 4, before anything runs."""
    run("run", "job:same", "1", "--store", store, "--version", "1", "-q")
    done = run("run", "job:same", "2", "--store", store, "--version", "2", "-q")

    assert (done.exit_code, done.stdout) == (4, "")
    assert "Error: SinkError" in done.stderr


def test_store_that_cannot_be_made_fails_the_run(run: Any) -> None:
    """Exits with 4, and says which."""
    done = run("run", "job:same", "1", "--store", "nowhere/a.db")

    assert done.exit_code == 4
    assert "nowhere/a.db" in done.stderr


def test_failures_are_listed(run: Any, store: str) -> None:
    """A line a task, with its error and its place; --traceback shows the rest; the exit code is that of reading."""
    run("run", "job:odd_fails", "1", "2", "3", "--store", store, "-q")

    done = run("failures", store)

    assert done.exit_code == 0
    first, second = done.stdout.splitlines()
    assert first.startswith("1: ValueError at ")
    assert second.endswith(": 3 is odd")
    assert "    Traceback (most recent call last):" in run("failures", store, "--traceback").stdout
    assert run("failures", store, "--error", "KeyError").stdout == ""
    assert len(run("failures", store, "--error", "ValueError").stdout.splitlines()) == 2


def test_failures_are_counted_by_error(run: Any, store: str) -> None:
    """The most frequent first, each with an example."""
    run("run", "job:odd_fails", "1", '"x"', "3", "--store", store, "-q")

    done = run("failures", store, "--by", "error")

    assert [line.split(" at ")[0] for line in done.stdout.splitlines()] == ["2 x ValueError", "1 x TypeError"]
    (first, _) = lines(run("failures", store, "--by", "error", "--json"))
    assert (first["count"], first["type"], first["task"], first["message"]) == (2, "ValueError", 1, "1 is odd")
    assert run("failures", store, "--by", "stage").stdout == "3 x odd_fails\n"


def test_failures_as_json(run: Any, store: str) -> None:
    """An object a line, of the same form as that of run --json."""
    run("run", "job:odd_fails", "1", "--store", store, "-q")

    (failed,) = lines(run("failures", store, "--json"))

    assert (failed["task"], failed["status"], failed["ok"]) == (1, "error", False)
    assert (failed["error"]["type"], failed["error"]["message"]) == ("ValueError", "1 is odd")
    assert failed["key"].startswith("cf1:")


def test_failure_of_a_program_has_no_place_in_our_code(run: Any, store: str) -> None:
    """What failed is the program; a sentence in the middle of a line ends without its stop."""
    run("run", "--command", "false", "1", "2", "-j", "1", "--store", store, "-q")

    first, _ = run("failures", store).stdout.splitlines()
    (failed, _) = lines(run("failures", store, "--json"))

    assert first == '"1": celestialflow_core.errors.CommandFailed: false 1 exited with code 1.'
    assert failed["error"]["place"] is None
    counted = run("failures", store, "--by", "error").stdout
    assert counted == "2 x celestialflow_core.errors.CommandFailed: false 1 exited with code 1, as for '1'\n"


class Bomb:
    """Marks the folder when its pickle is loaded."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("exploded",)


def test_only_results_loads_pickles(run: Any, store: str, job: Path) -> None:
    """failures, results --text, --dry-run and merge run no code that a store holds."""
    (job.parent / "bomb.py").write_text(
        "import os\n"
        "class Bomb:\n"
        "    def __reduce__(self): return os.mkdir, ('exploded',)\n"
        "class Bad(Exception):\n"
        "    def __reduce__(self): return os.mkdir, ('exploded',)\n"
        "def f(x):\n"
        "    if x == 1: return Bomb()\n"
        "    raise ValueError\n"
    )
    run("run", "bomb:f", "1", "2", "--store", store, "-q")
    exploded = job.parent / "exploded"
    assert not exploded.exists()

    assert run("failures", store, "--json").exit_code == 0
    assert lines(run("results", store, "--text"))[0]["task"] == 1
    assert run("merge", store, "-o", "b.db").exit_code == 0
    assert run("run", "bomb:f", "1", "2", "--store", store, "--resume", "--dry-run").exit_code == 0
    assert not exploded.exists()

    run("results", store)
    assert exploded.exists()


def test_results_are_listed(run: Any, store: str) -> None:
    """An object a line, also of values that are no JSON; --values gives them alone."""
    run("run", "job:pair", "1", '"é"', "--store", store, "-q")

    first, second = lines(run("results", store))

    assert (first["task"], first["value"], first["ok"], first["stage"]) == (1, [1, 1], True, "pair")
    assert (second["task"], second["value"]) == ("é", ["é", "é"])
    assert run("results", store, "--values").stdout == '[1, 1]\n["é", "é"]\n'
    assert [line["value"] for line in lines(run("results", store, "--text"))] == ["(1, 1)", "('é', 'é')"]


def test_values_that_json_does_not_know_are_texts_in_their_place(run: Any, store: str) -> None:
    """A NaN, or a name in a dict that is no text, makes a text of itself and not of all that is around it."""
    value = {"loss": "nan", "at": [1, 0.5], "(1, 2)": "{3}"}

    printed = run("run", "job:loss", "1", "--store", store, "-q", "--json")

    assert lines(printed)[0]["value"] == value
    assert lines(run("results", store))[0]["value"] == value
    assert json.loads(run("results", store, "--values").stdout) == value


def test_retry_runs_what_failed(run: Any, store: str, job: Path) -> None:
    """With the function that the store remembers, wherever it is called from; nothing that succeeded runs again."""
    run("run", "./job.py:odd_fails", "1", "2", "3", "--store", store, "-q")
    (job.parent / "fixed").touch()

    done = run("retry", store)

    assert (done.exit_code, done.stdout) == (0, "1\n3\n")
    assert "2 tasks" in done.stderr
    assert run("failures", store).stdout == ""
    assert sorted(run("results", store, "--values").stdout.split()) == ["1", "2", "3"]
    assert run("retry", store, "-q").stdout == ""


def test_retry_chooses_by_error(run: Any, store: str, job: Path) -> None:
    """Those of other kinds stay as they are."""
    run("run", "job:odd_fails", "1", '"x"', "--store", store, "-q")
    (job.parent / "fixed").touch()

    assert run("retry", store, "--error", "ValueError", "-q").stdout == "1\n"
    assert [line["task"] for line in lines(run("failures", store, "--json"))] == ["x"]


def test_retry_says_what_it_would_run(run: Any, store: str) -> None:
    """--dry-run."""
    run("run", "job:odd_fails", "1", "2", "3", "--store", store, "-q")

    done = run("retry", store, "--dry-run", "--json")

    assert lines(done)[0] == {
        "target": "job:odd_fails", "mode": "serial", "workers": 1,
        "tasks": 2, "duplicates": 0, "skipped": 0, "done": 0, "failed_before": 2, "to_run": 2,
    }  # fmt: skip


def test_retry_of_what_cannot_be_found_asks_for_the_function(run: Any, store: str) -> None:
    """A store of a lambda does not say what to run; --function does."""
    from celestialflow_core import TaskManager

    def local(x: int) -> int:
        raise ValueError(x)

    TaskManager(local, name="work", sinks=[url_of(store)], log_dir=None, log_level="WARNING").start([1])

    refused = run("retry", store)
    done = run("retry", store, "--function", "job:same", "-q")

    assert refused.exit_code == 2
    assert "--function module:function" in refused.stderr
    assert (done.exit_code, done.stdout) == (0, "1\n")


def test_retry_runs_a_program_again(run: Any, store: str, job: Path) -> None:
    """The command line of --command is remembered too, with its shell."""
    run("run", "--command", "test -e {} && echo {}", "--shell", "a", "b", "--store", store, "-q")
    (job.parent / "b").touch()

    done = run("retry", store, "-q")

    assert (done.exit_code, done.stdout) == (1, "b\n")


def test_retry_does_not_number_tasks_anew(run: Any) -> None:
    """A program that is told the number of its task, and may name its output so, is run by `run --resume`."""
    run("run", "--command", "sh -c 'exit {n}'", "a", "--store", "a.db", "-q")

    done = run("retry", "a.db")

    assert done.exit_code == 2
    assert "with --resume" in " ".join(done.stderr.split())


def test_shards_are_merged(run: Any, store: str) -> None:
    """Each runs its part into a store of its own; together they have every task once."""
    suffix = Path(store).suffix
    words = [str(number) for number in range(20)]
    for part in (1, 2, 3):
        run("run", "job:odd_fails", *words, "--shard", f"{part}/3", "--store", f"part-{part}{suffix}", "-q")

    done = run("merge", f"part-1{suffix}", f"part-2{suffix}", f"part-3{suffix}", "-o", store)

    assert (done.exit_code, done.stderr) == (0, f"{store}: 20 tasks of 3 stores.\n")
    assert sorted(map(int, run("results", store, "--values").stdout.split())) == list(range(0, 20, 2))
    assert len(lines(run("failures", store, "--json"))) == 10
    resumed = run("run", "job:odd_fails", *words, "--store", store, "--resume=unfinished")
    assert "0 ok, 0 failed, 20 restored" in resumed.stderr


@pytest.mark.parametrize("order", [("old.db", "new.db"), ("new.db", "old.db")])
def test_merge_keeps_what_was_stored_last(run: Any, job: Path, order: tuple[str, str]) -> None:
    """Of one task, whichever store is named last."""
    run("run", "job:odd_fails", "1", "--store", "old.db", "-q")
    (job.parent / "fixed").touch()
    run("run", "job:odd_fails", "1", "--store", "new.db", "-q")

    assert run("merge", *order, "-o", "all.db").stderr == "all.db: 1 task of 2 stores.\n"
    assert run("results", "all.db", "--values").stdout == "1\n"
    assert run("failures", "all.db").stdout == ""


def test_merge_refuses_what_does_not_belong_together(run: Any, job: Path) -> None:
    """Stores of other work, and a goal that has something already."""
    run("run", "job:same", "1", "--store", "a.db", "-q")
    run("run", "job:double", "1", "--store", "b.db", "-q")

    mixed = run("merge", "a.db", "b.db", "-o", "all.db")
    full = run("merge", "a.db", "-o", "b.db")

    assert (mixed.exit_code, full.exit_code) == (4, 4)
    assert "Merge stores of one work only." in mixed.stderr
    assert not (job.parent / "all.db").exists()
    assert "b.db: There is a store with results already." in full.stderr


@pytest.mark.parametrize("command", ["failures", "results", "retry"])
def test_store_that_is_not_there_is_said_so(run: Any, command: str, store: str) -> None:
    """Reading makes no store."""
    done = run(command, store)

    assert done.exit_code == 4
    assert "There is no store" in done.stderr
    assert not Path(store).exists()


def test_sink_that_nobody_has_is_wrong_usage(run: Any) -> None:
    """With what is installed."""
    for arguments in (("failures", "foo:x"), ("run", "job:same", "1", "--store", "foo:x")):
        done = run(*arguments)
        assert done.exit_code == 2
        assert "No sink is named 'foo'. Installed: jsonl, sqlite." in " ".join(done.stderr.split())


@pytest.mark.parametrize("command", [("run", "job:same", "1", "--store"), ("failures",), ("merge", "-o", "x.db")])
def test_passwords_are_not_shown(run: Any, command: tuple[str, ...]) -> None:
    """Whatever is wrong with the URL of a store."""
    done = run(*command, "nosuch://me:secret@host/db")

    assert done.exit_code == 2
    assert "secret" not in done.stderr


@pytest.mark.parametrize(
    ("stored", "wanted", "matches"),
    [
        ("ValueError", "ValueError", True),
        ("requests.exceptions.HTTPError", "HTTPError", True),
        ("requests.exceptions.HTTPError", "requests.exceptions.HTTPError", True),
        ("requests.exceptions.HTTPError", "Exception", False),
        ("celestialflow_core.errors.TaskTimeout", "TimeoutError", True),
        ("FileNotFoundError", "OSError", True),
        ("OSError", "FileNotFoundError", False),
        (None, "OSError", False),
    ],
)
def test_error_is_known_by_its_names_and_bases(stored: str | None, wanted: str, matches: bool) -> None:
    """The bases of built-in errors and of our own are known without loading anything of the store."""
    assert error_matches(stored, wanted) is matches
