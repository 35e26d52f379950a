"""Leads the workers of a cluster through one run, in a thread of its own that makes every decision.

Whatever happens elsewhere, calls that are submitted, batches that come back, workers that come and go, is told to the
foreman's inbox; so nothing here needs a lock, and nothing is delivered once the thread has ended.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any

import celestialflow_core.executors.station as station
import celestialflow_core.executors.worker as stub
from celestialflow_core._call import Calls, Result
from celestialflow_core.errors import CelestialFlowError, TaskTimeout, WorkerCrashed, WorkerSetupError
from celestialflow_core.executors._crew import Batch, Crew, Post, WorkerLeft
from celestialflow_core.executors._load import Load
from celestialflow_core.executors._pace import Pace
from celestialflow_core.executors._verdicts import failure_result, function_error, results_of
from celestialflow_core.executors.interface import Deliver, Work, describe
from celestialflow_core.executors.tracebacks import reason_of

if TYPE_CHECKING:
    from celestialflow_core.executors.cluster import Cluster

__all__ = ["Foreman"]

# A batch hands back what it has not begun after this long, so that calls that turn slow spread over the workers.
BUDGET = 0.25
# A call that takes longer has nothing sent behind it.
SLOW = 0.1
# How often the cluster is asked for its workers where it says nothing.
LOOK = 1.0
# What a worker may take beyond limit and budget before it is held to be stuck so that it cannot even say so.
SILENCE = 5.0
# The same for one that has not been heard of yet: it may have to start, and to import a lot. Once others have been
# heard of, three times what they took is enough.
FIRST_SILENCE = 60.0
# Workers in a row that are lost with a probe, before it is held that none can start.
PROBES = 5
# Calls that wait here for each that is on its way, so that a worker that comes back finds something.
CALLS_AHEAD = 3


class Foreman:
    """One run's, or, while workers are kept warm, that of several.

    Args:
        cluster: The cluster, open by the time of `start`.
        work: What is to be done.
        deliver: Takes the results, in the foreman's thread.
        expected: How many workers are given work where fewer are there.
        patience: The seconds for which calls wait while there is no worker; None: for ever.
    """

    def __init__(self, cluster: Cluster, work: Work, deliver: Deliver, expected: int, patience: float | None) -> None:
        self._cluster = cluster
        self._work = work
        self._context = work.context
        self._deliver = deliver
        self._expected = expected
        self._patience = patience
        self._inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="celestialflow-foreman", daemon=True)
        self._crew = Crew()
        self._pace = Pace(expected)
        self._crashes: dict[int, int] = {}
        self._first_silence = FIRST_SILENCE
        self._lost_probes = 0  # in a row
        self._idle_since: float | None = None  # since when calls wait, and there is no worker
        self._over = False
        self._stop_at: float | None = None
        self._recalled = False
        self._leaving: set[Hashable] | None = None
        self.slots = self._slots()

    # -- called from other threads -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin."""
        self._inbox.put(self._look)
        self._thread.start()

    def tell(self, event: Callable[[], None]) -> None:
        """Have *event* called in the foreman's thread."""
        self._inbox.put(event)

    def look_soon(self) -> None:
        """The workers have changed."""
        self._inbox.put(self._look)

    def stop(self, deadline: float) -> None:
        """End by *deadline*, by ``monotonic``, and return when that is done. Another call may bring it forward."""
        self._inbox.put(partial(self._stop_by, deadline))
        self._thread.join()

    # -- the foreman's thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        next_look = monotonic() + LOOK
        while not self._ended():
            now = monotonic()
            wait = next_look - now if self._stop_at is None else min(next_look, self._stop_at) - now
            try:
                event = self._inbox.get(timeout=max(0.0, wait))
            except Empty:
                event = None
            try:
                while event is not None:
                    event()
                    event = None if self._inbox.empty() else self._inbox.get()
                if monotonic() >= next_look:
                    next_look = monotonic() + LOOK
                    self._look()
                    self._look_for_the_stuck()
                    if not self._over:
                        self._cluster.want(self._crew.waiting)
                self._send()
            except CelestialFlowError as error:
                self._end(error)
            except Exception as error:  # the cluster's own code
                failure = CelestialFlowError(
                    f"The cluster failed with {reason_of(error)}. What had not come back by then is lost."
                )
                failure.__cause__ = error
                self._end(failure)

    def _slots(self) -> int:
        return max(self._crew.places, self._expected) * CALLS_AHEAD * self._pace.size

    def take(self, calls: Calls) -> None:
        """Queue *calls*."""
        if self._work.context is not self._context:
            # Another run goes on with the same workers, and numbers its calls anew.
            self._context = self._work.context
            self._crashes.clear()
        if self._stop_at is not None:
            return
        if self._crashes and not self._crashes.keys().isdisjoint(calls.ids):
            # One that has ended a worker is tried again where it can take nobody along.
            for call in calls:
                one = Calls([call.id], [call.args])
                if call.id in self._crashes:
                    self._crew.suspect(one, 0)
                else:
                    self._crew.add(one)
            return
        self._crew.add(calls)

    def _look(self) -> None:
        if self._over:
            return
        new, gone = self._crew.update(self._cluster.workers())
        for post in gone:
            for batch in list(post.out):
                self._lost(post, batch, None)
            if self._leaving is not None:
                self._leaving.discard(post.worker)
        for post in new:
            self._cluster.enlist(post.worker, post.index)
        self.slots = self._slots()
        if self._crew.posts or not self._crew.waiting:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = monotonic()
        elif self._patience is not None and monotonic() - self._idle_since > self._patience:
            raise WorkerSetupError(
                f"The cluster has had no worker for {self._patience:g} seconds, and {self._crew.waiting} tasks wait. "
                f"See whether its workers start, or give it longer with wait_for_workers."
            )

    def _look_for_the_stuck(self) -> None:
        """End a worker that holds the interpreter's lock, so that its station cannot say that a call is stuck."""
        if self._work.timeout is None:
            return
        now = perf_counter()
        for post in self._crew.posts.values():
            if not post.out or post.ending:
                continue
            first = post.out[0]
            heard = first.sent if post.heard is None else max(first.sent, post.heard)
            if now - heard > self._work.timeout + BUDGET + (self._first_silence if post.heard is None else SILENCE):
                first.overdue = post.ending = True
                self._cluster.kill(post.worker)

    # -- sending

    def _send(self) -> None:
        if self._over or self._stop_at is not None:
            return
        for post, batch in self._crew.batches(self._pace.size, 1 if self._pace.per_call > SLOW else 2):
            parcel = self._pack(post, batch)
            if parcel is not None:
                self._send_to(post, batch, parcel)

    def _send_to(self, post: Post, batch: Batch, parcel: bytes) -> None:
        batch.sent = perf_counter()
        try:
            self._cluster.send(post.worker, parcel, partial(self._back, post, batch))
        except CelestialFlowError:
            raise
        except Exception as error:  # the cluster's own code
            self._back(post, batch, error)

    def _back(self, post: Post, batch: Batch, outcome: bytes | BaseException) -> None:
        """What the cluster calls, in any thread."""
        self._inbox.put(partial(self._came, post, batch, outcome))

    def _pack(self, post: Post, batch: Batch) -> bytes | None:
        """The parcel for *batch*, which loses what cannot travel, or not with the rest. None if nothing is left."""
        load = Load(batch.calls)
        self._crew.add(load.left, batch.reruns, first=True)
        self._hand_over([failure_result(one, args, None, batch.reruns) for one, args in load.unsent])
        if len(batch.calls) and not load.ids:
            post.out.remove(batch)
            return None
        batch.calls = Calls(load.ids, load.args)
        return station.parcel(load.ids, load.frames, BUDGET, post.places)

    # -- receiving

    def _came(self, post: Post, batch: Batch, outcome: bytes | BaseException) -> None:
        if batch not in post.out:
            return  # its worker was gone before it
        if not isinstance(outcome, bytes):
            self._lost(post, batch, outcome)
            # The worker, or the way to it, is as good as gone; whether it is still listed is for the cluster to say.
            self._look()
            return
        post.out.remove(batch)
        now = perf_counter()
        if post.heard is None:
            took = SILENCE + 3 * (now - batch.sent)
            known = self._first_silence
            self._first_silence = min(FIRST_SILENCE, took if known == FIRST_SILENCE else max(known, took))
        post.heard = now
        self._lost_probes = 0
        returned = station.unpack(outcome)
        if returned.problem is not None:
            self._end(function_error(returned.problem))
            return
        if batch.collects:
            self._pace.note_slow(max(returned.seconds, default=0.0))
        else:
            self._pace.learn(returned, batch.sent, now)
        self.slots = self._slots()
        self._hand_over(results_of(returned, batch.calls, post.index, batch.reruns))
        if any(failure[2] == stub.TIMED_OUT for failure in returned.failures):
            post.ending = True
            self._cluster.kill(post.worker)
        if returned.running is not None:
            self._collect(post, batch, *returned.running)
        if returned.unstarted:
            # The batch was broken off, so these are its last calls.
            self._crew.add(batch.calls[len(batch.calls) - len(returned.unstarted) :], batch.reruns, first=True)

    def _collect(self, post: Post, batch: Batch, id: int, seconds: float) -> None:
        """Wait for a slow call of *batch*."""
        self._pace.note_slow(seconds)
        slow = Batch(
            Calls([id], [batch.calls.args[batch.calls.ids.index(id)]]), batch.reruns, batch.alone, collects=True
        )
        post.out.append(slow)
        self._send_to(post, slow, station.collection(id))

    def _lost(self, post: Post, batch: Batch, error: BaseException | None) -> None:
        """A batch that did not come back, nor will."""
        post.out.remove(batch)
        if self._stop_at is not None or self._over:
            return
        if not len(batch.calls):
            self._lost_probes += not isinstance(error, WorkerLeft)
            if self._lost_probes >= PROBES:
                said = "" if error is None else f" The cluster said: {reason_of(error)}."
                raise WorkerSetupError(
                    f"{PROBES} workers in a row were lost before they could run anything.{said} See whether they can "
                    f"start, and load the function."
                )
        elif post.ending and not batch.overdue:
            # We ended the worker for another batch, behind which this one waited.
            self._crew.add(batch.calls, batch.reruns, first=True)
        elif isinstance(error, WorkerLeft) and not batch.alone:
            self._crew.add(batch.calls, batch.reruns + 1, first=True)
        elif not batch.alone or isinstance(error, WorkerLeft):
            self._crew.suspect(batch.calls, batch.reruns + 1)
        else:
            self._charge(post, batch, error)

    def _charge(self, post: Post, batch: Batch, error: BaseException | None) -> None:
        (call,) = batch.calls
        fault: CelestialFlowError
        if batch.overdue and self._work.timeout is not None:
            fault = TaskTimeout(describe(call.args), self._work.timeout)
        else:
            times = self._crashes[call.id] = self._crashes.get(call.id, 0) + 1
            said = "" if error is None else f" The cluster said: {reason_of(error)}."
            note = f"It was the only task there.{said}"
            fault = WorkerCrashed(describe(call.args), post.index, note=note, crashes=times)
        fault.__cause__ = error
        self._hand_over([Result(call.id, error=fault, worker=post.index, reruns=batch.reruns)])

    def _hand_over(self, results: Sequence[Result]) -> None:
        if len(results):
            self._deliver(results)

    def _end(self, error: CelestialFlowError) -> None:
        """End the run, since no call of it can be run. Said once."""
        if not self._over:
            self._over = True
            self._crew.clear()
            self._hand_over([Result(-1, error=error)])

    # -- ending

    def _stop_by(self, deadline: float) -> None:
        self._stop_at = deadline if self._stop_at is None else min(self._stop_at, deadline)
        self._crew.clear()

    def _ended(self) -> bool:
        """Whether nothing is left to wait for; sees to it that there will not be, once it was told to stop."""
        if self._stop_at is None:
            return False
        late = monotonic() >= self._stop_at
        if self._crew.busy and not late:
            if not self._recalled:
                self._recalled = True
                for post in self._crew.posts.values():
                    self._try(self._cluster.recall, post.worker)
            return False
        if self._leaving is None and not late:
            self._leaving = {post.worker for post in self._crew.posts.values() if post.heard is not None}
            for worker in list(self._leaving):
                self._try(self._cluster.dismiss, worker, partial(self._gone, worker))
        if self._leaving and not late:
            return False
        for post in self._crew.posts.values():
            if post.out:
                self._try(self._cluster.kill, post.worker)
        return True

    def _gone(self, worker: Hashable, said: str | BaseException) -> None:
        """What the cluster calls, in any thread."""
        self._inbox.put(partial(self._left, worker, said))

    def _left(self, worker: Hashable, said: str | BaseException) -> None:
        if self._leaving is not None:
            self._leaving.discard(worker)
        if said and isinstance(said, str):  # a worker that is gone has nothing to tear down
            # Every outcome is delivered already: stderr is all that is left to tell.
            print(f"The tear-down of worker_setup raised:\n{said}", file=sys.stderr)

    @staticmethod
    def _try(verb: Callable[..., None], *args: Any) -> None:
        """Ask the cluster for something at the end, where nothing depends on its answer."""
        try:
            verb(*args)
        except Exception as error:  # the cluster's own code, of which `close` will hear too
            print(f"The cluster failed with {reason_of(error)} at the end of the run.", file=sys.stderr)
