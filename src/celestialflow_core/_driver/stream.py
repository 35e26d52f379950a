"""What ``stream`` gives."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from time import monotonic
from types import TracebackType
from typing import Any, Generic, TypeVar

from celestialflow_core._driver.interrupt import entrance
from celestialflow_core._driver.run import Ending
from celestialflow_core._driver.sync import SyncShell
from celestialflow_core._outcome import Outcome

__all__ = ["OutcomeStream"]

T = TypeVar("T")
R = TypeVar("R")

REFRESH = 0.001  # seconds after which a consumer that takes its time gives way to the run


class OutcomeStream(Generic[T, R]):
    """The outcomes of a run, as they settle: an iterator, and a context manager that ends the run when it is left.

    A stream that is dropped unclosed stops its workers at once, calls no hook, and emits a ResourceWarning.
    """

    def __init__(self, shell: SyncShell) -> None:
        self._shell = shell
        self.guard = shell.guard
        self._outcomes = shell.run.outcomes
        self._inbox = shell.inbox
        self._refresh_at = 0.0
        self._error: BaseException | None = None

    def __iter__(self) -> Iterator[Outcome[T, R]]:
        return self

    def __next__(self) -> Outcome[T, R]:
        outcomes = self._outcomes
        if not outcomes:
            self._advance()
            if not outcomes:
                self._shell.run.clear_frames()
                error, self._error = self._error, None
                if error is not None:
                    raise error
                raise StopIteration
        elif self._inbox and (now := monotonic()) > self._refresh_at and not self._shell.closed:
            # The consumer takes its time: settle what has come and fill the executor, so that no worker idles.
            self._refresh_at = now + REFRESH
            self._refresh()
        return outcomes.popleft()

    def _advance(self) -> None:
        """Go on until there is an outcome, or the run is over and closed."""
        shell, outcomes = self._shell, self._outcomes
        with self.guard:
            while not shell.closed:
                if shell.step():
                    self._close()
                elif outcomes and not self.guard.presses:
                    break
        self._refresh_at = monotonic() + REFRESH

    def _refresh(self) -> None:
        shell = self._shell
        with self.guard:
            try:
                shell.run.advance()
            except BaseException as error:
                shell.run.interrupted(error)
            self.answer()
            if shell.run.ending is not None:
                self._close()

    def answer(self) -> None:
        """End the run if Ctrl-C has been pressed: what waits for the consumer may keep it busy for long."""
        shell = self._shell
        if self.guard.presses:
            shell.run.interrupted(self.guard.reason)
            self._close()

    def _close(self) -> None:
        """The run is over. An error comes after the outcomes that are left, but Ctrl-C and its like come at once."""
        try:
            self._shell.close()
        except Exception as error:
            self._error = error
        except BaseException:
            self._outcomes.clear()
            raise

    @entrance
    def close(self) -> None:
        """End the run: take nothing new, give what runs ``grace`` seconds, and release every worker."""
        with self.guard:
            try:
                if not self._shell.closed:
                    self._shell.run.end(Ending(reason="The stream was closed.", grace=self._shell.grace))
                    self._shell.close()
            finally:
                self._outcomes.clear()

    def __enter__(self) -> OutcomeStream[T, R]:
        return self

    @entrance
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self, warn: Any = warnings.warn) -> None:
        shell: SyncShell | None = getattr(self, "_shell", None)
        if shell is not None and not shell.closed:
            with self.guard:
                shell.abort()
            warn(
                "A stream was dropped before its end, and its workers have been stopped. Use 'with manager.stream(...) "
                "as outcomes:', or call its close().",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )
