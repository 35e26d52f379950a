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
_installed: set[Guard] = set()
_active: list[Guard] = []


class Guard:
    """Guards one run. ``with guard`` around everything that the run does in the calling thread.

    Runs may be nested (a hook starts one) and interleaved (two streams): Ctrl-C interrupts the one that is active.

    Args:
        wake: Ends the run's wait; called from the signal handler.
    """

    __slots__ = ("_wake", "presses")

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self.presses = 0
        """How often Ctrl-C has been pressed and not been raised."""

    def install(self) -> None:
        """Take Ctrl-C over from Python's default handler, if this is the main thread and it is the default one."""
        if threading.get_ident() == threading.main_thread().ident:
            handler = signal.getsignal(signal.SIGINT)
            if handler is signal.default_int_handler:
                signal.signal(signal.SIGINT, _note)
            if handler in (signal.default_int_handler, _note):
                _installed.add(self)

    def uninstall(self) -> None:
        """Give it back when the last run of the thread has ended, unless somebody has set another handler since."""
        if self not in _installed:
            return
        _installed.remove(self)
        in_main_thread = threading.get_ident() == threading.main_thread().ident
        if not _installed and in_main_thread and signal.getsignal(signal.SIGINT) is _note:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def __enter__(self) -> Guard:
        if self in _installed:
            _active.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if _active and _active[-1] is self:
            _active.pop()

    def press(self) -> None:
        """Note one Ctrl-C, and wake the run."""
        self.presses += 1
        self._wake()


def _note(number: int, frame: FrameType | None) -> None:
    if not _active or _in_user_code(frame):
        raise KeyboardInterrupt
    _active[-1].press()


def _in_user_code(frame: FrameType | None) -> bool:
    """True if the innermost frame of this package below *frame* is one that calls the user's code, or there is none."""
    while frame is not None:
        if frame.f_code in BOUNDARIES:
            return True
        if str(frame.f_globals.get("__name__", "")).startswith(_OURS) and frame.f_code is not _note.__code__:
            return False
        frame = frame.f_back
    return True
