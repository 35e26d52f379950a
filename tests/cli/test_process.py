"""The command line as a program among others: its streams, its signals, its exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from celestialflow_core.testing import wait_until

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.mark.parametrize("mode", ["serial", "thread", "process"])
def test_what_tasks_print_is_not_among_the_results(command: Start, mode: str) -> None:
    """What a task, a library below Python, a program that it starts, or its worker writes goes to stderr."""
    out, err = command("run", "job:loud", "1", "--mode", mode, "-q").communicate(timeout=60)

    assert out == "1\n"
    for line in ("printed 1", "written", "echoed"):
        assert line in err


def test_what_a_module_prints_is_not_among_the_results(command: Start, job: Path) -> None:
    """Also what it prints when it is imported."""
    (job.parent / "chatty.py").write_text("print('hello')\ndef same(x): return x\n")

    out, err = command("run", "chatty:same", "1", "-q").communicate(timeout=60)

    assert (out, err) == ("1\n", "hello\n")


def test_results_come_while_the_input_is_open(command: Start) -> None:
    """Standard input is read as tasks are wanted: a result does not wait for its end."""
    process = command("run", "job:double", "-a", "-", "-q", stdin=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None

    for number in (1, 2, 3):
        process.stdin.write(f"{number}\n")
        process.stdin.flush()
    assert process.stdout.readline() == "2\n"

    with process:
        process.stdin.close()
        assert process.stdout.read() == "4\n6\n"  # and not communicate(), which knows nothing of what readline() took
    assert process.returncode == 0


def test_endless_input_is_not_read_ahead(command: Start) -> None:
    """With a reader that wants three lines, an endless input is left where it is."""
    with subprocess.Popen(["yes"], stdout=subprocess.PIPE) as endless:
        process = command("run", "job:same", "-a", "-", "-q", "--json", stdin=endless.stdout)
        assert endless.stdout is not None
        assert process.stdout is not None
        endless.stdout.close()
        process.stdout.readline()
        process.stdout.close()
        process.wait(timeout=60)
        assert process.returncode == 141
        assert endless.wait(timeout=60) == -signal.SIGPIPE


@pytest.mark.parametrize("mode", ["serial", "thread", "process"])
def test_reader_that_goes_ends_the_run_quietly(command: Start, mode: str) -> None:
    """A broken pipe is 141, as of any program in a pipe, without a word; and no worker stays."""
    process = command("run", "job:same", *map(str, range(3000)), "--mode", mode, "--no-progress")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()

    said = process.stderr.read()

    assert process.wait(timeout=60) == 141
    assert said == ""


def test_output_that_cannot_be_written_fails_the_run(command: Start) -> None:
    """A full disk behind standard output is 4, and says so."""
    with open("/dev/full", "w") as full:
        process = command("run", "job:double", "1", stdout=full)
        _, err = process.communicate(timeout=60)

    assert process.returncode == 4
    assert "The results cannot be written to standard output: No space left on device." in err


@pytest.mark.parametrize(
    "arguments",
    [("--help",), ("run", "--help"), ("plugins",), ("failures", "a.db"), ("failures", "a.db", "--by", "error")],
)
def test_output_that_cannot_be_written_fails_every_command(
    run: Any, command: Start, arguments: tuple[str, ...]
) -> None:
    """In one sentence, and with 4; nothing is said to a reader that has gone, and that is 141."""
    run("run", "job:odd_fails", "1", "2", "3", "--store", "a.db", "-q")
    with open("/dev/full", "w") as full:
        process = command(*arguments, stdout=full)
        _, said = process.communicate(timeout=60)
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as gone:
        deaf = command(*arguments, stdout=gone)
        nothing = deaf.communicate(timeout=60)[1]

    assert process.returncode == 4
    assert said.startswith("Error: ")
    assert said.count("\n") == 1
    assert "No space left on device" in said
    assert (deaf.returncode, nothing) == (141, "")


def test_torn_store_is_said_in_a_sentence(run: Any, command: Start, job: Path) -> None:
    """What a store warns of is for the person at the terminal, who has no use for a line of our code."""
    run("run", "job:same", "1", "2", "--store", "a.jsonl", "-q")
    torn = job.parent / "a.jsonl"
    torn.write_bytes(torn.read_bytes()[:-9])

    _, said = command("run", "job:same", "1", "2", "--store", "a.jsonl", "--resume", "-q").communicate(timeout=60)

    assert said.startswith("Warning: jsonl:a.jsonl: the last line was incomplete")
    assert said.count("\n") == 1


def test_closed_streams_are_no_reason_to_fail(command: Start) -> None:
    """Without a standard output or error the run goes to its end, and tells by its exit code."""
    for closed in ("1>&-", "2>&-", "1>&- 2>&-"):
        done = subprocess.run(
            ["sh", "-c", f'exec "$@" {closed}', "sh", *_argv(command, "run", "job:odd_fails", "1", "2")],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 1
        assert done.stdout == ("" if "1>" in closed else "2\n")


def _argv(command: Start, *arguments: str) -> list[str]:
    probe = command("--version")
    probe.communicate(timeout=60)
    assert isinstance(probe.args, list)
    return ["env", f"PYTHONPATH={_home()}", *map(str, probe.args[:-1]), *arguments]


def _home() -> str:
    import celestialflow_core

    return str(Path(celestialflow_core.__file__).parents[1])


SIGNALS = [signal.SIGINT, signal.SIGTERM]


def began(job: Path, seconds: float) -> None:
    assert wait_until((job.parent / f"began-{seconds}").exists, seconds=60)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("mode", ["serial", "thread", "process"])
def test_signal_ends_the_run_gently(command: Start, job: Path, number: int, mode: str) -> None:
    """SIGTERM as Ctrl-C: nothing new begins, what is done is printed, all is released, and the exit code is 130."""
    process = command(
        "run",
        "job:sleep",
        "0",
        "1",
        "300",
        "2",
        "--mode",
        mode,
        "--grace",
        "0.1",
        *(("-j", "1") if mode != "serial" else ()),
    )
    began(job, 300)
    process.send_signal(number)

    out, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert out == "0\n1\n"
    assert "2 ok" in err
    assert "Interrupted." in err
    assert "Traceback" not in err
    assert not (job.parent / "began-2").exists()


def test_what_runs_has_its_grace(command: Start, job: Path) -> None:
    """A task that ends soon after the signal still has its result."""
    process = command("run", "job:sleep", "1.5", "--mode", "thread", "--json")
    began(job, 1.5)
    process.send_signal(signal.SIGTERM)

    out, _ = process.communicate(timeout=60)

    assert process.returncode == 130
    assert '"value": 1.5' in out


@pytest.mark.parametrize("number", SIGNALS)
def test_second_signal_ends_the_run_at_once(command: Start, job: Path, number: int) -> None:
    """Without the rest of the grace, which is longer than this test may take."""
    process = command("run", "job:sleep", "300", "--mode", "process", "--grace", "300")
    began(job, 300)
    process.send_signal(number)
    ended = threading.Event()
    again = threading.Thread(target=_press_until, args=(process, ended))
    again.start()
    try:
        process.communicate(timeout=60)
    finally:
        ended.set()
        again.join()

    assert process.returncode == 130


def _press_until(process: subprocess.Popen[str], ended: threading.Event) -> None:
    """Send SIGTERM now and then: two signals that come at once may count as one."""
    while not ended.wait(0.3):
        process.send_signal(signal.SIGTERM)


SLOW = {
    "import": "import time; began(); time.sleep(300)",
    "hook of the end": "import atexit, time; atexit.register(lambda: (began(), time.sleep(300)))",
    "thread": """
import threading, time
threading.Thread(target=lambda: (threading.main_thread().join(), began(), time.sleep(300))).start()
""",
    "last moment": """
import time
class Last:
    def __del__(self, began=began, sleep=time.sleep):
        began()
        sleep(1)
last = Last()
""",
}
"""What a module does that keeps the command line when it begins or ends."""


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize(
    ("where", "code"), [("import", 130), ("hook of the end", 1), ("thread", 1), ("last moment", 1)]
)
def test_signal_never_has_its_default_action(command: Start, job: Path, number: int, where: str, code: int) -> None:
    """Before the run it is an interruption; when all is done the process ends with the code that it was to have."""
    began = "import os\ndef began(os=os, file='began'): os.close(os.open(file, os.O_CREAT))\n"
    (job.parent / "slow.py").write_text(f"{began}{SLOW[where]}\ndef fail(x): raise ValueError\n")
    process = command("run", "slow:fail", "1")
    assert wait_until((job.parent / "began").exists, seconds=60)
    process.send_signal(number)

    _, err = process.communicate(timeout=60)

    assert process.returncode == code
    assert ("Interrupted." in err) == (code == 130)
    assert "Traceback" not in err


@pytest.mark.parametrize("number", SIGNALS)
def test_second_signal_ends_what_would_not_end(command: Start, job: Path, number: int) -> None:
    """Also where there is no run, and somebody's code holds on to the process."""
    (job.parent / "stubborn.py").write_text(
        "import time\nfrom pathlib import Path\n"
        "try:\n    Path('began').touch()\n    time.sleep(300)\n"
        "finally:\n    Path('interrupted').touch()\n    time.sleep(300)\n"
    )
    process = command("run", "stubborn:same", "1")
    for file in ("began", "interrupted"):
        assert wait_until((job.parent / file).exists, seconds=60)
        process.send_signal(number)

    process.communicate(timeout=60)

    assert process.returncode == 130


def test_signals_are_given_back(run: Callable[..., Any]) -> None:
    """A program that calls the command line within itself has the handlers that it had."""
    before = [signal.getsignal(number) for number in SIGNALS]

    for arguments in (("--help",), ("run", "job:double", "1"), ("run", "job:fail", "1"), ("run", "missing:f", "1")):
        run(*arguments)

        assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.parametrize("number", SIGNALS)
def test_signal_reaches_a_run_that_waits_for_input(command: Start, number: int) -> None:
    """A run whose input is silent ends as well."""
    process = command("run", "job:double", "-a", "-", stdin=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("1\n2\n")
    process.stdin.flush()
    assert process.stdout.readline() == "2\n"
    process.send_signal(number)

    assert process.wait(timeout=60) == 130


def test_sigterm_works_in_the_background(command: Start, job: Path) -> None:
    """Where a shell has had SIGINT ignored, SIGTERM drains all the same, and SIGINT still does nothing."""
    process = command(
        "run", "job:sleep", "2", "300", "--grace", "0", preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)
    )
    began(job, 2)
    process.send_signal(signal.SIGINT)
    began(job, 300)
    process.send_signal(signal.SIGTERM)

    out, _ = process.communicate(timeout=60)

    assert (out, process.returncode) == ("2\n", 130)


def test_interrupted_run_goes_on(command: Start, job: Path) -> None:
    """What was done before the signal is in the store, and is not run again."""
    process = command("run", "job:sleep", "0", "300", "--store", "a.db", "--grace", "0")
    began(job, 300)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    (job.parent / "began-0").unlink()

    process = command("run", "job:sleep", "0", "--store", "a.db", "--resume")
    out, err = process.communicate(timeout=60)

    assert (out, process.returncode) == ("0\n", 0)
    assert "1 restored" in err
    assert not (job.parent / "began-0").exists()


def test_lines_stand_above_the_bar(command: Start) -> None:
    """On a terminal a result and a failure each have a line of their own, and the bar is drawn again below."""
    near, far = os.openpty()
    process = command("run", "job:odd_fails", "1", "2", "--progress", stdout=far, stderr=far)
    os.close(far)
    shown = b""
    with open(near, "rb", buffering=0) as terminal:
        try:
            while data := terminal.read(4096):
                shown += data
        except OSError:  # what a terminal says when the other side has gone
            pass

    assert process.wait(timeout=60) == 1
    drawn = [line.rpartition("\r")[2] for line in shown.decode().replace("\r\n", "\n").splitlines()]
    assert "2" in drawn
    assert "Failed: 1: ValueError: 1 is odd" in drawn
    assert "2/2" in shown.decode()


def test_second_run_on_a_store_is_refused(command: Start, job: Path) -> None:
    """With the number of the process that holds it."""
    first = command("run", "job:sleep", "300", "--store", "a.db")
    began(job, 300)

    second = command("run", "job:sleep", "0", "--store", "a.db")
    _, err = second.communicate(timeout=60)

    assert second.returncode == 4
    assert str(first.pid) in err


def test_help_is_quick() -> None:
    """--help loads no plugin machinery, no executor, nothing that a run needs."""
    code = (
        "import sys\n"
        "from celestialflow_core._cli.main import main\n"
        "sys.argv = ['celestialflow', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "retry" in done.stdout
    loaded = set(done.stderr.split())
    heavy = {"pluggy", "attrs", "attr", "importlib.metadata", "asyncio", "sqlite3", "loguru", "tqdm", "json", "csv"}
    assert not loaded & heavy


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("celestialflow re", {"results", "retry"}),
        ("celestialflow run --mo", {"--mode"}),
        ("celestialflow run --mode th", {"thread"}),
        ("celestialflow run --format ", {"txt", "jsonl", "csv"}),
    ],
)
def test_shell_completes(words: str, offered: set[str]) -> None:
    """Commands, options, their choices, and the installed executors."""
    environ = {
        **os.environ,
        "_CELESTIALFLOW_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    code = "from celestialflow_core._cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)

    assert {line.partition(",")[2] for line in done.stdout.splitlines()} == offered


def test_bytes_of_standard_input_are_no_error(command: Start) -> None:
    """Names of files come as they are, whatever Python takes the encoding for, and go as they came."""
    process = command(
        "run", "job:same", "-a", "-", "-a", "-", "-q",
        stdin=subprocess.PIPE, encoding="latin-1", environ={"PYTHONIOENCODING": "ascii"},
    )  # fmt: skip

    out, err = process.communicate("caf\xc3\xa9\n\xff\n", timeout=60)

    assert (out, err) == ("caf\xc3\xa9\n\xff\n", "")


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_json_is_json_in_every_encoding(command: Start, encoding: str) -> None:
    """Of bytes that are no UTF-8, and where the terminal does not know a character, too."""
    process = command(
        "run", "job:same", "caf\xe9", '["\U0001f600"]', b"\xff", "--json", "-q", environ={"PYTHONIOENCODING": encoding}
    )

    out, err = process.communicate(timeout=60)

    assert [json.loads(line)["value"] for line in out.splitlines()] == ["caf\xe9", ["\U0001f600"], "\udcff"]
    assert err == ""
