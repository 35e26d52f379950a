"""Carries out a run for `run` and `retry`: makes the manager, prints what comes of the tasks, and ends in words."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import click

from celestialflow_core import TaskManager
from celestialflow_core._cli.ending import ExitCode, ReaderGone, endings, say
from celestialflow_core._cli.halt import stop_of
from celestialflow_core._cli.output import Results
from celestialflow_core._cli.printing import Printer, Unprinted
from celestialflow_core._cli.program import Program
from celestialflow_core._cli.signals import sigterm_as_ctrl_c
from celestialflow_core._cli.target import find
from celestialflow_core._cli.tasks import word
from celestialflow_core._cli.template import Template
from celestialflow_core._manager.manager import inside
from celestialflow_core.errors import CommandFailed, PluginError, TooManyErrors

if TYPE_CHECKING:
    from celestialflow_core._outcome import RunSummary

__all__ = ["How", "Job"]


@attrs.frozen(kw_only=True)
class How:
    """The options of ``how_options``, as the user gave them."""

    mode: str | None
    jobs: int | None
    retries: int | None
    retry_on: tuple[str, ...]
    timeout: float | None
    halt: tuple[str, ...]
    halt_now: bool
    grace: float
    unpack: bool
    executor_options: tuple[str, ...]
    ordered: bool
    as_json: bool
    progress: bool | None
    quiet: bool
    log_dir: str | None
    dry_run: bool

    @property
    def shows_progress(self) -> bool:
        """Whether there is a bar."""
        if self.progress is None:
            return not self.quiet and sys.stderr is not None and sys.stderr.isatty()
        return self.progress


class Job:
    """What is to be run, and how.

    Args:
        target: The function as `find` takes it, or a `Template`.
        how: The options.
        store: The options that have to do with stores, as the manager takes them.

    Raises:
        click.UsageError: Something of it is wrong.
        Broken: The function cannot be imported.
    """

    def __init__(self, target: str | Template, how: How, **store: Any) -> None:
        self.how = how
        self.program: Program | None = None
        self._unprinted = Unprinted()
        func: Callable[..., Any]
        mode: str | None
        options: dict[str, Any] = {
            "stop": stop_of(how.halt, how.halt_now),
            "grace": how.grace,
            "executor_options": _pairs(how.executor_options),
            "plugins": [self._unprinted],
            "show_progress": how.shows_progress,
            "log_dir": how.log_dir,
            "log_level": "INFO" if how.log_dir else "WARNING",
            **store,
        }
        if isinstance(target, Template):
            func = self.program = self._program(target, options)
            self.target, mode = target.target, "thread"
        else:
            with Results():  # what a module prints when it is imported is no result
                func, self.target = find(target)
            mode = how.mode or _mode_of(func, how)
            options |= {"worker_limit": how.jobs, "task_timeout": how.timeout, "unpack_task_args": how.unpack}
            options["max_retries"] = 1 if how.retries is None else how.retries
        retried = (*TaskManager.retry_exceptions, *map(_error_class, how.retry_on))
        if self.program is not None and how.retries:
            retried = (*retried, CommandFailed)
        options["retry_exceptions"] = retried
        options["progress_desc"] = options.get("name") or getattr(func, "__name__", None) or self.target
        try:
            self.manager: TaskManager[Any, Any] = TaskManager(func, mode, **options)
        except PluginError:
            raise
        except (TypeError, ValueError) as error:
            raise click.UsageError(str(error)) from error
        inside(self.manager).target = self.target

    def _program(self, template: Template, options: dict[str, Any]) -> Program:
        import os
        import shutil
        from pathlib import PurePath

        from celestialflow_core.executors.process.cgroup import usable_cpus

        how = self.how
        if how.mode not in (None, "thread") or how.unpack:
            raise click.UsageError("A program is started by a thread: --mode and --unpack are for functions.")
        if not template.shell and "{" not in template.program and shutil.which(template.program) is None:
            if os.sep in template.program and os.path.exists(template.program):
                raise click.UsageError(
                    f"{template.program!r} is no program: it is a folder, or this user may not execute it (chmod +x)."
                )
            raise click.UsageError(f"There is no program {template.program!r}. What only a shell knows needs --shell.")
        if not options.get("name"):
            options["name"] = PurePath(template.program).name
        options |= {"worker_limit": how.jobs or usable_cpus(), "max_retries": how.retries or 0}
        return Program(template, how.timeout)

    def run(self, tasks: Iterable[Any], total: int | None) -> int:
        """Run the tasks; gives the exit code."""
        how, program = self.how, self.program
        if program is not None and program.template.numbers:
            tasks = map(program.number, tasks)
        with Results(above_bar=how.shows_progress) as results, sigterm_as_ctrl_c():
            printer = Printer(results, self._unprinted, how.as_json, how.quiet, program)
            try:
                with endings():
                    self._stream(tasks, total, printer)
                return ExitCode.FAILED if printer.failed else ExitCode.SUCCEEDED
            finally:
                if program is not None:
                    program.end()

    def _stream(self, tasks: Iterable[Any], total: int | None, printer: Printer) -> None:
        try:
            with self.manager.stream(tasks, total, ordered=self.how.ordered) as outcomes:
                for outcome in outcomes:
                    printer.print(outcome)
        except ReaderGone:
            raise
        except TooManyErrors as error:
            if self.how.quiet:
                say(f"Error: The run was stopped: {error.rule}.")
            self._sum_up()
            raise SystemExit(ExitCode.STOPPED) from None
        except BaseException:
            printer.print_rest()
            self._sum_up()
            raise
        self._sum_up()

    def _sum_up(self) -> None:
        summary: RunSummary | None = self.manager.summary
        if summary is None or self.how.quiet:
            return
        if self.program is not None:
            self.program.end()  # nothing of it is left behind
            groups = tuple(attrs.evolve(group, place=None) for group in summary.errors)  # a line of ours says nothing
            summary = attrs.evolve(summary, abandoned=0, errors=groups)
        say(str(summary))


def _mode_of(func: Callable[..., Any], how: How) -> str | None:
    """The mode where the user names none."""
    from celestialflow_core._manager.modes import is_coroutine_function

    wants_more = how.jobs is not None or how.timeout is not None
    return "process" if wants_more and not is_coroutine_function(func) else None


def _error_class(text: str) -> type[BaseException]:
    import builtins

    found = getattr(builtins, text, None) if ":" not in text else find(text)[0]
    if isinstance(found, type) and issubclass(found, BaseException):
        return found
    raise click.BadParameter(
        f"{text!r} is no exception class. It is like ValueError, or module:Class.", param_hint="--retry-on"
    )


def _pairs(texts: Sequence[str]) -> dict[str, Any]:
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.BadParameter(f"{text!r} must be like name=value.", param_hint="--executor-option")
        pairs[name.strip().replace("-", "_")] = word(value)
    return pairs
