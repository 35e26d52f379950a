"""Ctrl-C, so that it never tears a count.

While a run is inside this package in the main thread, Python's default SIGINT handler is replaced, and no other is.
One that arrives in our own code (or in a library that it calls) is noted and wakes the run, which looks at the next
safe point. One that arrives in the user's function, iterable or hook is raised there, as Python would.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType

from celestialflow_core._driver.user_code import BOUNDARIES

__all__ = ["Guard"]

_OURS = "celestialflow_core."
_guards: list[Guard] = []


class Guard:
    """Guards one run; re-entrant, and nestable: the innermost run of a thread is the one that is interrupted.

    Args:
        wake: Ends the run's wait; called from the signal handler.
    """

    __slots__ = ("_depth", "_replaced", "_wake", "presses")

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._depth = 0
        self._replaced = False
        self.presses = 0
        """How often Ctrl-C has been pressed and not been raised."""

    def __enter__(self) -> Guard:
        self._depth += 1
        if self._depth == 1 and threading.current_thread() is threading.main_thread():
            handler = signal.getsignal(signal.SIGINT)
            if handler is signal.default_int_handler or handler is _note:
                _guards.append(self)
                self._replaced = True
                if handler is not _note:
                    signal.signal(signal.SIGINT, _note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._depth -= 1
        if self._depth == 0 and self._replaced:
            self._replaced = False
            _guards.remove(self)
            if not _guards:
                signal.signal(signal.SIGINT, signal.default_int_handler)

    def press(self) -> None:
        """Note one Ctrl-C, and wake the run."""
        self.presses += 1
        self._wake()


def _note(number: int, frame: FrameType | None) -> None:
    if not _guards or _in_user_code(frame):
        raise KeyboardInterrupt
    _guards[-1].press()


def _in_user_code(frame: FrameType | None) -> bool:
    """True if the innermost frame of this package below *frame* is one that calls the user's code, or there is none."""
    while frame is not None:
        if frame.f_code in BOUNDARIES:
            return True
        if str(frame.f_globals.get("__name__", "")).startswith(_OURS) and frame.f_code is not _note.__code__:
            return False
        frame = frame.f_back
    return True
