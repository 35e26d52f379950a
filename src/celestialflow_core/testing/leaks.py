"""What a run can leave behind: threads, child processes, file descriptors."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable
from pathlib import Path

from celestialflow_core.testing.waiting import wait_until

__all__ = ["Resources"]


class Resources:
    """The threads, children and open descriptors of this process at one moment."""

    def __init__(self) -> None:
        self.threads = {thread.ident: thread.name for thread in threading.enumerate()}
        self.children = _children()
        self.descriptors = _descriptors()

    def leaks(self) -> list[str]:
        """What is there now and was not there then, each as a line that names it.

        For example ``thread 'worker-0'``, ``child 4711: python -c ...``, ``descriptor 7: pipe:[123]``.
        """
        now = Resources()
        return [
            *(f"thread {name!r}" for ident, name in now.threads.items() if ident not in self.threads),
            *(f"child {pid}: {command}" for pid, command in now.children.items() if pid not in self.children),
            *(
                f"descriptor {number}: {target}"
                for number, target in now.descriptors.items()
                if self.descriptors.get(number) != target
            ),
        ]

    def expect_no_leaks(self, allowed: Callable[[str], bool] | None = None, seconds: float = 20.0) -> None:
        """Wait until nothing has been left behind since this was made.

        Args:
            allowed: Says of such a line that it is no leak.
            seconds: How long what is ending may take.

        Raises:
            AssertionError: Something is still there.
        """
        left: list[str] = []

        def nothing_is_left() -> bool:
            left[:] = [leak for leak in self.leaks() if allowed is None or not allowed(leak)]
            if left:
                # A descriptor may hang on an object in a cycle; that is no leak.
                gc.collect()
            return not left

        try:
            wait_until(nothing_is_left, seconds, interval=0.02)
        except AssertionError:
            raise AssertionError("Left behind: " + "; ".join(left)) from None


def _children() -> dict[int, str]:
    me = str(os.getpid())
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # The name of the program is in brackets and may hold anything; what follows it has a fixed form.
            fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            if fields[1] != me:
                continue
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except (OSError, IndexError):  # it ended while we looked
            continue
        found[int(entry.name)] = command or f"state {fields[0]}"
    return found


def _descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # the one that listed the folder
            continue
    return found
