"""Every exception survives pickling with its parts, and says what happened and what to do."""

from __future__ import annotations

import copy
import pickle
import signal

import pytest

from celestialflow_core import errors
from celestialflow_core.errors import (
    CelestialFlowError,
    CommandFailed,
    ExecutorError,
    GraphError,
    HookError,
    InvalidTransition,
    NotPicklable,
    PluginError,
    RemoteError,
    RunInProgress,
    SinkError,
    TaskAbandoned,
    TaskTimeout,
    TooManyErrors,
    UnknownExecutor,
    UnknownSink,
    WorkerCrashed,
    WorkerSetupError,
)

pytestmark = pytest.mark.pure

EXAMPLES: list[CelestialFlowError] = [
    CelestialFlowError("something"),
    TaskTimeout("task 7", 2.5),
    TaskTimeout("task 7", 2.5, "  File x"),
    TaskAbandoned("task 7", 2.5, "  File x"),
    WorkerCrashed("task 7", 3, 4711, -signal.SIGKILL, 2**30, "Memory ran out."),
    WorkerCrashed(None),
    WorkerSetupError("It broke.", "Traceback"),
    NotPicklable("The result of task 7", "it holds a lock", "Return something else."),
    RemoteError("mine.Error", "text", "it cannot be rebuilt"),
    HookError("get_args", "class Sub", "It must return an iterable."),
    PluginError("plugin"),
    UnknownExecutor("dsk", ("serial", "async"), "Did you mean 'dask'?"),
    TooManyErrors("3 tasks failed", "the summary"),
    RunInProgress("running"),
    InvalidTransition("bug"),
    CommandFailed("convert a.jpg a.png", 1, "no such file"),
    CommandFailed("convert a.jpg a.png", -signal.SIGKILL),
    GraphError("No source reaches 'parse'."),
    SinkError("sqlite:r.db", "The disk is full.", ("an outcome",)),
    ExecutorError("lazy", "Its slots are 0."),
    UnknownSink("sqlte", ("jsonl", "sqlite"), "Did you mean 'sqlite'?"),
]


def test_every_class_has_an_example() -> None:
    """A class that is added is tested here."""
    assert {type(error).__name__ for error in EXAMPLES} == set(errors.__all__)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_error_survives_pickling_and_copying(error: CelestialFlowError) -> None:
    """Type, arguments, attributes and text."""
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        twin = pickle.loads(pickle.dumps(error, protocol))
        assert type(twin) is type(error)
        assert twin.args == error.args
        assert vars(twin) == vars(error)
        assert str(twin) == str(error)
    assert str(copy.copy(error)) == str(error)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_error_has_one_base_and_is_what_people_catch(error: CelestialFlowError) -> None:
    """CelestialFlowError, and the built-in class that it specialises."""
    assert isinstance(error, CelestialFlowError)
    also = {
        TaskTimeout: TimeoutError,
        TaskAbandoned: TimeoutError,
        NotPicklable: TypeError,
        UnknownExecutor: ValueError,
        RunInProgress: RuntimeError,
    }
    if type(error) in also:
        assert isinstance(error, also[type(error)])


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (EXAMPLES[1], "task 7 ran longer than task_timeout=2.5 s and was ended."),
        (
            EXAMPLES[4],
            "Worker 3 (pid 4711) got SIGKILL while running task 7. It had held up to 1024 MiB. Memory ran out.",
        ),
        (WorkerCrashed("task 7", exitcode=3), "A worker exited with code 3 while running task 7."),
        (WorkerCrashed("task 7", exitcode=-200), "A worker got signal 200 while running task 7."),
        (EXAMPLES[5], "A worker died while running a batch that held this task."),
        (EXAMPLES[6], "It broke.\nTraceback"),
        (EXAMPLES[7], "The result of task 7 cannot be pickled: it holds a lock. Return something else."),
        (
            EXAMPLES[8],
            "mine.Error: text (the original exception could not be sent: it cannot be rebuilt)",
        ),
        (EXAMPLES[9], "get_args of class Sub: It must return an iterable."),
        (EXAMPLES[11], "No executor is named 'dsk'. Installed: async, serial. Did you mean 'dask'?"),
        (UnknownExecutor("x"), "No executor is named 'x'. Installed: none."),
        (EXAMPLES[12], "The run was stopped: 3 tasks failed. the summary"),
        (CommandFailed("convert a.jpg", 1, "a\nb\nc\nd\n"), "convert a.jpg exited with code 1: b\nc\nd"),
        (CommandFailed("convert a.jpg", -signal.SIGKILL), "convert a.jpg got SIGKILL."),
        (ExecutorError("lazy", "Its slots are 0."), "The executor 'lazy' is at fault: Its slots are 0."),
    ],
)
def test_text_says_what_happened(error: CelestialFlowError, text: str) -> None:
    """Whole sentences."""
    assert str(error) == text


def test_abandoned_says_that_it_may_still_run() -> None:
    """And what would have ended it, and where it was."""
    text = str(TaskAbandoned("task 7", 2, "  File x"))
    assert "could not be ended; it was abandoned, and may still be running. In process mode it would have been" in text
    assert text.endswith("It was at:\n  File x")
