"""SIGTERM as a first Ctrl-C: what schedulers and service managers send is to end a run as gently as a person does.

The console script owns its process: `Presses` take SIGINT and SIGTERM over when it begins, and neither has its
default action again before the process has ended. What a press does then depends on where it comes:

- In a run (`sigterm_as_ctrl_c`) it is a KeyboardInterrupt each time, and the run decides what the second one means.
- Outside of one the first is a KeyboardInterrupt, and the second ends the process at once.
- When the exit code is settled, which the interpreter may take a while to hand over, it ends the process at once with
  that code. At the very end, where Python would give the signals back to the system, it is ignored.

So a process that was interrupted has the exit code 130, however often and however late it is told to end. A command
line that is called in a program of somebody else takes over SIGTERM for its runs only, and gives it back.
"""

from __future__ import annotations

import atexit
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from celestialflow_core._cli.ending import ExitCode

__all__ = ["Presses", "sigterm_as_ctrl_c"]

_OPEN: Final = object()
_runs = 0
"""How many blocks of `sigterm_as_ctrl_c` there are around what is going on."""


class Presses:
    """The handler of SIGINT and SIGTERM in a process that is ours.

    Attributes:
        outside: Whether there was one outside of a run.
        code: The exit code, once it is settled, as SystemExit has it.
    """

    def __init__(self) -> None:
        self.outside = False
        self.code: object = _OPEN

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Interrupt what is going on; or end the process at once, if it has been interrupted or is ending already."""
        if self.code is not _OPEN:
            os._exit(self.code if isinstance(self.code, int) else 1 if self.code else 0)
        if not _runs:
            if self.outside:
                os._exit(ExitCode.INTERRUPTED)
            self.outside = True
        raise KeyboardInterrupt

    def take_over(self) -> None:
        """Be the handler until the process has ended; of neither signal where its parent has had it ignored."""
        if threading.current_thread() is not threading.main_thread():
            return
        defaults = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
        ours = [number for number, default in defaults.items() if signal.getsignal(number) == default]
        atexit.register(_ignore, ours)  # the first to be registered, so that it is the last to be called
        for number in ours:
            signal.signal(number, self)


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Inside the block, which is a run, SIGTERM does what Ctrl-C does at that moment.

    A shell starts what runs in the background with SIGINT ignored, and a run takes over none but Python's own handler.
    There SIGINT gets that handler and is blocked instead: it still does nothing, and SIGTERM finds what to call.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    global _runs
    around, before = _runs, signal.getsignal(signal.SIGTERM)
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    mask: set[int] = set()
    try:
        signal.signal(signal.SIGTERM, _terminate)
        if ignored:
            mask = set(signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}))
            signal.signal(signal.SIGINT, signal.default_int_handler)
        _runs = around + 1
        yield
    finally:
        _runs = around
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)
        if ignored:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _terminate(number: int, frame: FrameType | None) -> None:
    """Call the handler of Ctrl-C with the *frame* that was interrupted, by which a run tells where it is."""
    handler = signal.getsignal(signal.SIGINT)
    if callable(handler):
        handler(signal.SIGINT, frame)


def _ignore(numbers: list[signal.Signals]) -> None:
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)
