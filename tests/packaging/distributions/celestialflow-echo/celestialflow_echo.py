"""An executor by somebody else: threads of its own, which take calls from a queue."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from celestialflow_core import hookimpl
from celestialflow_core.executors.interface import Call, Deliver, Result, Work


class EchoExecutor:
    """Runs calls on threads that it starts itself."""

    capabilities: frozenset[str] = frozenset()

    def __init__(self, worker_limit: int | None = None) -> None:
        self.slots = worker_limit or 2
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def start(self, work: Work, deliver: Deliver) -> None:
        for index in range(self.slots):
            thread = threading.Thread(target=self._work, args=(work.func, deliver, index), name=f"echo-{index}")
            self._threads.append(thread)
            thread.start()

    def submit(self, calls: Sequence[Call]) -> None:
        for call in calls:
            self._calls.put(call)

    def stop(self, grace: float) -> None:
        try:
            while True:
                self._calls.get_nowait()
        except queue.Empty:
            pass
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _work(self, func: Callable[..., Any], deliver: Deliver, index: int) -> None:
        while (call := self._calls.get()) is not None:
            began = time.perf_counter()
            try:
                value, error = func(*call.args), None
            except BaseException as caught:
                value, error = None, caught
            deliver([Result(call.id, value, error, time.perf_counter() - began, index)])


class Plugin:
    @hookimpl
    def executor_factories(self) -> Mapping[str, Callable[..., EchoExecutor]]:
        return {"echo": EchoExecutor}


plugin = Plugin()
