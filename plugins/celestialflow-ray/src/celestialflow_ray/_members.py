"""One worker: an actor, and what was sent to it and has not come back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from celestialflow_ray._text import plain

__all__ = ["ActorLost", "Member"]

Done = Callable[[Any], None]


class ActorLost(RuntimeError):
    """The actor has died, or cannot be reached; says what Ray says.

    Attributes:
        raised: Whether the actor lives, and its method has raised.
    """

    raised = False


class Member:
    """An actor, from its creation to its end. Another actor that takes its place is another member.

    Args:
        actor: The actor.
        changed: Called, in a thread of Ray's, with the member and the error or None, when it has started or is gone.
    """

    def __init__(self, actor: Any, changed: Callable[[Member, ActorLost | None], None]) -> None:
        self.actor = actor
        self.ready = False
        self.lost: ActorLost | None = None
        self._changed = changed
        self._lock = threading.Lock()
        self._errands: set[Done] = set()
        self.ask(actor.ready, self._started)

    def ask(self, method: Any, done: Done, *args: Any) -> None:
        """Call *method* of the actor; *done* gets what it gives, or an error, once."""
        with self._lock:
            lost = self.lost
            if lost is None:
                self._errands.add(done)
        if lost is not None:
            done(lost)
            return
        if not ray.is_initialized():  # whoever calls an actor then starts a new Ray
            self.lose(RuntimeError("Ray was shut down"))
            return
        try:
            future = method.remote(*args).future()
        except (RayError, OSError, RuntimeError) as error:
            self.lose(error)
            return
        future.add_done_callback(partial(self._back, done))

    def lose(self, error: BaseException) -> None:
        """Take note that the actor is gone: all that it has is answered."""
        with self._lock:
            if self.lost is not None:
                return
            self.lost = ActorLost(plain(error))
            self.lost.raised = isinstance(error, RayTaskError)
            errands, self._errands = self._errands, set()
        # First that it is gone, so that who hears of a batch does not find its worker still there.
        self._changed(self, self.lost)
        for done in errands:
            done(self.lost)

    def kill(self) -> None:
        """End its process, also if it is stuck; what it has is answered at once."""
        if not ray.is_initialized():
            self.lose(RuntimeError("Ray was shut down"))
            return
        try:
            ray.kill(self.actor, no_restart=True)
        except (RayError, OSError, RuntimeError, ValueError) as error:  # it is gone, or Ray is
            self.lose(error)
        else:
            self.lose(ActorLost("it was killed by the run"))

    def _started(self, answer: Any) -> None:
        if not isinstance(answer, ActorLost):
            self.ready = True
            self._changed(self, None)

    def _back(self, done: Done, future: Future[Any]) -> None:
        """What Ray calls in a thread of its own."""
        error = future.exception()
        if error is not None:
            # With actor tasks that are not tried again every error means that the way to the actor is broken, if not
            # the actor: it must not stay, neither here nor there.
            self.lose(error)
            return
        with self._lock:
            if done not in self._errands:
                return
            self._errands.remove(done)
        done(future.result())
