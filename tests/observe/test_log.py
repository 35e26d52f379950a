"""The log: whole lines in the run's own file, and the application's loguru left as it was."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from loguru import logger

from celestialflow_core import TaskManager
from celestialflow_core._observe.interface import RunInfo, Settled
from celestialflow_core._observe.log import LINES_LEVEL, RunLog, check_level
from celestialflow_core._observe.logfile import LogFile

pytestmark = pytest.mark.pure

NOON = time.mktime((2024, 2, 29, 12, 0, 0, 0, 0, -1))
STAMP = "2024-02-29 12:00:00"
RUN = RunInfo(name="f", mode="thread", workers=4, total=3, max_info=50)


class Summary:
    total = 3

    def __str__(self) -> str:
        return "f: 3 tasks in 0.10 s: 3 ok, 0 failed.\nSlowest:\n  0.1 s 7"


def settled(*pairs: tuple[Any, Any], others: Any = (), tries: dict[int, int] | None = None, **columns: Any) -> Settled:
    size = len(pairs)
    given: dict[str, Any] = {"ids": range(size), "seconds": [0.25] * size, "workers": [1] * size, **columns}
    tasks, values = [task for task, _ in pairs], [value for _, value in pairs]
    return Settled(tasks=tasks, values=values, others=others, tries=tries or {}, **given)


def other(status: str, task: Any = 7, **parts: Any) -> Any:
    known: dict[str, Any] = dict.fromkeys(("error", "seconds", "worker", "original"))
    return SimpleNamespace(**{**known, "id": 5, "attempts": 0, "status": status, "task": task, **parts})


@pytest.fixture
def application() -> Iterator[list[Any]]:
    """The records that a handler of the application gets, of level TRACE; the handlers are compared at the end."""
    before = repr(logger)
    records: list[Any] = []
    handler = logger.add(lambda message: records.append(message.record), level="TRACE", format="{message}")
    yield records
    logger.remove(handler)
    assert repr(logger) == before


def texts(records: list[Any]) -> list[str]:
    return [f"{record['level'].name} {record['message']}" for record in records]


def read(folder: Path) -> list[str]:
    (path,) = folder.iterdir()
    assert path.name == "task_logger(2024-02-29).log"
    return path.read_text("utf-8").splitlines()


def make(folder: Path | None, level: str = "INFO", clock: Any = lambda: NOON) -> RunLog:
    return RunLog(level, folder, clock=clock)


class Untouchable:
    """A task or result that must not be formatted."""

    def __repr__(self) -> str:
        raise AssertionError("formatted")


def test_log_has_a_line_for_everything_that_happens(tmp_path: Path, application: list[Any]) -> None:
    """Start, success, retry, failure, duplicate, cancelled and end: a line each, with time, level, task and details."""
    log = make(tmp_path / "deep" / "logs")
    log.start(RUN)
    log.settled(settled(((1, 2), 3), ("x" * 99, None)))
    log.retried(8, TimeoutError("slow"), 1, 0.5)
    log.retried(9, TimeoutError(), 2, 0.0)
    log.settled(settled((8, "ok"), tries={0: 3}))
    log.settled(settled((8, "ok"), seconds=[None], workers=[None]))
    log.settled(
        settled(
            others=[
                other("error", error=ValueError("bad\nrow"), attempts=4, seconds=0.5, worker=0),
                other("error", error=KeyError("k"), attempts=1),
                other("duplicate", original=2),
                other("cancelled"),
                other("cancelled", attempts=1),
                other("cancelled", attempts=1, error=KeyError("k"), worker=3),
                other("restored"),
            ]
        )
    )
    log.finish(Summary())
    assert read(tmp_path / "deep" / "logs")[1:-1] == [
        f"{STAMP} SUCCESS In 'f', task (1, 2) completed by thread-1. Result is 3. Used 0.25 s.",
        f"{STAMP} SUCCESS In 'f', task '{'x' * 31}...{'x' * 15}' completed by thread-1. Result is None. Used 0.25 s.",
        f"{STAMP} WARNING In 'f', task 8 failed on attempt 1 and is retried in 0.50 s: TimeoutError: slow",
        f"{STAMP} WARNING In 'f', task 9 failed on attempt 2 and is retried: TimeoutError",
        f"{STAMP} SUCCESS In 'f', task 8 completed by thread-1 on attempt 3. Result is 'ok'. Used 0.25 s.",
        f"{STAMP} SUCCESS In 'f', task 8 completed by thread. Result is 'ok'.",
        f"{STAMP} ERROR In 'f', task 7 failed by thread-0 on attempt 4 after 0.50 s: ValueError: bad\\nrow",
        f"{STAMP} ERROR In 'f', task 7 failed by thread: KeyError: 'k'",
        f"{STAMP} INFO In 'f', task 7 equals task number 2 and was not run.",
        f"{STAMP} INFO In 'f', task 7 was cancelled before it began.",
        f"{STAMP} INFO In 'f', task 7 was cancelled before it had ended.",
        f"{STAMP} INFO In 'f', task 7 was cancelled by thread-3: KeyError: 'k'",
        f"{STAMP} INFO In 'f', task 7 was restored.",
    ]
    first, last = read(tmp_path / "deep" / "logs")[0], read(tmp_path / "deep" / "logs")[-1]
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d INFO 'f' starts 3 tasks in thread mode with 4 workers\.", first
    )
    assert last.endswith(" INFO f: 3 tasks in 0.10 s: 3 ok, 0 failed.")


def test_log_gives_the_application_start_end_and_warnings_alone(tmp_path: Path, application: list[Any]) -> None:
    """No line of a task reaches a handler of the application, even one of level TRACE; the ordinary records do."""
    log = make(tmp_path)
    log.start(RUN)
    log.settled(settled(*[(i, i) for i in range(100)]))
    log.retried(8, TimeoutError("slow"), 1, 0.5)
    log.warning("A {brace} of a hook.")
    log.finish(Summary())
    assert texts(application) == [
        "INFO 'f' starts 3 tasks in thread mode with 4 workers.",
        "WARNING A {brace} of a hook.",
        "INFO f: 3 tasks in 0.10 s: 3 ok, 0 failed.",
    ]
    assert len(read(tmp_path)) == 104


def test_log_changes_no_handler(tmp_path: Path) -> None:
    """A run has one handler of its own while it lasts, and repr(logger) is the same before and after."""
    before = repr(logger)
    log = make(tmp_path)
    assert repr(logger) == before
    log.start(RUN)
    assert repr(logger) != before
    log.finish(None)
    log.finish(None)
    assert repr(logger) == before


def test_log_makes_one_record_a_batch(tmp_path: Path) -> None:
    """All lines of a batch go through loguru as one record, as a handler of level 0 can see."""
    records: list[Any] = []
    log = make(tmp_path)
    log.start(RUN)
    handler = logger.add(lambda message: records.append(message.record), level=0, format="{message}")
    log.settled(settled(*[(i, i) for i in range(500)], others=[other("error", error=KeyError())] * 100))
    logger.remove(handler)
    log.finish(None)
    (record,) = records
    assert record["level"].name == LINES_LEVEL
    assert record["level"].no < logger.level("TRACE").no
    assert len(record["message"].splitlines()) == 600
    assert len(read(tmp_path)) == 602


@pytest.mark.parametrize(
    ("level", "words"),
    [
        ("TRACE", {"INFO", "SUCCESS", "WARNING", "ERROR"}),
        ("SUCCESS", {"SUCCESS", "WARNING", "ERROR"}),
        ("WARNING", {"WARNING", "ERROR"}),
        ("ERROR", {"ERROR"}),
    ],
)
def test_log_level_leaves_out_what_is_below(
    tmp_path: Path, application: list[Any], level: str, words: set[str]
) -> None:
    """Lines and records below the level are written nowhere."""
    log = make(tmp_path, level)
    log.start(RUN)
    log.settled(settled((1, 2), others=[other("error", error=KeyError()), other("duplicate")]))
    log.retried(8, TimeoutError("slow"), 1, 0.5)
    log.warning("look")
    log.finish(Summary())
    assert {line.split()[2] for line in read(tmp_path)} == words
    assert {record["level"].name for record in application} == words & {"INFO", "WARNING"}


def test_log_formats_nothing_that_it_leaves_out(tmp_path: Path) -> None:
    """A line below the level costs no repr and no file; neither does any line of a task where there is no folder."""
    quiet, everything = (
        Untouchable(),
        settled((Untouchable(), Untouchable()), others=[other("duplicate", Untouchable())]),
    )
    for log in (make(tmp_path, "CRITICAL"), make(tmp_path, "ERROR"), make(None, "TRACE")):
        log.start(RUN)
        log.settled(everything)
        log.retried(quiet, KeyError(), 1, 0.5)
        log.finish(None)
    assert not list(tmp_path.iterdir())


def test_start_of_a_serial_run_names_no_workers(application: list[Any]) -> None:
    """worker_limit is taken in serial mode, but there is one thread, the caller's."""
    TaskManager(abs, "serial", 5, log_dir=None).start([1])
    assert texts(application)[0] == "INFO 'abs' starts 1 task in serial mode."


def test_log_without_folder_keeps_start_end_and_warnings(
    tmp_path: Path, application: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """log_dir=None adds no handler and writes no file; the ordinary records remain."""
    monkeypatch.chdir(tmp_path)
    before = repr(logger)
    log = make(None)
    log.start(RunInfo(name="f", mode="serial"))
    assert repr(logger) == before
    log.settled(settled((1, 2)))
    log.warning("look")
    log.finish(None)
    assert texts(application) == ["INFO 'f' starts tasks in serial mode.", "WARNING look", "INFO 'f' ended."]
    assert not list(tmp_path.iterdir())


def test_log_takes_text_as_it_is(tmp_path: Path, application: list[Any]) -> None:
    """Braces, tags, percent signs, line breaks and surrogates in what users name and pass break no line."""

    class Odd:
        def __repr__(self) -> str:
            return "{0} {x!r} <red>%s\n\ud800 é"

    log = make(tmp_path)
    log.start(RunInfo(name="{f} <red>\n", mode="{m}"))
    log.settled(settled((Odd(), "{}"), others=[other("error", Odd(), error=ValueError("{oops}"))]))
    log.warning("\ud800 {x}")
    log.finish(None)
    lines = read(tmp_path)
    assert len(lines) == 5
    assert lines[1].endswith(
        "In '{f} <red>\\n', task {0} {x!r} <red>%s\\n\\ud800 é completed by {m}-1. Result is '{}'. Used 0.25 s."
    )
    assert lines[2].endswith("failed by {m}: ValueError: {oops}")
    assert lines[3].endswith("WARNING \\ud800 {x}")


def test_log_survives_what_cannot_be_formatted(tmp_path: Path) -> None:
    """A task, a result and an error that raise when they are shown still have their lines."""

    class EvilError(Exception):
        def __repr__(self) -> str:
            raise SystemExit

        __str__ = __repr__

    log = make(tmp_path)
    log.start(RUN)
    log.settled(settled((EvilError(), EvilError()), others=[other("error", EvilError(), error=EvilError())]))
    log.retried(EvilError(), EvilError(), 1, 0.5)
    log.finish(None)
    lines = read(tmp_path)[1:-1]
    assert len(lines) == 3
    assert all("whose repr raises SystemExit" in line for line in lines)


def test_log_folder_is_resolved_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that changes the working directory does not move the log."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    log = make(Path("logs"), "SUCCESS")
    log.start(RUN)
    monkeypatch.chdir(tmp_path / "elsewhere")
    log.settled(settled((1, 2)))
    log.finish(None)
    assert len(read(tmp_path / "logs")) == 1


def test_log_of_the_runs_of_a_day_is_one_file(tmp_path: Path) -> None:
    """A later run appends, and a run that passes midnight stays in its file."""
    now = [NOON]
    log = make(tmp_path, "SUCCESS", lambda: now[0])
    for i in range(3):
        log.start(RUN)
        log.settled(settled((i, i)))
        log.finish(None)
    log.start(RUN)
    now[0] += 86400
    log.settled(settled((3, 3)))
    log.finish(None)
    lines = read(tmp_path)
    assert [line.partition("task ")[2][0] for line in lines] == ["0", "1", "2", "3"]
    assert lines[-1].startswith("2024-03-01 12:00:00 SUCCESS")


def test_log_of_each_run_holds_its_own_lines(tmp_path: Path) -> None:
    """Two runs at once, and the application's own records, do not mix in the files."""
    first, second = make(tmp_path / "a"), make(tmp_path / "b")
    first.start(RunInfo(name="first", mode="serial"))
    second.start(RunInfo(name="second", mode="serial"))
    for log, name in ((first, "first"), (second, "second")):
        log.settled(settled((1, 1)))
        log.warning(f"of {name}")
    logger.debug("the application's own")
    first.finish(None)
    second.settled(settled((2, 2)))
    second.finish(None)
    assert len(read(tmp_path / "a")) == 4
    assert len(read(tmp_path / "b")) == 5
    assert not [line for line in read(tmp_path / "a") if "second" in line or "own" in line]


def test_log_writes_a_lone_retry_at_once_and_a_storm_together(tmp_path: Path) -> None:
    """A retry after a pause is in the file before its next attempt; of many at once none is lost."""
    now = [NOON]
    log = make(tmp_path, "WARNING", lambda: now[0])
    log.start(RUN)
    now[0] += 1
    log.retried(0, TimeoutError(), 1, 30.0)
    assert len(read(tmp_path)) == 1
    for i in range(1000):
        log.retried(i, TimeoutError(), 1, 30.0)
    written = len(read(tmp_path))
    assert 1 < written < 1001
    log.settled(settled())
    assert len(read(tmp_path)) == 1001
    log.retried(0, TimeoutError(), 2, 30.0)
    log.finish(None)
    assert len(read(tmp_path)) == 1002


def full_disk(folder: Path) -> Path:
    (folder / "task_logger(2024-02-29).log").symlink_to("/dev/full")
    return folder


def file_in_its_place(folder: Path) -> Path:
    (folder / "logs").write_text("mine")
    return folder / "logs"


def file_above_it(folder: Path) -> Path:
    return file_in_its_place(folder) / "logs"


def folder_in_the_place_of_the_file(folder: Path) -> Path:
    (folder / "task_logger(2024-02-29).log").mkdir()
    return folder


def read_only(folder: Path) -> Path:
    return Path("/proc/celestialflow")


@pytest.mark.parametrize(
    "spoil", [full_disk, file_in_its_place, file_above_it, folder_in_the_place_of_the_file, read_only]
)
@pytest.mark.parametrize("level", ["INFO", "ERROR"])
def test_log_that_cannot_be_written_costs_one_warning(
    tmp_path: Path, application: list[Any], spoil: Any, level: str
) -> None:
    """A full disk, a read-only folder or a file in its place: one warning whatever the level, and the run goes on."""
    before = repr(logger)
    log = make(spoil(tmp_path), level)
    log.start(RUN)
    for _ in range(3):
        log.settled(settled((1, 2), others=[other("error", error=KeyError())]))
        log.retried(8, TimeoutError("slow"), 1, 0.5)
    assert repr(logger) == before
    log.finish(Summary())
    warnings = [text for text in texts(application) if text.startswith("WARNING")]
    assert len(warnings) == 1
    assert "cannot be written, and the run goes on without it" in warnings[0]
    assert len(application) == (3 if level == "INFO" else 1)


def test_log_survives_a_missing_working_directory(
    tmp_path: Path, application: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the folder cannot even be resolved there is one warning, too."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    log = make(Path("logs"))
    log.start(RUN)
    log.settled(settled((1, 2)))
    log.finish(None)
    assert [record["level"].name for record in application] == ["WARNING", "INFO", "INFO"]


def test_log_file_finishes_what_a_write_leaves() -> None:
    """A write that takes a part of the text, as at the edge of a quota, is gone on with."""
    taken = bytearray()

    class Short:
        def write(self, rest: memoryview) -> int:
            taken.extend(rest[:3])
            return min(3, len(rest))

    file = LogFile("/nowhere", NOON)
    file._file = Short()
    file.write("a whole line é\n")
    assert taken.decode() == "a whole line é\n"
    assert file.error is None


def test_log_leaves_no_descriptor(tmp_path: Path) -> None:
    """The file is closed at the end of each run, and when it cannot be written."""
    before = len(os.listdir("/proc/self/fd"))
    logs = [make(tmp_path / str(i)) for i in range(20)]
    (tmp_path / "full").mkdir()
    logs.append(make(full_disk(tmp_path / "full")))
    for log in logs:
        log.start(RUN)
        log.settled(settled((1, 2)))
    assert len(os.listdir("/proc/self/fd")) == before + 20
    for log in logs:
        log.finish(None)
    assert len(os.listdir("/proc/self/fd")) == before


def test_log_is_released_when_a_handler_of_the_application_raises(tmp_path: Path) -> None:
    """A handler that raises at the end record (catch=False) does not keep ours in loguru."""

    def angry(message: Any) -> None:
        raise ZeroDivisionError

    before = repr(logger)
    log = make(tmp_path)
    log.start(RUN)
    handler = logger.add(angry, catch=False)
    with pytest.raises(ZeroDivisionError):
        log.finish(None)
    logger.remove(handler)
    assert repr(logger) == before


@pytest.mark.parametrize("level", ["info", "", "LOUD", None, 20])
def test_check_level_refuses_what_is_no_level(level: Any) -> None:
    """An unknown level is refused by the constructor, with those that there are."""
    with pytest.raises(ValueError, match=r"TRACE, DEBUG, INFO, SUCCESS, WARNING, ERROR, CRITICAL") as caught:
        RunLog(level)
    assert repr(level) in str(caught.value)
    assert ("Did you mean 'INFO'" in str(caught.value)) is (level == "info")


def test_check_level_knows_the_standard_levels_and_those_added_to_loguru() -> None:
    """Our table agrees with loguru, and a level that the application has added counts."""
    for name in ("TRACE", "DEBUG", "INFO", "SUCCESS", "WARNING", "ERROR", "CRITICAL"):
        assert check_level(name) == logger.level(name).no
    try:
        logger.level("CELESTIALFLOW_TEST_LOUD")
    except ValueError:
        logger.level("CELESTIALFLOW_TEST_LOUD", no=33)
    assert check_level("CELESTIALFLOW_TEST_LOUD") == 33


def test_log_refuses_a_folder_that_is_no_path() -> None:
    """A log_dir of a wrong type is refused by the constructor."""
    with pytest.raises(TypeError, match="int"):
        RunLog(log_dir=3)  # type: ignore[arg-type]


def child(code: str) -> str:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True).stdout


def test_log_loads_loguru_when_a_run_starts(tmp_path: Path) -> None:
    """Neither the import nor the constructor loads loguru."""
    code = (
        "import sys; from celestialflow_core._observe import interface\n"
        "from celestialflow_core._observe.log import RunLog\n"
        f"log = RunLog('SUCCESS', {str(tmp_path)!r}); print('loguru' in sys.modules)\n"
        "log.start(interface.RunInfo(name='f', mode='serial')); print('loguru' in sys.modules); log.finish(None)"
    )
    assert child(code).split() == ["False", "True"]


def test_log_survives_a_level_of_the_same_name(tmp_path: Path) -> None:
    """Where the application has a level named like ours, the lines still go to the run's file alone."""
    code = (
        "import sys; from loguru import logger; logger.remove(); logger.add(sys.stdout, level='TRACE')\n"
        "logger.level('CELESTIALFLOW', no=45)\n"
        "from celestialflow_core._observe.log import RunLog; from celestialflow_core._observe import interface\n"
        f"log = RunLog('SUCCESS', {str(tmp_path)!r}, clock=lambda: {NOON!r})\n"
        "log.start(interface.RunInfo(name='f', mode='serial'))\n"
        "log.settled(interface.Settled(ids=[0], tasks=[1], values=[2], seconds=[None], workers=[None]))\n"
        "log.finish(None)"
    )
    assert child(code) == ""
    assert read(tmp_path) == [f"{STAMP} SUCCESS In 'f', task 1 completed by serial. Result is 2."]


def test_log_survives_an_application_that_removes_all_handlers(tmp_path: Path) -> None:
    """logger.remove() in the middle of a run, as in a script that sets up its logging late, loses no line."""
    code = (
        "from loguru import logger; from celestialflow_core._observe import interface\n"
        "from celestialflow_core._observe.log import RunLog\n"
        f"log = RunLog('INFO', {str(tmp_path)!r}, clock=lambda: {NOON!r})\n"
        "one = interface.Settled(ids=[0], tasks=[1], values=[2], seconds=[None], workers=[None])\n"
        "logger.remove(); log.start(interface.RunInfo(name='f', mode='serial')); log.settled(one)\n"
        "logger.remove(); log.settled(one)\n"
        "logger.remove(); log.finish(None); print(logger)"
    )
    assert "handlers=[]" in child(code)
    assert len(read(tmp_path)) == 4
