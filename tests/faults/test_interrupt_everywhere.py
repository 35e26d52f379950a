"""Ctrl-C at every line of the engine and the driver: no count is torn, and nothing is left (faults.md, 6, 32 and 33).

A run is traced line by line. In each of many runs SIGINT is raised at one line of ours, once, so that our handler
decides what becomes of it, as for a key that is pressed at that very moment. The first run, in which nothing is
pressed, says which lines there are: each is pressed at its first execution, and later executions by the dozen.
"""

from __future__ import annotations

import random
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import celestialflow_core
from celestialflow_core import Backoff, Outcome, TaskManager, hookimpl
from celestialflow_core._driver import interrupt
from celestialflow_core._manager.core import Core

HOME = Path(celestialflow_core.__file__).parent
TRACED = (str(HOME / "_engine"), str(HOME / "_driver"), str(HOME / "_manager" / "core.py"))
LATER = 40  # presses at executions that are not the first of their line
BAD = 3  # a task that fails for good
FLAKY = 5  # a task that fails once

Event = tuple[str, int, int]  # file, line, and which execution of it


class Plugin:
    """Hooks of every kind, so that every path of the driver is taken."""

    @hookimpl
    def process_result(self, result: int) -> int:
        """As it is."""
        return result

    @hookimpl
    def on_success(self) -> None:
        """Heard."""

    @hookimpl
    def on_error(self) -> None:
        """Heard."""

    @hookimpl
    def on_duplicate(self) -> None:
        """Heard."""

    @hookimpl
    def on_retry(self) -> None:
        """Heard."""

    @hookimpl
    def task_key(self, task: int) -> int | None:
        """The task itself; no opinion."""
        return None


class Trace:
    """Watches the lines of ours that this thread executes, and presses Ctrl-C at one of them."""

    def __init__(self, press_at: Event | None = None) -> None:
        self.seen: Counter[tuple[str, int]] = Counter()
        self.events: list[Event] = []
        self._press_at = press_at
        self.pressed = False

    def __enter__(self) -> Trace:
        sys.settrace(self._call)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _call(self, frame: FrameType, event: str, argument: Any) -> Any:
        # What __del__ raises, Python drops, whoever wrote it.
        code = frame.f_code
        return self._line if code.co_filename.startswith(TRACED) and code.co_name != "__del__" else None

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            place = (frame.f_code.co_filename, frame.f_lineno)
            self.seen[place] += 1
            if self._press_at is None:
                self.events.append((*place, self.seen[place]))
            elif not self.pressed and self._press_at == (*place, self.seen[place]):
                self.pressed = True
                signal.raise_signal(signal.SIGINT)
        return self._line


class Scene:
    """A small run with all that can happen to a task, in one mode, and what it is to leave behind."""

    def __init__(self, mode: str, plain: bool = False) -> None:
        self.attempts: Counter[int] = Counter()
        self.pulled = 0
        self.manager: TaskManager[Any, Any] = TaskManager(
            self.job,
            mode,
            2,
            max_retries=2,
            backoff=Backoff(initial=0.0001, jitter=0),
            enable_success_cache=True,
            enable_error_cache=True,
            log_dir=None,
            log_level="ERROR",
            plugins=[] if plain else [Plugin()],
        )
        self.stages: list[Any] = []

    def job(self, task: int) -> int:
        """Negative tasks are duplicates of their like."""
        self.attempts[task] += 1
        if task == BAD:
            raise ValueError(task)
        if task == FLAKY and self.attempts[task] == 1:
            raise TimeoutError
        return task * 10

    def tasks(self) -> Iterator[int]:
        """Pulled one by one."""
        for task in (0, 1, 2, BAD, 4, FLAKY, 1, 6, 7):
            self.pulled += 1
            yield task

    def check(self) -> None:
        """After the run, however it ended: the account is whole, nothing is left, and the manager can run again."""
        manager = self.manager
        core: Core = manager._core  # type: ignore[attr-defined]
        assert not core.running, "The manager still holds its claim."
        counts = manager.counts
        for stage in self.stages:
            stage.engine.check()
            assert stage.engine.admitted == counts.taken
        assert counts.running == counts.pending == 0
        settled = counts.succeeded + counts.failed + counts.duplicates + counts.cancelled
        assert settled == counts.taken == self.pulled
        assert len(manager.success_dict) == counts.succeeded
        assert len(manager.error_dict) == counts.failed
        assert all(value == task * 10 for task, value in manager.success_dict.items())
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert not interrupt._active
        assert not interrupt._installed
        if manager.summary is not None:
            assert manager.summary.total == self.pulled
        self.attempts.clear()
        assert manager.start([20, 21]).succeeded == 2


def run_start(scene: Scene) -> None:
    """One call of start."""
    scene.manager.start(scene.tasks())


def run_stream(scene: Scene) -> None:
    """A stream in a with block, which is left before the last outcome."""
    with scene.manager.stream(scene.tasks()) as outcomes:
        for _ in range(6):
            next(outcomes)


def run_ordered(scene: Scene) -> None:
    """A stream to its end, in order."""
    with scene.manager.stream(scene.tasks(), ordered=True) as outcomes:
        last = -1
        for outcome in outcomes:
            assert isinstance(outcome, Outcome)
            assert outcome.id == last + 1
            last = outcome.id


@pytest.fixture(autouse=True)
def stages(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every stage that a manager begins while the test runs."""
    begun: list[Any] = []
    done = Core.done

    def noted(self: Core, stage: Any) -> None:
        begun.append(stage)
        done(self, stage)

    monkeypatch.setattr(Core, "done", noted)
    return begun


def press(run: Callable[[Scene], None], mode: str, plain: bool, at: Event, stages: list[Any]) -> str:
    """Do *run* with Ctrl-C at one line; gives how it ended."""
    stages.clear()
    scene = Scene(mode, plain)
    ended = "normally"
    with Trace(at) as trace:
        try:
            run(scene)
        except KeyboardInterrupt:
            ended = "interrupted"
    scene.stages = list(stages)
    place = f"{Path(at[0]).relative_to(HOME)}:{at[1]}, execution {at[2]}"
    try:
        scene.check()
    except BaseException as error:
        error.add_note(f"Ctrl-C at {place}; the run ended {ended}.")
        raise
    assert ended == "interrupted" or not trace.pressed, f"Ctrl-C at {place} was lost."
    return ended


@pytest.mark.filterwarnings("ignore:A stream was dropped")  # a Ctrl-C before its with block can hold it
@pytest.mark.parametrize("run", [run_start, run_stream, run_ordered], ids=lambda run: run.__name__[4:])
@pytest.mark.parametrize(("mode", "plain"), [("serial", False), ("thread", False), ("serial", True)])
def test_ctrl_c_at_any_line_tears_nothing(
    run: Callable[[Scene], None], mode: str, plain: bool, stages: list[Any]
) -> None:
    """KeyboardInterrupt reaches the caller, the engine is consistent, all that was pulled is accounted for."""
    assert threading.current_thread() is threading.main_thread()
    scene = Scene(mode, plain)
    run(scene)  # whatever is loaded at the first use is loaded
    scene = Scene(mode, plain)
    with Trace() as trace:
        run(scene)
    firsts = [event for event in trace.events if event[2] == 1]
    later = [event for event in trace.events if event[2] > 1]
    random.Random(7).shuffle(later)
    endings = Counter(press(run, mode, plain, event, stages) for event in firsts + later[:LATER])
    assert len(firsts) > 150
    assert endings["interrupted"] > len(firsts) / 2  # of a few lines no second run comes by
