"""Where a call that ran too long was stuck: its Python stack, written by the worker when a signal asks for it.

The handler is faulthandler's, which is C throughout: it also answers while the call holds the interpreter lock, and it
needs nothing that the stuck code could hold. A task that changes the handler or blocks the signal gets no stack; it is
killed in time all the same.
"""

from __future__ import annotations

import faulthandler
import os
import re
import signal
from pathlib import Path

__all__ = ["ASK_FOR_STACK", "answer_from_now_on", "is_whole", "readable"]

ASK_FOR_STACK = signal.SIGRTMIN + 11
"""A number that hardly any program uses; its default is to end the process, which is what comes next anyway."""

_FRAME = re.compile(r'^  File "(.*)", line (\d+) in (.*)$', re.MULTILINE)
_OURS = str(Path(__file__).parent) + os.sep


def answer_from_now_on(memory: int, start: int) -> None:
    """Have this worker's main thread write its stack when it is asked.

    Args:
        memory: A descriptor of the file that the stack goes to.
        start: The position in it.
    """
    try:
        # Opened anew, for a position of our own: a copy of the descriptor would share it with every other worker.
        fd = os.open(f"/proc/self/fd/{memory}", os.O_WRONLY | os.O_CLOEXEC)
        os.lseek(fd, start, os.SEEK_SET)
        faulthandler.register(ASK_FOR_STACK, fd, all_threads=False, chain=False)
    except (AttributeError, OSError, RuntimeError):
        return  # not Linux, or no /proc: then there is no stack to be had
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {ASK_FOR_STACK})


def is_whole(dump: bytes) -> bool:
    """Whether *dump* has come to its end: the outermost frame, or the mark that more frames are left out."""
    return dump.endswith((b'File "<string>", line 1 in <module>\n', b"\n  ...\n"))


def readable(dump: bytes) -> str | None:
    """The stack in *dump* as Python prints it, outermost call first, without our own frames; None if none is left."""
    import traceback

    frames = [(file, int(line), name) for file, line, name in _FRAME.findall(dump.decode("ascii", "replace"))][::-1]
    while frames and (frames[0][0].startswith(_OURS) or frames[0][0] == "<string>"):
        del frames[0]
    if not frames:
        return None
    return "".join(traceback.StackSummary.from_list([traceback.FrameSummary(*frame) for frame in frames]).format())
