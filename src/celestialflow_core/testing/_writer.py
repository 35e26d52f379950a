"""Holds a store in a process of its own, to be killed: ``python -m celestialflow_core.testing._writer URL FIRST``.

Says "open" when it has it. With a negative FIRST it then waits; else it writes a batch after the other, from the task
FIRST on, and says after each what the next task is: all before it have been accepted.
"""

from __future__ import annotations

import sys

from celestialflow_core.plugins.registry import installed
from celestialflow_core.sinks._resolve import resolve_sink
from celestialflow_core.testing._outcomes import RUN, success, value_of

__all__ = ["main"]

BATCH = 7


def main(url: str, first: int) -> None:
    """Run until somebody ends it."""
    sink = resolve_sink(url, installed())
    sink.open(RUN)
    print("open", flush=True)
    if first < 0:
        sys.stdin.read()
        sink.close(None)
        return
    while True:
        sink.write([success(number, value_of(number)) for number in range(first, first + BATCH)])
        first += BATCH
        print(first, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
