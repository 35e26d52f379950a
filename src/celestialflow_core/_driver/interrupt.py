"""Ctrl-C, so that it never tears a count.

While a run is inside this package in the main thread, Python's default SIGINT handler is replaced, and no other is.
One that arrives in our own code (or in a library that it calls) is noted and wakes the run, which looks at the next
safe point; at the latest it is raised where the run leaves our code, so that none is lost. One that arrives in the
user's function, iterable or hook is raised there, as Python would.

A Ctrl-C can also arrive between any two lines of this module. So the handler comes first and goes last, and whatever
stands in between is a state in which it does the right thing: with no guard entered it raises, and with no run
installed it also gives way to Python's own handler.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import CodeType, FrameType, TracebackType
from typing import Any, TypeVar

from celestialflow_core._driver.user_code import BOUNDARIES

__all__ = ["Guard", "entrance"]

F = TypeVar("F", bound=Callable[..., Any])

_OURS = "celestialflow_core."
_entrances: set[CodeType] = set()
_installed: set[Guard] = set()
_active: list[Guard] = []


def entrance(method: F) -> F:
    """Marks a method that is sure to enter ``self.guard``: a Ctrl-C just before it does is noted, too.

    For methods that release a run. Were it raised there, nobody would call them again.
    """
    _entrances.add(method.__code__)
    return method


class Guard:
    """Guards one run. ``with guard`` around everything that the run does in the calling thread.

    The first ``with`` takes Ctrl-C over, and is to begin before anything is claimed or started; from ``release`` on,
    or from the end of the ``with`` block in which it is called, it is Python's again. Runs may be nested (a hook
    starts one) and interleaved (two streams): Ctrl-C interrupts the one that is active.

    Attributes:
        presses: How often Ctrl-C has been pressed and not been raised.
        wake: Ends the run's wait; called from the signal handler.
    """

    __slots__ = ("_new", "presses", "wake")

    def __init__(self) -> None:
        self._new = True
        self.presses = 0
        self.wake: Callable[[], None] = _nothing

    def __enter__(self) -> Guard:
        if _in_main_thread():
            if self._new:
                self._install()
            elif self in _installed:
                _active.append(self)
        return self

    def _install(self) -> None:
        """Take Ctrl-C over from Python's default handler, if it is the default one."""
        self._new = False
        handler = signal.getsignal(signal.SIGINT)
        if handler is signal.default_int_handler:
            handler = _note
            signal.signal(signal.SIGINT, _note)
        if handler is _note:
            _active.append(self)
            _installed.add(self)

    def release(self) -> None:
        """The run is over: give Ctrl-C back at the end of the block, or now if there is none."""
        _installed.discard(self)
        if self not in _active:
            _restore()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if _active and _active[-1] is self and _in_main_thread():
            _active.pop()
            if self not in _installed:
                _restore()
            presses, self.presses = self.presses, 0
            if presses and not isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt

    def press(self) -> None:
        """Note one Ctrl-C, and wake the run."""
        self.presses += 1
        self.wake()


def _nothing() -> None:
    """There is no run yet that could wait."""


def _in_main_thread() -> bool:
    return threading.get_ident() == threading.main_thread().ident


def _restore() -> None:
    """Give Ctrl-C back when the last run has ended, unless somebody has set another handler since."""
    if not _installed and _in_main_thread() and signal.getsignal(signal.SIGINT) is _note:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _note(number: int, frame: FrameType | None) -> None:
    guard = _entered(frame) if not _active else None if _in_user_code(frame) else _active[-1]
    if guard is None:
        _restore()
        raise KeyboardInterrupt
    guard.press()


def _entered(frame: FrameType | None) -> Guard | None:
    """The guard of the run whose `entrance` is being passed at *frame*, or None."""
    while frame is not None:
        if frame.f_code in _entrances:
            guard: Guard = frame.f_locals["self"].guard
            return guard if guard in _installed else None
        name = frame.f_globals.get("__name__")
        if name != __name__ and str(name).startswith(_OURS):
            return None
        frame = frame.f_back
    return None


def _in_user_code(frame: FrameType | None) -> bool:
    """True if the innermost frame of this package below *frame* is one that calls the user's code, or there is none."""
    while frame is not None:
        if frame.f_code in BOUNDARIES:
            return True
        if str(frame.f_globals.get("__name__", "")).startswith(_OURS) and frame.f_code is not _note.__code__:
            return False
        frame = frame.f_back
    return True
