"""The adapter: Ray, as a `ClusterExecutor` wants to see it. A worker is an actor, and runs one call at a time.

    open --> one thread: as many actors as there is room for, again each second --> workers()
    send --> actor.run.remote(parcel) --> the future's callback --> done

An actor that is not placed yet is no worker yet; Ray, and its autoscaler, see it as pending. One that dies is replaced.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress
from math import ceil
from time import monotonic
from typing import Any

import ray
from ray import cloudpickle
from ray.exceptions import RayError

import celestialflow_ray._far as far
from celestialflow_core.errors import CelestialFlowError, WorkerSetupError
from celestialflow_core.executors.process.cgroup import usable_cpus
from celestialflow_ray import _session as sessions
from celestialflow_ray._members import ActorLost, Member
from celestialflow_ray._options import RayOptions

__all__ = ["RayCluster"]

TICK = 1.0
# The head may be away this long: it may be starting again. After a minute Ray ends the process that it was lost to.
PATIENCE = 20.0
# So many actors that die one after the other before one has started: none will.
STILLBORN = 4
# What is smaller travels with the call. Through the object store it would come to each node once, but a process that
# uses the store is ended by Ray, there and then, when the store of its node dies.
INLINE = 64 << 10
_PICKLING = threading.Lock()


class RayCluster:
    """Ray as a `Cluster`.

    Args:
        options: What the user said.
    """

    def __init__(self, options: RayOptions) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._members: set[Member] = set()
        self._session: sessions.Session | None = None
        self._thread: threading.Thread | None = None
        self._actors: Any = None
        self._station: Any = None

    # -- called by the executor --------------------------------------------------------------------------------------

    def open(self, station: bytes, changed: Callable[[], None], *, kills: bool) -> None:
        """Connect to Ray, or start one, and have actors made."""
        options = self._options
        self._session = session = sessions.enter(options.arguments, self._cpus())
        self._changed = changed
        self._broken: CelestialFlowError | None = None
        self._stillborn = 0
        self._seen = monotonic()
        self._closing = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="celestialflow-ray", daemon=True)
        try:
            nodes = _nodes()
            if session.local and not options.room(nodes):
                have = ", ".join(f"{name}: {amount:g}" for name, amount in sorted(nodes[0].items()) if ":" not in name)
                raise WorkerSetupError(
                    f"A worker needs {options.needs}, and the Ray that was started for this run has {have}. Ask for "
                    f"less, or say what there is with init."
                )
            self._actors = _export(options, session.shared)
            self._station = station if len(station) <= INLINE else ray.put(station)
            self._hire(nodes)
            self._thread.start()
        except BaseException:
            self.close(0.0)
            raise

    def _cpus(self) -> int:
        """How many CPUs a Ray of our own needs."""
        each = 1 if self._options.num_cpus is None else self._options.num_cpus
        limit = self._options.worker_limit
        return usable_cpus() if limit is None else max(1, ceil(limit * each))

    def workers(self) -> Mapping[Hashable, int]:
        """The actors that have started."""
        if self._broken is None and not ray.is_initialized():
            self._break(CelestialFlowError("Ray was shut down in this process while the run used it."))
        if self._broken is None and monotonic() - self._seen > PATIENCE:
            self._break(
                CelestialFlowError(
                    f"The Ray cluster has not answered for {PATIENCE:g} seconds: nobody listens at its head. Ray ends "
                    f"a process about a minute after that unless it calls ray.shutdown()."
                )
            )
        if self._broken is not None:
            raise self._broken
        with self._lock:
            return {member: 1 for member in self._members if member.ready}

    def enlist(self, worker: Member, index: int) -> None:
        """Have the station made."""
        worker.ask(worker.actor.enlist, self._enlisted, index)

    def send(self, worker: Member, parcel: bytes, done: Callable[[bytes | BaseException], None]) -> None:
        """Have a batch run."""
        worker.ask(worker.actor.run, done, parcel)

    def recall(self, worker: Member) -> None:
        """An actor's queue cannot be looked into; what is in it is two batches, which are short."""

    def dismiss(self, worker: Member, done: Callable[[str | BaseException], None]) -> None:
        """Have the tear-down run."""
        worker.ask(worker.actor.leave, done)

    def kill(self, worker: Member) -> None:
        """End the process of the actor."""
        if self._broken is None:
            worker.kill()

    def want(self, calls: int) -> None:
        """Pending actors are what tells Ray that more is wanted."""

    def close(self, grace: float) -> None:
        """End the actors, and Ray itself if it is ours."""
        thread, session = self._thread, self._session
        if thread is None or session is None:
            return
        self._thread = self._session = None
        self._closing = True
        self._wake.set()
        # It may wait for an answer of a head that is gone; then it ends when Ray is shut down.
        if thread.is_alive():
            thread.join(5.0)
        with self._lock:
            members, self._members = self._members, set()
        for member in members:
            if self._broken is None:
                member.kill()
            else:
                member.lose(self._broken)  # what Ray says of it later is not for the next run
        self._actors = self._station = None
        sessions.leave(session)

    # -- the thread of the cluster -----------------------------------------------------------------------------------

    def _watch(self) -> None:
        head = self._session.head if self._session is not None else ""
        while True:
            self._wake.wait(TICK)
            if self._closing or self._broken is not None:
                return
            self._wake.clear()
            if not sessions.reachable(head, TICK) or not ray.is_initialized():
                continue  # how long that may go on is for `workers` to say
            with suppress(RayError, OSError, RuntimeError):
                self._hire(_nodes())
                self._seen = monotonic()

    def _hire(self, nodes: list[dict[str, float]]) -> None:
        """Have as many actors as there should be."""
        wanted = self._options.worker_limit or max(1, self._options.room(nodes))
        with self._lock:
            missing = 0 if self._closing or self._broken is not None else wanted - len(self._members)
        for _ in range(missing):
            if not ray.is_initialized():  # an actor that is made then starts a new Ray
                return
            # Outside of the lock: an actor that cannot be made says so at once, and that wants the lock.
            member = Member(self._actors.remote(self._station), self._heard)
            with self._lock:
                if member.lost is None:
                    self._members.add(member)

    # -- in threads of Ray's -----------------------------------------------------------------------------------------

    def _heard(self, member: Member, lost: ActorLost | None) -> None:
        """An actor has started, or is gone."""
        with self._lock:
            self._members.discard(member)
            if lost is None:
                self._members.add(member)
                self._stillborn = 0
            elif not member.ready:
                self._stillborn += 1
            hopeless = self._stillborn >= STILLBORN and not any(other.ready for other in self._members)
        if hopeless:
            self._break(WorkerSetupError(f"No worker of the Ray cluster starts. Ray says of the last: {lost}."))
        elif lost is not None and self._stillborn == 0:
            self._wake.set()
        if not self._closing:
            self._changed()

    def _enlisted(self, answer: ActorLost | None) -> None:
        if answer is not None and answer.raised:
            self._break(WorkerSetupError("A worker of the Ray cluster cannot take the run's function.", str(answer)))

    def _break(self, error: CelestialFlowError) -> None:
        """No call can be run from here on."""
        with self._lock:
            if self._broken is None and not self._closing:
                self._broken = error
        self._wake.set()


def _nodes() -> list[dict[str, float]]:
    """What each node of the cluster has."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]  # Ray has no types for it
    return [dict(node["Resources"]) for node in nodes if node["Alive"]]


def _export(options: RayOptions, shared: bool) -> Any:
    """The class of the actors, known to Ray."""
    asked: dict[str, Any] = {"num_cpus": 1 if options.num_cpus is None else options.num_cpus}
    if options.num_cpus is None and shared:
        # Stages of a graph: what the first has reserved is the process's. Else the second would wait for ever.
        asked = {"num_cpus": 0, "scheduling_strategy": "SPREAD"}
    if options.num_gpus is not None:
        asked["num_gpus"] = options.num_gpus
    if options.resources:
        asked["resources"] = dict(options.resources)
    return _ByValue(ray.remote(max_restarts=0, max_task_retries=0, **asked)(far.StationHolder))


class _ByValue:
    """An actor class whose first actor takes the class along, since the workers may not have this package."""

    def __init__(self, actors: Any) -> None:
        self._actors = actors

    def remote(self, *args: Any) -> Any:
        with _PICKLING:
            cloudpickle.register_pickle_by_value(far)  # type: ignore[no-untyped-call]  # Ray has no types for it
            try:
                return self._actors.remote(*args)
            finally:
                cloudpickle.unregister_pickle_by_value(far)  # type: ignore[no-untyped-call]  # Ray has no types for it
