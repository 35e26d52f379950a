"""SIGTERM as a first Ctrl-C: what schedulers and service managers send is to end a run as gently as a person does."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["sigterm_as_ctrl_c"]


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Inside the block SIGTERM does what Ctrl-C does at that moment.

    A shell starts what runs in the background with SIGINT ignored, and a run takes over none but Python's own handler.
    There SIGINT gets that handler and is blocked instead: it still does nothing, and SIGTERM finds what to call.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    mask: set[int] = set()
    if ignored:
        mask = set(signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}))
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)
        if ignored:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _terminate(number: int, frame: FrameType | None) -> None:
    """Call the handler of Ctrl-C with the *frame* that was interrupted, by which a run tells where it is."""
    handler = signal.getsignal(signal.SIGINT)
    if callable(handler):
        handler(signal.SIGINT, frame)
