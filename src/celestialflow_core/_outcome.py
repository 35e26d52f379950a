"""What users see of a run: an `Outcome` a task, a `RunSummary` at the end, `Counts` while it lasts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast

import attrs

from celestialflow_core._call import record
from celestialflow_core._text import cut, error_text, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Counts", "ErrorGroup", "Outcome", "RunSummary", "SlowTask", "Status"]

T = TypeVar("T")
R = TypeVar("R")

SHOWN_GROUPS = 10
SHOWN_STAGES = 20
RARE = {
    "retries": ("retry", "retries"),
    "reruns": ("rerun", "reruns"),
    "duplicates": ("duplicate", "duplicates"),
    "cancelled": ("cancelled", "cancelled"),
    "abandoned": ("abandoned", "abandoned"),
    "crashes": ("crash", "crashes"),
    "hook_errors": ("hook error", "hook errors"),
}

Status = Literal["success", "error", "duplicate", "cancelled"]


@record
class Outcome(Generic[T, R]):
    """How one task ended.

    Attributes:
        id: The number of the task in its run, from 0, in the order in which tasks were taken.
        task: The task itself.
        status: "success", "error", "duplicate" (an equal task came before it) or "cancelled" (the run ended first).
        value: What the function returned, after ``process_result``; None unless it succeeded.
        error: The exception, or None.
        attempts: How often the function was called for it.
        seconds: How long the last attempt ran, where the executor knows.
        worker: The index of the worker that ran it.
        key: What identified the task.
        traceback: The error's traceback as text, with the frames of the worker.
        output: What the task printed, where the executor keeps it.
        original: Of a duplicate, the id of the task that it equals.
        parent: In a graph, the id of the task whose result this task is.
        root: The id of the task of the source that it came from.
        stage: The name of the manager.
    """

    id: int
    task: T
    status: Status
    value: R | None = None
    error: BaseException | None = None
    attempts: int = 0
    seconds: float | None = None
    worker: int | None = None
    key: Any = None
    traceback: str | None = None
    output: str | None = None
    original: int | None = None
    parent: int | None = None
    root: int | None = None
    stage: str | None = None

    @property
    def ok(self) -> bool:
        """True for a success."""
        return self.status == "success"

    def unwrap(self) -> R:
        """The value.

        Raises:
            BaseException: The task's own error, if it failed.
            LookupError: There is neither: a duplicate, or a cancelled task.
        """
        if self.status == "success":
            return cast(R, self.value)
        if self.error is not None:
            raise self.error
        raise LookupError(f"{self!r} has no value.")

    def __repr__(self) -> str:
        shown = f"<Outcome {self.id} {self.status} task={cut(self.task)}"
        if self.status == "success":
            shown += f" value={cut(self.value)}"
        elif self.error is not None:
            shown += f" error={error_text(self.error)}"
        elif self.original is not None:
            shown += f" original={self.original}"
        return shown + ">"


@attrs.frozen(kw_only=True)
class Counts:
    """Where the tasks of a run are at one moment. ``taken`` is the sum of all but ``retries``.

    Attributes:
        taken: Tasks taken from the iterable.
        pending: Ready, or waiting for a retry.
        running: Handed to the executor.
        succeeded, failed, duplicates, cancelled: Settled.
        retries: Attempts beyond the first.
    """

    taken: int = 0
    pending: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    duplicates: int = 0
    cancelled: int = 0
    retries: int = 0

    @property
    def settled(self) -> int:
        """How many tasks have their outcome."""
        return self.succeeded + self.failed + self.duplicates + self.cancelled


@attrs.frozen(kw_only=True)
class ErrorGroup:
    """The failures of one kind: the same exception type, raised at the same line.

    Attributes:
        type: The exception's qualified name.
        place: "file.py:12", where it was raised, or None where that is not known.
        count: How many tasks failed so.
        task: One of them.
        message: What its exception said.
        stage: In the summary of a graph, the manager whose tasks they were.
    """

    type: str
    place: str | None
    count: int
    task: Any
    message: str
    stage: str | None = None

    def __str__(self) -> str:
        where = f" in {self.stage}" if self.stage else ""
        where += f" at {self.place}" if self.place else ""
        said = one_line(self.message, 120).rstrip(" .,:;")  # many are sentences; this is one, too
        return f"{self.count} x {self.type}{where}{f': {said}' if said else ''}, as for {cut(self.task)}"


@attrs.frozen(kw_only=True)
class SlowTask:
    """One of the tasks that ran longest: the task, its last attempt's seconds, its worker; in a graph its stage."""

    task: Any
    seconds: float
    worker: int | None = None
    stage: str | None = None

    def __str__(self) -> str:
        return f"{self.seconds:.3f} s {f'{self.stage}: ' if self.stage else ''}{cut(self.task)}"


@attrs.frozen(kw_only=True)
class RunSummary:
    """The account of a run. ``total`` is the sum of ``succeeded``, ``failed``, ``duplicates`` and ``cancelled``.

    Attributes:
        name: The manager's.
        mode: Its execution mode.
        total: Tasks taken from the iterable.
        succeeded, failed, duplicates, cancelled: How they ended.
        retries: Attempts beyond the first.
        reruns: Calls started again, uncharged, because their worker ended for another's sake.
        abandoned: Timed-out calls that could not be ended, and may still run.
        crashes: Calls that killed their worker.
        hook_errors: Times that a hook raised where that fails no task.
        seconds: How long the run took.
        stopped: Why it ended before the tasks did, in words, or None.
        errors: The failures by kind, most frequent first.
        slowest: The five tasks that ran longest, slowest first.
        processed, handled: What an overridden ``process_result_dict`` and ``handle_error_dict`` returned.
        stages: Of a graph, the summary of each manager.
    """

    name: str = ""
    mode: str = ""
    total: int = 0
    succeeded: int = 0
    failed: int = 0
    duplicates: int = 0
    cancelled: int = 0
    retries: int = 0
    reruns: int = 0
    abandoned: int = 0
    crashes: int = 0
    hook_errors: int = 0
    seconds: float = 0.0
    stopped: str | None = None
    errors: tuple[ErrorGroup, ...] = ()
    slowest: tuple[SlowTask, ...] = ()
    processed: Any = attrs.field(default=None, repr=False)
    handled: Any = attrs.field(default=None, repr=False)
    stages: tuple[RunSummary, ...] = attrs.field(default=(), repr=False)

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _account(self) -> str:
        counts = [f"{self.succeeded} ok", f"{self.failed} failed"]
        for name, (one, many) in RARE.items():
            number = getattr(self, name)
            if number:
                counts.append(f"{number} {one if number == 1 else many}")
        return ", ".join(counts)

    def _lines(self) -> Iterator[str]:
        tasks = "1 task" if self.total == 1 else f"{self.total} tasks"
        yield f"{one_line(self.name, 100)}: {tasks} in {self.seconds:.2f} s: {self._account()}."
        if self.stopped:
            yield f"Stopped early: {one_line(self.stopped, 200)}"
        if self.stages:
            yield "Stages:"
            for stage in self.stages[:SHOWN_STAGES]:
                yield f"  {one_line(stage.name, 60)}: {stage.total}: {stage._account()}"
            if len(self.stages) > SHOWN_STAGES:
                yield f"  and {len(self.stages) - SHOWN_STAGES} more"
        if self.errors:
            yield "Errors:"
            for group in self.errors[:SHOWN_GROUPS]:
                yield f"  {group}"
            if len(self.errors) > SHOWN_GROUPS:
                rest = self.errors[SHOWN_GROUPS:]
                yield f"  and {sum(group.count for group in rest)} of {len(rest)} other kinds"
        if self.slowest:
            yield "Slowest:"
            for slow in self.slowest:
                yield f"  {slow}"
