"""What holds for every test: a folder of its own, nothing left behind, and hypothesis that repeats itself in CI.

- A module that needs neither processes, signals nor sockets says ``pytestmark = pytest.mark.pure``: it also runs on
  every supported Python.
"""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

import celestialflow_core
from celestialflow_core import TaskManager
from celestialflow_core.testing import Resources

settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of the test: its own, so that ``logs/`` and the like are never written beside the code."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _logger_state() -> str | None:
    """What loguru looks like, or None while nobody has loaded it."""
    loguru = sys.modules.get("loguru")
    return None if loguru is None else repr(loguru.logger)


def _is_a_pool_of_the_test(leak: str) -> bool:
    """A pool that a test gave to a manager is the test's: a thread of it that is busy ends with its call."""
    return leak.startswith("thread 'ThreadPoolExecutor")


@pytest.fixture(autouse=True)
def ctrl_c_given_back() -> Iterator[None]:
    """Fails a test whose runs leave our handler of SIGINT in the place of the one that was there."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    assert signal.getsignal(signal.SIGINT) is handler, "Ctrl-C was not given back."


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest, own_folder: Path) -> Iterator[None]:
    """Fails a test that leaves a thread, a child, a descriptor or a log handler; a pure one can leave none of them.

    A module whose tests leave something on purpose overrides this fixture.
    """
    if request.node.get_closest_marker("pure"):
        yield
        return
    for name in ("loky.backend.resource_tracker", "multiprocessing.resource_tracker"):
        if name in sys.modules:
            sys.modules[name].ensure_running()  # one a process, for good: it is not the test that leaves it
    before, logger = Resources(), _logger_state()
    yield
    before.expect_no_leaks(_is_a_pool_of_the_test)
    if logger is not None:
        assert _logger_state() == logger, "A log handler was left behind."


class Mode:
    """One way of executing calls, the same for every test: two workers, no log file.

    Attributes:
        name: "serial", "thread", "async", "process", or "futures" for a ThreadPoolExecutor that the test owns.
        execution_mode: What a manager is given.
    """

    def __init__(self, name: str, execution_mode: Any) -> None:
        self.name = name
        self.execution_mode = execution_mode

    @property
    def in_this_process(self) -> bool:
        """Whether calls share the memory of the test."""
        return self.name != "process"

    @property
    def parallel(self) -> bool:
        """Whether calls run at the same time."""
        return self.name != "serial"

    def function(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """*func*, or a coroutine function that calls it."""
        if self.name != "async":
            return func

        async def coroutine(*args: Any) -> Any:
            value = func(*args)
            return await value if inspect.isawaitable(value) else value

        return coroutine

    def manager(self, func: Callable[..., Any], kind: type[TaskManager[Any, Any]] = TaskManager, **options: Any) -> Any:
        """A manager of *kind* that runs *func* in this mode."""
        chosen: dict[str, Any] = {"worker_limit": 2, "log_dir": None, "log_level": "WARNING", **options}
        return kind(self.function(func), self.execution_mode, **chosen)


@contextmanager
def opened_mode(name: str) -> Iterator[Mode]:
    """The mode called *name*; a pool that it needs is shut down at the end."""
    if name == "futures":
        with ThreadPoolExecutor(2) as pool:
            yield Mode(name, pool)
    else:
        yield Mode(name, name)


ALL_MODES = ["serial", "thread", "async", "process", "futures"]


@pytest.fixture(params=ALL_MODES)
def mode(request: pytest.FixtureRequest) -> Iterator[Mode]:
    """Each way of executing calls; a test may choose some with ``parametrize("mode", [...], indirect=True)``."""
    with opened_mode(request.param) as one:
        yield one


@pytest.fixture
def child(own_folder: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts *source* as a script in an interpreter of its own, in the folder of the test."""

    def start(source: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        script = own_folder / "script.py"
        script.write_text(source, encoding="utf-8")
        home = str(Path(celestialflow_core.__file__).parents[1])
        environ = {**os.environ, "PYTHONPATH": home, **options.pop("environ", {})}
        return subprocess.Popen(
            [sys.executable, str(script), *arguments],
            env=environ,
            cwd=own_folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    return start
