"""The functions that every contestant runs. Each gives ``x + 1``, so that a run can be checked by its results."""

from __future__ import annotations

import asyncio
import math
import time

__all__ = ["add_one", "add_one_async", "compute", "compute_unevenly", "wait", "wait_async"]

PAUSE = 0.01  # seconds that a waiting task waits
LOOPS_PER_MS = 55_000  # of `_spin`, at 18 ns each; an amount of work and no time, so that a worker held up shows
SHORTEST_MS, LONGEST_MS = 0.001, 100.0
GOLDEN = 2654435761  # spreads small integers evenly over 32 bits


def add_one(x: int) -> int:
    """Nothing to do: what is measured is all the rest."""
    return x + 1


async def add_one_async(x: int) -> int:
    """`add_one` as a coroutine function."""
    return x + 1


def wait(x: int) -> int:
    """10 ms of waiting, without the interpreter lock."""
    time.sleep(PAUSE)
    return x + 1


async def wait_async(x: int) -> int:
    """10 ms of waiting in the loop."""
    await asyncio.sleep(PAUSE)
    return x + 1


def compute(x: int) -> int:
    """About 5 ms of Python."""
    _spin(5.0)
    return x + 1


def compute_unevenly(x: int) -> int:
    """Between 1 us and 100 ms of Python, log-uniform; for one *x* always the same."""
    share = x * GOLDEN % 2**32 / 2**32
    _spin(SHORTEST_MS * math.exp(share * math.log(LONGEST_MS / SHORTEST_MS)))
    return x + 1


def _spin(milliseconds: float) -> None:
    value = 0
    for number in range(int(LOOPS_PER_MS * milliseconds)):
        value ^= number
