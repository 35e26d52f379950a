"""Calls on worker processes.

    driver's thread                  the pool's thread                        worker process (a fresh interpreter)
                                                                              main thread         listener
    submit(calls) --> inbox ------->  backlog                                    |                   |
                                        | a lease: a few ms of calls             |                   |
                                        +--------------- connection ------------------------------> queue
                                        |                                        | <-----------------+
                                        |                                      runs calls
                                        |  <------------- results ------------- sends              sends what waits
    deliver(results) <------------------+                                        |                 hands back calls
                                        |  reads: running which call, since when |
                                        +- - - - - - - shared memory - - - - - - + writes per call

`pool` decides who gets which calls and notices who is dead; `crew` starts, replaces and removes workers, as `staffing`
and `recycling` tell it; `spawn` and `handle` are one process, `_worker` is the other side. `leasing` and `wire` turn
batches into messages and back; `pickling` keeps the identity of classes. `deadlines` and `stacks` deal with calls that
are late, `verdict` and `crashes` say who is to blame for a death; `output` and `marks` bring what workers write to the
user. What is promised is in the documentation of `ProcessExecutor`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celestialflow_core.executors.process.executor import ProcessExecutor

__all__ = ["ProcessExecutor"]


def __getattr__(name: str) -> Any:
    # Late, because a worker imports this package too, and needs none of it.
    if name == "ProcessExecutor":
        from celestialflow_core.executors.process.executor import ProcessExecutor

        return ProcessExecutor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
