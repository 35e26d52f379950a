"""What is printed of each outcome: results on stdout, failures on stderr, or everything as JSON on stdout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celestialflow_core._cli.output import Results, as_text, fields_as_json
from celestialflow_core._text import cut, error_text, text_of
from celestialflow_core.errors import CommandFailed, RemoteError
from celestialflow_core.plugins import hookimpl

if TYPE_CHECKING:
    from celestialflow_core._cli.program import Program
    from celestialflow_core._outcome import Outcome

__all__ = ["Printer", "Unprinted", "outcome_as_json"]

SHOWN_FAILURES = 20


class Unprinted:
    """A plugin that knows what has settled: a stream that Ctrl-C ends does not give what it still holds."""

    def __init__(self) -> None:
        self.outcomes: dict[int, Outcome[Any, Any]] = {}

    @hookimpl
    def on_success(self, outcome: Outcome[Any, Any]) -> None:
        self.outcomes[outcome.id] = outcome

    @hookimpl
    def on_error(self, outcome: Outcome[Any, Any]) -> None:
        self.outcomes[outcome.id] = outcome


class Printer:
    """Prints the outcomes of a run.

    Args:
        results: Standard output.
        unprinted: The plugin, which the run has.
        as_json: One object a task, rather than one line a result.
        quiet: Whether stderr is told nothing.
        program: What is to forget the number of a task.
    """

    def __init__(
        self, results: Results, unprinted: Unprinted, as_json: bool, quiet: bool, program: Program | None = None
    ) -> None:
        self._results = results
        self._unprinted = unprinted.outcomes
        self._as_json = as_json
        self._quiet = quiet
        self._program = program
        self.failed = 0
        """How many tasks have failed, in this run or in the one that it goes on from."""

    def print(self, outcome: Outcome[Any, Any]) -> None:
        """Print *outcome*."""
        self._unprinted.pop(outcome.id, None)
        failed = outcome.error is not None and outcome.status in ("error", "restored")
        self.failed += failed
        if self._program is not None:
            self._program.forget(outcome.task)
        if self._as_json:
            self._results.line(outcome_as_json(outcome))
        elif outcome.ok:
            self._results.line(as_text(outcome.value))
        elif failed and outcome.error is not None and not self._quiet:
            self._complain(outcome.task, outcome.error)

    def print_rest(self) -> None:
        """Print what has settled and did not come."""
        for _, outcome in sorted(self._unprinted.items()):
            self.print(outcome)

    def _complain(self, task: Any, error: BaseException) -> None:
        if self.failed <= SHOWN_FAILURES:
            self._results.remark(f"Failed: {cut(task)}: {error_text(error, 300)}")
        if self.failed == SHOWN_FAILURES:
            self._results.remark("Further failures are only counted here; --json has them all.")


def outcome_as_json(outcome: Outcome[Any, Any]) -> str:
    """One JSON object on one line."""
    shown: dict[str, Any] = {"task": outcome.task, "status": outcome.status, "ok": outcome.ok}
    if outcome.ok:
        shown["value"] = outcome.value
    if outcome.error is not None:
        shown["error"] = _error(outcome.error)
        if outcome.traceback and not isinstance(outcome.error, CommandFailed):
            shown["traceback"] = outcome.traceback
    if outcome.output:
        shown["output"] = outcome.output
    if outcome.attempts:
        shown |= {"attempts": outcome.attempts, "seconds": outcome.seconds, "worker": outcome.worker}
    if isinstance(outcome.key, str) and outcome.key.startswith("cf"):
        shown["key"] = outcome.key
    return fields_as_json(shown)


def _error(error: BaseException) -> dict[str, Any]:
    kind = error.type_name if isinstance(error, RemoteError) else type(error).__qualname__
    shown: dict[str, Any] = {"type": kind, "message": text_of(error)}
    if isinstance(error, CommandFailed):
        shown |= {"exit_code": error.exitcode, "stderr": error.stderr}
    return shown
