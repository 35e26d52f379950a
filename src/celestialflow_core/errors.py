"""The exceptions of celestialflow_core, and what each of them means.

    CelestialFlowError
    ├── TaskTimeout (TimeoutError)        a task ran longer than ``task_timeout``; it was ended
    │   └── TaskAbandoned                 it could not be ended, and was left behind
    ├── WorkerCrashed                     the worker process died while it ran the task
    ├── WorkerSetupError                  a worker could not start; ends the run
    ├── NotPicklable (TypeError)          something could not cross the process boundary
    ├── RemoteError                       stands in for an exception that could not cross it
    ├── CommandFailed                     a program of the command line ended with another exit code than 0
    ├── HookError                         a hook implementation misbehaved
    ├── ExecutorError                     an executor does not keep to its interface; ends the run
    ├── PluginError                       a plugin cannot be used
    ├── SinkError                         a result sink failed, or refuses the run
    ├── UnknownExecutor (ValueError)      no executor has this name
    ├── UnknownSink (ValueError)          no sink has this name
    ├── GraphError (ValueError)           a graph cannot run as it is connected
    ├── TooManyErrors                     a ``stop`` rule ended the run
    ├── RunInProgress                     the manager is already running
    └── InvalidTransition                 a bug in an executor or in the engine

Every class hands all its arguments to ``super().__init__`` and makes its text in ``__str__``, so that each of them
survives pickling with its parts.
"""

from __future__ import annotations

import signal

__all__ = [
    "CelestialFlowError",
    "CommandFailed",
    "ExecutorError",
    "GraphError",
    "HookError",
    "InvalidTransition",
    "NotPicklable",
    "PluginError",
    "RemoteError",
    "RunInProgress",
    "SinkError",
    "TaskAbandoned",
    "TaskTimeout",
    "TooManyErrors",
    "UnknownExecutor",
    "UnknownSink",
    "WorkerCrashed",
    "WorkerSetupError",
]


class CelestialFlowError(Exception):
    """The base of every exception that this package defines."""


class TaskTimeout(CelestialFlowError, TimeoutError):
    """A task ran longer than ``task_timeout`` and was ended. A ``TimeoutError``, so it is retried by default.

    Args:
        task: A short text that names the task.
        seconds: The limit, in seconds.
        stack: The Python stack of the stuck code, or None where the executor cannot get it.
    """

    def __init__(self, task: str, seconds: float, stack: str | None = None) -> None:
        super().__init__(task, seconds, stack)
        self.task = task
        self.seconds = seconds
        self.stack = stack

    def __str__(self) -> str:
        text = f"{self.task} ran longer than task_timeout={self.seconds:g} s and was ended."
        return f"{text} It was at:\n{self.stack}" if self.stack else text


class TaskAbandoned(TaskTimeout):
    """A task ran too long and could not be ended: a thread, or a coroutine that swallows its cancellation.

    It may still be running, so it is retried only where ``retry_exceptions`` lists this class itself.
    """

    def __str__(self) -> str:
        text = (
            f"{self.task} ran longer than task_timeout={self.seconds:g} s and could not be ended; it was abandoned, "
            f"and may still be running. In process mode it would have been killed."
        )
        return f"{text} It was at:\n{self.stack}" if self.stack else text


class WorkerCrashed(CelestialFlowError):
    """The worker process died while it ran a task. Retried only where ``retry_exceptions`` lists it.

    Args:
        task: A short text that names the task, or ``None`` where the executor cannot tell.
        worker: The worker's index.
        pid: Its process id.
        exitcode: As in ``subprocess``: the exit status, or minus the number of the signal; None where unknown.
        peak_bytes: The most memory that the worker had held, in bytes, where it is known.
        note: Anything more that is known, as a sentence.
        crashes: How many workers this task has ended in this run, as far as the executor counts. After two it is not
            tried again.
    """

    def __init__(
        self,
        task: str | None,
        worker: int | None = None,
        pid: int | None = None,
        exitcode: int | None = None,
        peak_bytes: int | None = None,
        note: str = "",
        crashes: int = 1,
    ) -> None:
        super().__init__(task, worker, pid, exitcode, peak_bytes, note, crashes)
        self.task = task
        self.worker = worker
        self.pid = pid
        self.exitcode = exitcode
        self.peak_bytes = peak_bytes
        self.note = note
        self.crashes = crashes
        self.attempt: tuple[int, int] | None = None
        """Which attempt of how many it was; set when the run accounts for it."""

    @property
    def signal_name(self) -> str | None:
        """The name of the signal that ended the worker ("SIGKILL"), or None."""
        return None if self.exitcode is None or self.exitcode >= 0 else _signal_name(-self.exitcode)

    def __str__(self) -> str:
        who = "A worker" if self.worker is None else f"Worker {self.worker}"
        if self.pid is not None:
            who += f" (pid {self.pid})"
        if self.signal_name:
            how = f"got {self.signal_name}"
        elif self.exitcode is not None:
            how = f"exited with code {self.exitcode}"
        else:
            how = "died"
        which = f", attempt {self.attempt[0]} of {self.attempt[1]}" if self.attempt else ""
        text = f"{who} {how} while running {self.task or 'a batch that held this task'}{which}."
        if self.peak_bytes:
            text += f" It had held up to {self.peak_bytes / 2**20:.0f} MiB."
        if self.note:
            text += f" {self.note}"
        if self.crashes > 1:
            text += f" This task has ended {self.crashes} workers by now, and is not tried again."
        return text


class WorkerSetupError(CelestialFlowError):
    """A worker could not start: ``worker_setup`` raised, an import failed, or its process died. Ends the run.

    Args:
        reason: What happened, as a sentence.
        details: The traceback of the set-up, or what the worker wrote on stderr.
    """

    def __init__(self, reason: str, details: str = "") -> None:
        super().__init__(reason, details)
        self.reason = reason
        self.details = details

    def __str__(self) -> str:
        return f"{self.reason}\n{self.details.rstrip()}" if self.details else self.reason


class NotPicklable(CelestialFlowError, TypeError):
    """A function, an argument or a result cannot be pickled, so it cannot go to another process.

    Args:
        what: What it is: "The function", "Argument 1 of task (3,)", "The result of task 7".
        reason: Why not, in the words of the pickler.
        advice: What to do about it, as a sentence.
    """

    def __init__(self, what: str, reason: str, advice: str = "") -> None:
        super().__init__(what, reason, advice)
        self.what = what
        self.reason = reason
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.what} cannot be pickled: {self.reason}. {self.advice}".rstrip()


class RemoteError(CelestialFlowError):
    """Stands in for an exception of a worker process that could not be pickled or rebuilt.

    Args:
        type_name: The qualified name of the original exception type ("mypackage.BadRow").
        text: The original's ``str()``.
        reason: Why the original could not cross.
    """

    def __init__(self, type_name: str, text: str, reason: str = "") -> None:
        super().__init__(type_name, text, reason)
        self.type_name = type_name
        self.text = text
        self.reason = reason

    def __str__(self) -> str:
        text = f"{self.type_name}: {self.text}"
        return f"{text} (the original exception could not be sent: {self.reason})" if self.reason else text


class CommandFailed(CelestialFlowError):
    """A program that ``celestialflow run --command`` ran for a task ended with another exit code than 0.

    Args:
        command: The program with its arguments, as a shell would take it.
        exitcode: As in ``subprocess``: the exit status, or minus the number of the signal.
        stderr: The end of what it wrote on stderr.
    """

    def __init__(self, command: str, exitcode: int, stderr: str = "") -> None:
        super().__init__(command, exitcode, stderr)
        self.command = command
        self.exitcode = exitcode
        self.stderr = stderr

    def __str__(self) -> str:
        how = f"exited with code {self.exitcode}" if self.exitcode >= 0 else f"got {_signal_name(-self.exitcode)}"
        said = self.stderr.strip().splitlines()[-3:]
        return f"{self.command} {how}" + (": " + "\n".join(said) if said else ".")


class HookError(CelestialFlowError):
    """A hook implementation, or an override, gave something that it must not give.

    Args:
        hook: The hook's name.
        owner: The plugin or class that it belongs to.
        reason: What is wrong, and what to do, as a sentence.
    """

    def __init__(self, hook: str, owner: str, reason: str) -> None:
        super().__init__(hook, owner, reason)
        self.hook = hook
        self.owner = owner
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.hook} of {self.owner}: {self.reason}"


class ExecutorError(CelestialFlowError):
    """An executor does what no executor may do, so that the run cannot go on: a matter for its author.

    Args:
        executor: Its name as ``execution_mode``, or its class.
        reason: What it did, and what it should do, as sentences.
    """

    def __init__(self, executor: str, reason: str) -> None:
        super().__init__(executor, reason)
        self.executor = executor
        self.reason = reason

    def __str__(self) -> str:
        return f"The executor {self.executor!r} is at fault: {self.reason}"


class PluginError(CelestialFlowError):
    """A plugin that the run needs cannot be used: it failed to load, misses its engine, clashes, or is disabled."""


class _Unknown(CelestialFlowError, ValueError):
    """No installed plugin has a thing of this name.

    Args:
        name: The name that was asked for.
        installed: The names that are there.
        advice: What was probably meant, or which distribution to install.
    """

    thing = ""

    def __init__(self, name: str, installed: tuple[str, ...] = (), advice: str = "") -> None:
        super().__init__(name, installed, advice)
        self.name = name
        self.installed = installed
        self.advice = advice

    def __str__(self) -> str:
        text = f"No {self.thing} is named {self.name!r}. Installed: {', '.join(sorted(self.installed)) or 'none'}."
        return f"{text} {self.advice}".rstrip()


class UnknownExecutor(_Unknown):
    """No installed plugin has an executor of this name: see `name`, the names that are `installed`, and `advice`."""

    thing = "executor"


class UnknownSink(_Unknown):
    """No installed plugin has a sink of the name before the colon of its URL; parts as of `UnknownExecutor`."""

    thing = "sink"


class SinkError(CelestialFlowError):
    """A result sink failed, or refuses the run.

    Args:
        sink: The sink, without what is secret in its URL.
        reason: What happened and what to do, as sentences.
        unwritten: The outcomes that were not stored, if the run had begun.
    """

    def __init__(self, sink: str, reason: str, unwritten: tuple[object, ...] = ()) -> None:
        super().__init__(sink, reason, unwritten)
        self.sink = sink
        self.reason = reason
        self.unwritten = unwritten

    def __str__(self) -> str:
        count = len(self.unwritten)
        lost = f" {count} outcome{'s' if count != 1 else ''} could not be stored." if count else ""
        return f"{self.sink}: {self.reason}{lost}"


class GraphError(CelestialFlowError, ValueError):
    """A graph cannot be run, or not be changed, like this; the message says which stage or edge, and what to do."""


class TooManyErrors(CelestialFlowError):
    """A ``stop`` rule ended the run.

    Args:
        rule: The rule, in words.
        summary: The run's summary: ``succeeded``, ``failed`` and the rest.
    """

    def __init__(self, rule: str, summary: object = None) -> None:
        super().__init__(rule, summary)
        self.rule = rule
        self.summary = summary

    def __str__(self) -> str:
        first = str(self.summary).splitlines()[:1]
        return f"The run was stopped: {self.rule}." + (f" {first[0]}" if self.summary is not None and first else "")


class RunInProgress(CelestialFlowError, RuntimeError):
    """The manager is already running. Wait for it, close its stream, or make a second manager."""


class InvalidTransition(CelestialFlowError, RuntimeError):
    """An event reached a task in a state that does not allow it: a bug in the engine or in an executor."""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
