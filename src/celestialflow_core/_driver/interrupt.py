"""Ctrl-C, and whatever else a signal handler raises, so that it never tears a count.

While a run is inside this package in the main thread, the handlers of the signals that ask a program to end have
stand-ins: Python's own handler of SIGINT, and those that the application has set. A stand-in calls the handler at once,
whose effects nobody delays. What the handler raises is raised on the spot in the user's function, iterable or hook, as
it would be without us. In our own code (or in a library that it calls) it is noted and wakes the run, which looks at
the next safe point; at the latest it is raised where the run leaves our code, so that none is lost.

A signal can also arrive between any two lines of this module. So the stand-ins come first and go last, and whatever
stands in between is a state in which they do the right thing: with no guard entered they let the handler raise, and
with no run installed they also give way to the handlers themselves.
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

_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
_OURS = "celestialflow_core."
_entrances: set[CodeType] = set()
_installed: set[Guard] = set()
_active: list[Guard] = []


def entrance(method: F) -> F:
    """Marks a method that is sure to enter ``self.guard``: what is raised just before it does is noted, too.

    For methods that release a run. Were it raised there, nobody would call them again.
    """
    _entrances.add(method.__code__)
    return method


class Guard:
    """Guards one run. ``with guard`` around everything that the run does in the calling thread.

    The first ``with`` puts the stand-ins in place, and is to begin before anything is claimed or started; from
    ``release`` on, or from the end of the ``with`` block in which it is called, the handlers are back. Runs may be
    nested (a hook starts one) and interleaved (two streams): Ctrl-C interrupts the one that is active.

    Attributes:
        presses: How often a handler has raised what has not been raised to the caller.
        wake: Ends the run's wait; called from the signal handler.
    """

    __slots__ = ("_new", "_noted", "presses", "wake")

    def __init__(self) -> None:
        self._new = True
        self._noted: BaseException | None = None
        self.presses = 0
        self.wake: Callable[[], None] = _nothing

    @property
    def reason(self) -> BaseException:
        """What ends the run: the first that a handler has raised."""
        return self._noted or KeyboardInterrupt()

    def __enter__(self) -> Guard:
        if _in_main_thread():
            if self._new:
                self._new = False
                if _take_over():
                    _active.append(self)
                    _installed.add(self)
            elif self in _installed:
                _take_over()  # the application may have set a handler since
                _active.append(self)
        return self

    def release(self) -> None:
        """The run is over: give the signals back at the end of the block, or now if there is none."""
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
            noted, self._noted = self.reason, None
            if presses and error is not noted and not (isinstance(noted, KeyboardInterrupt) and _is_ours(error)):
                try:
                    raise noted from (None if _is_ours(error) else error)
                finally:
                    del noted, error  # or this frame and the traceback hold each other, and a stream with them

    def press(self, error: BaseException) -> None:
        """Note that a handler has raised *error*, and wake the run."""
        # Its traceback would keep alive all that the interrupted frames hold: a stream that nobody has any more.
        self._noted = self._noted or error.with_traceback(None)
        self.presses += 1
        self.wake()


class _StandIn:
    """Stands in for *handler*. One for each time that it is put in place, so that a chain of handlers has an end."""

    def __init__(self, handler: Callable[[int, FrameType | None], Any]) -> None:
        self.handler = handler

    def __call__(self, number: int, frame: FrameType | None) -> None:
        active = _active[-1] if _active else None
        guard = _entered(frame) if active is None else None if _in_user_code(frame) else active
        try:
            if guard is None:
                _restore()
            self.handler(number, frame)
        except BaseException as error:
            if guard is not None:
                guard.press(error)
                return
            # What a task or a hook raises is its own error. But SystemExit and its like ask for the program's end.
            if active is not None and not isinstance(error, Exception | KeyboardInterrupt):
                active.press(error)
            raise


def _nothing() -> None:
    """There is no run yet that could wait."""


def _in_main_thread() -> bool:
    return threading.get_ident() == threading.main_thread().ident


def _take_over() -> bool:
    """Put the stand-ins in place; whether there is any."""
    found = False
    for number in _ENDING:
        handler = signal.getsignal(number)
        if callable(handler):  # neither ignored, nor left to the system, nor set by a library in C
            found = True
            if not isinstance(handler, _StandIn):
                signal.signal(number, _StandIn(handler))
    return found


def _restore() -> None:
    """Give the signals back when the last run has ended, unless somebody has set another handler since."""
    if not _installed and _in_main_thread():
        for number in _ENDING:
            stand_in = signal.getsignal(number)
            if isinstance(stand_in, _StandIn):
                signal.signal(number, stand_in.handler)


def _is_ours(error: BaseException | None) -> bool:
    """True for the KeyboardInterrupt by which the run says that it was ended by a signal."""
    return isinstance(error, KeyboardInterrupt)


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
        if (
            str(frame.f_globals.get("__name__", "")).startswith(_OURS)
            and frame.f_code is not _StandIn.__call__.__code__
        ):
            return False
        frame = frame.f_back
    return True
