"""tqdm's bars, made to leave nothing behind and to show our rate. Imported when a bar is shown, since it loads tqdm."""

from __future__ import annotations

import os
from typing import Any, TextIO

from tqdm import std

from celestialflow_core._observe.tally import Tally

__all__ = ["notebook_bar", "text_bar"]

_tqdm: Any = std  # its types are made up by third parties, and miss half of what is used here


class _Tallied:
    """What both bars have in common, put in front of tqdm's class."""

    monitor_interval = 0  # tqdm's monitor is a thread that outlives the bar
    tally: Tally | None = None
    clock: Any = None
    ended = False
    is_widget = False

    def __del__(self) -> None:
        """Nothing: tqdm's would draw once more, on the stream or widget that has just failed."""

    @property
    def format_dict(self) -> dict[str, Any]:
        shown: dict[str, Any] = super().format_dict  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
        if self.tally is not None:
            now = self.clock()
            shown["rate"] = self.tally.mean_rate(now) if self.ended else self.tally.rate(now)
        return shown


class TextBar(_Tallied, _tqdm.tqdm):  # type: ignore[misc]  # tqdm has no types
    """A bar on a terminal."""


def text_bar(tally: Tally, desc: str, clock: Any, stream: TextIO) -> Any:
    """A bar on *stream*."""
    _share_lock(TextBar)
    # Some terminals (a container's, an editor's) say that they have no columns and no lines: tqdm then draws nothing.
    columns, lines = _size(stream)
    width: dict[str, Any] = {"dynamic_ncols": True} if columns else {"ncols": 80}
    if lines < 2:
        width["nrows"] = 24
    return _open(TextBar, tally, desc, clock, file=stream, **width)


def notebook_bar(tally: Tally, desc: str, clock: Any) -> Any:
    """A widget in a notebook."""
    from tqdm import notebook

    base: Any = notebook.tqdm_notebook

    class NotebookBar(_Tallied, base):  # type: ignore[misc]  # tqdm has no types
        """A bar as a widget, which has to be told when its total grows."""

        is_widget = True

        def refresh(self, *args: Any, **options: Any) -> Any:
            if self.total:
                self.container.children[-2].max = self.total
            return super().refresh(*args, **options)

    _share_lock(NotebookBar)
    return _open(NotebookBar, tally, desc, clock)


def _size(stream: TextIO) -> tuple[int, int]:
    """The columns and lines of the terminal behind *stream*, as far as it tells."""
    try:
        return os.get_terminal_size(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return 0, 0


def _share_lock(kind: Any) -> None:
    # tqdm's default lock holds a semaphore for other processes. Its part for threads is enough for this bar, and keeps
    # it apart from other bars and from tqdm.write in threads of this process. Unless somebody has set a lock already.
    if not hasattr(_tqdm.tqdm, "_lock"):
        kind.set_lock(_tqdm.TqdmDefaultWriteLock.th_lock)


def _open(kind: Any, tally: Tally, desc: str, clock: Any, **options: Any) -> Any:
    # miniters=1: look at the clock on each update, of which there is one a batch. tqdm's guess of how many tasks come
    # in a tenth of a second is wrong for long when a run turns slow, and would need its monitor.
    bar = kind(total=tally.total, desc=desc, miniters=1, **options)
    bar.tally, bar.clock = tally, clock
    return bar
