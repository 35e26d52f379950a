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

`pool` decides who gets which calls and notices who is dead; `deadlines` and `stacks` deal with who is late; `verdict`
says who is to blame; `leasing` and `wire` turn batches into messages and back; `pickling` keeps the identity of
classes; `output` and `marks` bring what workers write to the user; `recycling` replaces workers; `spawn` and `handle`
are one process; `_worker` is the other side. What is promised is in the documentation of
`ProcessExecutor`.
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
