"""The pool's thread: it owns all workers, from the first to the last moment.

It sleeps in one ``poll`` over the wake-up descriptor and, for each worker, its connection, its output and its pidfd;
nothing is polled for. One turn: take what was submitted, hand out leases, start workers if calls wait, sleep, read.
Everything but `submit`, `stop` and the attributes that they touch belongs to this thread alone.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import celestialflow_core.executors.process.descriptors as descriptors
import celestialflow_core.executors.process.leasing as leasing
import celestialflow_core.executors.process.scheduling as scheduling
import celestialflow_core.executors.process.wire as wire
from celestialflow_core._call import Calls, Result, Successes, args_of
from celestialflow_core.errors import WorkerSetupError
from celestialflow_core.executors.interface import Deliver
from celestialflow_core.executors.lease import LeaseSizer
from celestialflow_core.executors.process.calls import CallQueue
from celestialflow_core.executors.process.crashes import Crashes
from celestialflow_core.executors.process.crew import CONNECTION, OUTPUT, Crew
from celestialflow_core.executors.process.deadlines import Deadlines
from celestialflow_core.executors.process.handle import Handle
from celestialflow_core.executors.process.output import Emit, to_own_streams
from celestialflow_core.executors.process.recycling import Recycling
from celestialflow_core.executors.process.spawn import Recipe
from celestialflow_core.executors.process.verdict import Verdict, judge
from celestialflow_core.executors.tracebacks import traceback_text

__all__ = ["Pool"]

_TEAR_DOWN = 1.0  # seconds that a worker has to end by itself, beyond the grace
_WORTH_MOVING = 0.002  # seconds of work below which calls are not taken from one worker for another
_ALL = 2**32 - 1


class Pool:
    """All workers of one executor.

    Args:
        recipe: What workers are made from.
        limit: The most workers.
        timeout: The longest that a call may run, in seconds, or None.
        recycling: When workers are replaced.
        deliver: Takes results; called in the pool's thread.
        on_output: Takes what workers write, see `ProcessExecutor`; None writes it to our own streams.
        set_slots: Takes the number of calls that keep all workers busy, whenever it changes.
    """

    def __init__(
        self,
        recipe: Recipe,
        limit: int,
        timeout: float | None,
        recycling: Recycling,
        deliver: Deliver,
        on_output: Emit | None,
        set_slots: Callable[[int], None],
    ) -> None:
        self.deliver = deliver
        self.on_output = on_output
        self._recipe = recipe
        self._set_slots = set_slots
        self._wake = descriptors.eventfd()
        self._poll = select.poll()
        self._poll.register(self._wake, select.POLLIN)
        try:
            self._crew = Crew(recipe, limit, recycling, self._poll, self._emit)
        except OSError:
            self.release()
            raise
        self._handles = self._crew.handles
        self._memory = self._crew.memory
        self._staffing = self._crew.staffing
        self.warnings = self._staffing.warnings
        self._crashes = Crashes()
        self._deadlines = None if timeout is None else Deadlines(timeout, self._memory)
        self._inbox: deque[Calls] = deque()
        self._asleep = False
        self._stop_at: float | None = None
        self._stopping = False
        self._over = False
        self._backlog = CallQueue()
        self._suspects = CallQueue()  # to be run alone, see `verdict`
        self._reruns: dict[int, int] = {}
        self._sizer = LeaseSizer()
        self._size = 1
        self._per_call = 0.0
        self._look_again: float | None = None

    # ------------------------------------------------------------------ from other threads
    def begin_run(self, deliver: Deliver, on_output: Emit | None) -> None:
        """Another run goes on with the same workers; nothing of the last one is left."""
        self.deliver = deliver
        self.on_output = on_output
        self._crashes.forget_calls()

    def submit(self, calls: Calls) -> None:
        """Queue *calls*."""
        self._inbox.append(calls)
        self._rouse()

    def stop(self, deadline: float) -> None:
        """End by *deadline*; a second call may bring it forward."""
        self._stop_at = deadline if self._stop_at is None else min(self._stop_at, deadline)
        self._rouse()

    def release(self) -> None:
        """Close the wake-up descriptor, when the thread has ended and nobody will submit any more."""
        fd, self._wake = self._wake, -1
        if fd >= 0:
            os.close(fd)

    def _rouse(self) -> None:
        # The thread sets the flag before it looks for the last time, so no wake-up is lost.
        if self._asleep:
            self._asleep = False
            os.eventfd_write(self._wake, 1)

    # ------------------------------------------------------------------ the loop
    def run(self) -> None:
        """Serve until stopped."""
        # Ctrl-C is the main thread's; and a worker inherits this mask, so it cannot be interrupted before it is ready.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            while not self._over:
                self._turn()
        except BaseException as error:
            if not isinstance(error, WorkerSetupError):
                details = traceback_text(error)
                error = WorkerSetupError("The process executor failed; this is a bug in celestialflow_core.", details)
            self._fail(error)
        finally:
            self.close()

    def _turn(self) -> None:
        while self._inbox:
            calls = self._inbox.popleft()
            self._backlog.append(calls.ids, calls.arguments())
        if self._stop_at is None:
            self._hand_out()
        else:
            self._wind_down(self._stop_at)
            if not self._handles:
                self._over = True
                return
        self._sleep()

    def _sleep(self) -> None:
        # Before anything that another thread may change is looked at: see `_rouse`.
        self._asleep = True
        deadline = self._next_deadline()
        if self._inbox or (self._stop_at is not None and not self._stopping):
            deadline = 0.0
        wait = None if deadline is None else max(0.0, (deadline - time.monotonic()) * 1000)
        events = self._poll.poll(wait)
        self._asleep = False
        for fd, event in events:
            if fd == self._wake:
                os.eventfd_read(fd)
                continue
            known = self._crew.roles.get(fd)
            if known is None:
                continue  # its worker was buried a moment ago
            handle, role = known
            if role == CONNECTION:
                if event & select.POLLOUT:
                    self._crew.send_more(handle)
                if event & ~select.POLLOUT:
                    self._read(handle)
                    if handle.ended:
                        self._bury(handle)
            elif role == OUTPUT:
                if not handle.output.read(fd):
                    self._crew.unwatch(fd)
            else:
                self._bury(handle)
            if self._over:
                return
        if self._deadlines is not None:
            self._deadlines.enforce(self._handles)

    def _next_deadline(self) -> float | None:
        moments: list[float] = []
        if self._deadlines is not None:
            moments += self._deadlines.moments(self._handles)
        if self._stopping and self._stop_at is not None:
            # One that was killed is not waited for by the clock: its end is an event.
            for handle in self._handles:
                if handle.dropped:
                    continue
                if handle.leaving is not None:
                    moments.append(max(self._stop_at, handle.leaving) + _TEAR_DOWN)
                else:
                    moments.append(self._stop_at)
        else:
            moments += self._crew.moments()
            if self._look_again is not None:
                moments.append(self._look_again)
        return min(moments, default=None)

    # ------------------------------------------------------------------ handing out
    def _hand_out(self) -> None:
        self._crew.recycle(self._per_call)
        while self._suspects:
            idle = next((handle for handle in self._handles if handle.free and not handle.calls.ids), None)
            if idle is None:
                break
            if self._lend(idle, self._suspects, 1):
                idle.alone = True
        while self._backlog.ids:
            lease = scheduling.next_lease(self._handles, self._size, len(self._backlog))
            if lease is None:
                break
            self._lend(lease[0], self._backlog, lease[1])
        calls = len(self._backlog) + len(self._suspects) + sum([len(handle.calls) for handle in self._handles])
        if self._crew.hire(calls):
            self._publish_slots()
        self._look_again = None
        if not self._backlog.ids and not self._suspects:
            self._rebalance()

    def _lend(self, handle: Handle, queue: CallQueue, count: int) -> int:
        """Send the first *count* calls of *queue*; the number that are on their way."""
        ids, args = queue.take(count)
        packing = leasing.pack(args, handle.outgoing)
        if packing.taken < count:
            queue.prepend(ids[packing.taken :], args[packing.taken :])
            del ids[packing.taken :], args[packing.taken :]
        refused: list[Result] = []
        for position, error in reversed(packing.refused):
            refused.append(Result(ids[position], None, error, reruns=self._reruns.pop(ids[position], 0)))
            del ids[position], args[position]
        if self._deadlines is not None and not handle.calls.ids:
            self._deadlines.begin(handle)
        handle.calls.append(ids, args)
        self._crew.send(handle, packing.buffers)
        if refused:
            self.deliver(refused[::-1])
        return len(ids)

    def _rebalance(self) -> None:
        """Have the busiest worker give calls back for one that has none."""
        found = scheduling.victim_of(self._handles)
        if found is None:
            return
        victim, count = found
        now = time.monotonic()
        started, ended, since = self._memory.read(victim.slot)
        in_slow_call = started > ended and now - since >= _WORTH_MOVING
        if in_slow_call or self._per_call * (len(victim.calls) - 1) >= _WORTH_MOVING:
            victim.asked += 1
            self._crew.send(victim, wire.message(wire.HAND_BACK, count))
        else:
            self._look_again = now + _WORTH_MOVING

    # ------------------------------------------------------------------ what comes from a worker
    def _read(self, handle: Handle) -> None:
        for kind, count, body in handle.messages():
            if kind in (wire.PLAIN_RESULTS, wire.FRAMED_RESULTS):
                self._take_results(handle, kind, count, body)
            elif kind == wire.READY:
                self._crew.came_up(handle)
            elif kind == wire.HANDED_BACK:
                handle.asked -= 1
                ids, args = handle.calls.take_last(count)
                if not self._stopping:
                    self._backlog.prepend(ids, args)
            elif kind == wire.SETUP_FAILED and body is not None:
                reason, details = pickle.loads(body)
                raise WorkerSetupError(reason, details)

    def _take_back(self, handle: Handle) -> None:
        """Have the worker give back every call that it has not started."""
        if handle.calls.ids:
            handle.asked += 1
            self._crew.send(handle, wire.message(wire.HAND_BACK, _ALL))

    def _take_results(self, handle: Handle, kind: int, count: int, body: bytearray | None) -> None:
        self._staffing.worked(first=not handle.done)
        if self._staffing.untold is not None and all(each.ready for each in self._handles):
            self._staffing.tell()
        ids, args = handle.calls.take(count)
        handle.done += count
        handle.alone = False
        seconds, values, framed = leasing.results_of(kind, count, body)
        if framed:
            handle.output.drain()  # what a failed call wrote is in the pipe, it was written before
        if self._crew.holds_too_much(handle):
            self._take_back(handle)
        total = sum(seconds)
        self._per_call = total / count
        self._sizer.observe(count, total)
        if self._sizer.size != self._size:
            self._size = self._sizer.size
            self._publish_slots()
        if self._reruns and not self._reruns.keys().isdisjoint(ids):
            self._deliver_reruns(handle, ids, args, seconds, values, framed)
        elif values is not None:
            self.deliver(Successes(ids, values, seconds, [handle.index] * count))
        else:
            self.deliver(self._unframed(handle, ids, args, seconds, framed, [0] * count))
        handle.output.forget(handle.done)

    def _deliver_reruns(
        self,
        handle: Handle,
        ids: list[int],
        args: Any,
        seconds: list[float],
        values: list[Any] | None,
        framed: Any,
    ) -> None:
        reruns = [self._reruns.pop(id, 0) for id in ids]
        if values is None:
            self.deliver(self._unframed(handle, ids, args, seconds, framed, reruns))
        else:
            rows = zip(ids, values, seconds, reruns, strict=True)
            self.deliver([Result(id, value, None, took, handle.index, reruns=n) for id, value, took, n in rows])

    @staticmethod
    def _unframed(
        handle: Handle, ids: list[int], args: Any, seconds: list[float], framed: Any, reruns: list[int]
    ) -> list[Result]:
        first = handle.done - len(ids) + 1
        return leasing.unframed(
            ids, args, seconds, handle.index, framed, reruns, lambda position: handle.output.of(first + position)
        )

    def _emit(self, index: int, stream: str, lines: bytes) -> None:
        (self.on_output or to_own_streams)(index, stream, lines)

    def _publish_slots(self) -> None:
        self._set_slots(2 * self._size * self._staffing.limit)

    # ------------------------------------------------------------------ time limits and deaths
    def _bury(self, handle: Handle) -> None:
        """Take leave of a worker that is dead, or has closed its connection and soon will be."""
        handle.kill()
        handle.reap()
        self._read(handle)  # what is in the pipe counts
        handle.output.finish()
        self._crew.remove(handle)
        if handle.dropped:
            return
        started, ended, _ = self._memory.read(handle.slot)
        innocent = handle.condemned is not None
        verdict = judge(started, ended, handle.done, innocent=innocent, was_alone=handle.alone)
        waiting = bool(handle.calls.ids)
        self._settle(handle, verdict, overran=innocent and handle.condemned == started)
        if not started and not innocent and not self._stopping and (waiting or not handle.ready):
            at_work = sum(1 for other in self._handles if other.done)
            self._staffing.died_at_start(handle, at_work, len(self._handles))
            self._publish_slots()

    def _settle(self, handle: Handle, verdict: Verdict, *, overran: bool) -> None:
        """Deliver the error of the call that is to blame, and queue the others again."""
        ids, args = handle.calls.take(len(handle.calls))
        again = CallQueue()
        blamed: Result | None = None
        for position, (id, each) in enumerate(zip(ids, args, strict=True)):
            if position == verdict.charged or (overran and position == verdict.running):
                late = self._deadlines if overran else None
                call_args = args_of(each)
                error = late.error(handle, call_args) if late else self._crashes.error(id, call_args, handle)
                _, _, since = self._memory.read(handle.slot)
                took = time.monotonic() - since
                output = handle.output.of(handle.done + position + 1)
                reruns = self._reruns.pop(id, 0)
                blamed = Result(id, None, error, took, handle.index, output=output, reruns=reruns)
                continue
            if position < verdict.ended or position == verdict.running:
                self._reruns[id] = self._reruns.get(id, 0) + 1
            alone = handle.alone or (verdict.alone and position < verdict.ended)
            (self._suspects if alone else again).append([id], [each])
        if self._stopping:
            self._suspects.clear()
        else:
            self._backlog.prepend(again.ids, again.args)
        if blamed is not None:
            self.deliver([blamed])

    # ------------------------------------------------------------------ the end
    def _wind_down(self, deadline: float) -> None:
        """Let what runs end, by *deadline*."""
        now = time.monotonic()
        if not self._stopping:
            self._stopping = True
            for handle in self._handles:
                self._take_back(handle)
        self._backlog.clear()
        self._suspects.clear()
        for handle in self._handles:
            if handle.dropped:
                continue
            if handle.leaving is not None:
                late = now >= max(deadline, handle.leaving) + _TEAR_DOWN
            elif not handle.ready and self._recipe.setup is None:
                late = True  # it has nothing to end
            elif handle.ready and not handle.calls.ids and handle.condemned is None:
                self._crew.let_go(handle, now)
                late = False
            else:
                late = now >= deadline
            if late:
                handle.dropped = True
                handle.kill()

    def _fail(self, error: BaseException) -> None:
        """End the run with *error*."""
        self._over = True
        for handle in self._handles:
            handle.dropped = True
        self.deliver([Result(-1, None, error)])

    def close(self) -> None:
        """End every worker that is left, and give back all but the wake-up descriptor."""
        self._staffing.tell()
        self._crew.close()
