"""Whether a module is being imported by whoever starts a run: then no worker process may be started.

Workers import the module too, for its function or for the class of a task, and would start as many workers there,
without end. And while the import goes on, the thread that pickles tasks waits for it, which waits for the run.
"""

from __future__ import annotations

import sys
from types import FrameType

__all__ = ["module_being_imported"]


def module_being_imported() -> str | None:
    """The module in whose import the caller is, the innermost one; None outside of an import.

    The script itself is no such module: workers do not import ``__main__``.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "<module>":
            # Private, but what the import system itself asks to know this. Doctests and notebooks run in frames of this
            # name as well, with the globals of a module that has been imported long ago.
            spec = frame.f_globals.get("__spec__")
            if getattr(spec, "_initializing", False):
                return str(frame.f_globals.get("__name__"))
        frame = frame.f_back
    return None
