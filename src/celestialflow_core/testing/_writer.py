"""Holds a store in a process of its own, to be killed: ``python -m celestialflow_core.testing._writer URL FIRST N``.

Says "open" when it has it. Then it writes N batches, from the task FIRST on, and says after each what the next task
is: all before it have been accepted. Then it waits until its input ends, and closes the store.
"""

from __future__ import annotations

import sys
from itertools import count

from celestialflow_core.sinks import resolve_sink
from celestialflow_core.testing._outcomes import RUN, success, value_of

__all__ = ["main"]

BATCH = 7


def main(url: str, first: int, batches: int) -> None:
    """Write *batches* batches; without end if that is negative."""
    sink = resolve_sink(url)
    sink.open(RUN)
    print("open", flush=True)
    for _ in count() if batches < 0 else range(batches):
        sink.write([success(number, value_of(number)) for number in range(first, first + BATCH)])
        first += BATCH
        print(first, flush=True)
    sys.stdin.read()
    sink.close(None)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
