"""A small cluster for tests: processes of this machine, each at the end of a pipe, that come, go and die as told."""

from __future__ import annotations

import multiprocessing
import pickle
import threading
from collections import deque
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any

__all__ = ["Village"]

_SPAWN = multiprocessing.get_context("spawn")


def live(pipe: Connection) -> None:
    """The worker: does what comes through *pipe*, in order."""
    station: Any = None
    while True:
        try:
            verb, *rest = pipe.recv()
        except (EOFError, ConnectionError):
            return
        if verb == "enlist":
            station = pickle.loads(rest[0])(rest[1])
        elif verb == "send":
            pipe.send(station.run(rest[0]))
        else:
            pipe.send("" if station is None else station.leave())


class Resident:
    """One worker process, and the thread that listens to it."""

    def __init__(self, left: Callable[[Resident], None]) -> None:
        self.pipe, far = _SPAWN.Pipe()
        self.process = _SPAWN.Process(target=live, args=(far,), daemon=True)
        self.process.start()
        far.close()
        self.waiting: deque[Callable[[Any], None]] = deque()
        self.sending = threading.Lock()
        self.gone = False
        self.left = left
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.thread.start()

    def ask(self, done: Callable[[Any], None], *message: Any) -> None:
        """Send *message*; its answer goes to *done*."""
        with self.sending:
            if not self.gone:
                self.waiting.append(done)
                try:
                    self.pipe.send(message)
                except ConnectionError:
                    return  # the listener sees it, too, and says so
                return
        done(ConnectionError("the worker is gone"))

    def listen(self) -> None:
        """Hand on answers, until there will be none."""
        while True:
            try:
                answer = self.pipe.recv()
            except (EOFError, ConnectionError):
                break
            self.waiting.popleft()(answer)
        with self.sending:
            self.gone = True
            code = None
            while code is None:  # another thread that starts a process may be reaping this one, which ends join early
                self.process.join()
                code = self.process.exitcode
            self.process.close()
            self.pipe.close()
        self.left(self)
        for done in self.waiting:
            done(ConnectionError(f"the worker ended with {code}"))

    def kill(self) -> None:
        """End it."""
        with self.sending:
            if not self.gone:
                self.process.kill()


class Village:
    """A `Cluster`.

    Attributes:
        size: How many workers it begins with, and keeps.
        wanted: What `want` was told.
        renews: Whether a worker that dies is replaced.
    """

    def __init__(self, size: int = 2, renews: bool = True) -> None:
        self.size = size
        self.renews = renews
        self.wanted: list[int] = []
        self.residents: list[Resident] = []
        self.ended: list[Resident] = []
        self.closed = True
        self.station = b""
        self.lock = threading.Lock()
        self.changed: Callable[[], None] = lambda: None

    def open(self, station: bytes, changed: Callable[[], None], *, kills: bool) -> None:
        """Start the workers."""
        self.station, self.changed, self.closed = station, changed, False
        for _ in range(self.size):
            self.join()

    def join(self) -> None:
        """One more worker, unless the village is closed."""
        with self.lock:
            if self.closed:
                return
            self.residents.append(Resident(self.left))
        self.changed()

    def left(self, resident: Resident) -> None:
        """A worker is gone."""
        with self.lock:
            self.ended.append(resident)
            self.residents.remove(resident)
        if self.renews:
            self.join()
        self.changed()

    def workers(self) -> Mapping[Any, int]:
        """Those that are there."""
        with self.lock:
            return dict.fromkeys(self.residents, 1)

    def enlist(self, worker: Resident, index: int) -> None:
        """The station is the first thing in its pipe."""
        with worker.sending:
            if not worker.gone:
                worker.pipe.send(("enlist", self.station, index))

    def send(self, worker: Resident, parcel: bytes, done: Callable[[bytes | BaseException], None]) -> None:
        """A pipe keeps the order."""
        worker.ask(done, "send", parcel)

    def recall(self, worker: Resident) -> None:
        """What is in a pipe cannot be had back."""

    def dismiss(self, worker: Resident, done: Callable[[str | BaseException], None]) -> None:
        """The last thing in its pipe."""
        worker.ask(done, "leave")

    def kill(self, worker: Resident) -> None:
        """Without asking."""
        worker.kill()

    def want(self, calls: int) -> None:
        """Taken note of."""
        self.wanted.append(calls)

    def close(self, grace: float) -> None:
        """End all, and wait for that."""
        with self.lock:
            self.closed = True
            residents = list(self.residents)
        for resident in residents:
            resident.kill()
        for resident in (*residents, *self.ended):
            resident.thread.join()
        self.ended.clear()
