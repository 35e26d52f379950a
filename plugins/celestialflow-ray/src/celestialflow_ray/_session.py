"""Whose Ray it is: the process has one, the user's or one of ours, which ends with the last run that uses it.

Ray keeps its connection in module globals, so this has to be a module global too. What ``ray.init`` changes in the
process (environment variables, the handler of SIGTERM, the logger) is put back; it stays as it is for a Ray that the
user has initialised.
"""

from __future__ import annotations

import inspect
import logging
import os
import signal
import socket
import threading
from collections.abc import Mapping
from typing import Any

import attrs
import ray
from ray._private import ray_constants
from ray.exceptions import RayError
from ray.util.client import ray as client

from celestialflow_core.errors import WorkerSetupError
from celestialflow_ray._text import plain

__all__ = ["Session", "enter", "leave", "reachable", "users"]

# What ray.init sets in the environment, for the processes that it starts.
VARIABLES = ("RAY_USAGE_STATS_ENABLED", "RAY_AUTH_MODE", "PYTHONBREAKPOINT")
# Whether Ray gives its workers the environment of ``uv run``. It reads the variable of this name when it is imported.
UV = "RAY_ENABLE_UV_RUN_RUNTIME_ENV"
KNOCK = 5.0  # seconds
DEFAULT_PORT = 6379

# Ray gives the processes that it ends some time; older versions do not wait for that.
_WAIT = {"wait_for_processes": True} if "wait_for_processes" in inspect.signature(ray.shutdown).parameters else {}

_LOCK = threading.Lock()
_sessions: list[Session] = []


@attrs.define(eq=False)
class Session:
    """The use of Ray by one run.

    Attributes:
        head: Where the cluster's head is, as "host:port".
        arguments: What ``ray.init`` was called with by us, or None: this Ray is the user's.
        local: Whether we started the cluster, on this machine.
        shared: Whether another run of this process was there before.
        before: What was there before ``ray.init``.
    """

    head: str
    arguments: Mapping[str, Any] | None
    local: bool
    shared: bool
    before: _Before | None = attrs.field(default=None, repr=False)


def users() -> int:
    """How many runs of this process use Ray now."""
    return len(_sessions)


def enter(arguments: Mapping[str, Any] | None, cpus: int) -> Session:
    """Use the Ray of this process; start or connect one if it has none.

    Args:
        arguments: For ``ray.init``, or None if the user asked for none.
        cpus: How many CPUs a Ray on this machine gets if nothing else is said.

    Raises:
        WorkerSetupError: There is none, and none can be started.
        ValueError: There is one, and it is not what the arguments ask for.
    """
    with _LOCK:
        session = _join(arguments) if ray.is_initialized() else _start(arguments, cpus)
        _sessions.append(session)
        return session


def leave(session: Session) -> None:
    """No longer use Ray. One that we started or connected is shut down with its last run."""
    with _LOCK:
        if session not in _sessions:
            return
        _sessions.remove(session)
        if session.before is None:
            return
        heirs = [other for other in _sessions if other.head == session.head]
        if heirs:
            heirs[0].before = session.before
            return
        if ray.is_initialized() and _head() == session.head:
            ray.shutdown(**_WAIT)
        session.before.restore()


def reachable(head: str, seconds: float) -> bool:
    """Whether somebody listens at "host:port"."""
    host, _, port = head.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=seconds).close()
    except OSError:
        return False
    return True


def _head() -> str:
    return str(ray.get_runtime_context().gcs_address)


def _join(arguments: Mapping[str, Any] | None) -> Session:
    if client.is_connected():  # type: ignore[no-untyped-call]  # Ray has no types for it
        raise ValueError(
            "Ray is initialised through Ray Client (ray://) in this process, which is not supported. Initialise it "
            "with host:port on a machine of the cluster, or submit the script as a Ray job."
        )
    head = _head()
    ours = [session for session in _sessions if session.head == head and session.arguments is not None]
    if arguments is not None and not ours:
        raise ValueError(
            "Ray is initialised in this process already, so that init and address have no effect. Leave them out to "
            "use that Ray, which is not shut down, or call ray.shutdown() before the run."
        )
    if arguments is not None and ours[0].arguments != arguments:
        raise ValueError(
            "Another run of this process has started Ray with other arguments for ray.init, and a process has one "
            "Ray. Give both the same, or initialise Ray before them and leave out init and address."
        )
    return Session(head, ours[0].arguments if ours else None, bool(ours) and ours[0].local, shared=bool(_sessions))


def _start(arguments: Mapping[str, Any] | None, cpus: int) -> Session:
    given = dict(arguments or {})
    # Without an address ray.init joins a cluster that runs on this machine, or starts one.
    address = given.get("address") or os.environ.get("RAY_ADDRESS") or ("local" if arguments is None else None)
    _check(address)
    local = address == "local"
    if arguments is None:
        given = {"address": address, "log_to_driver": False}
        if local:
            given |= {"num_cpus": cpus, "include_dashboard": False}
    before = _Before()
    if local and "runtime_env" not in given:
        before.leave_uv_out()
    try:
        ray.init(**{"configure_logging": False, **given})
    except (OSError, RuntimeError, ValueError, TypeError, RayError) as error:
        ray.shutdown(**_WAIT)
        before.restore()
        what = (
            "Ray could not be started"
            if address in (None, "local")
            else f"The Ray cluster at {address} could not be joined"
        )
        said = f"{type(error).__name__}: {plain(error)}"
        if error.__cause__ is not None:
            said += f" ({plain(error.__cause__)})"
        raise WorkerSetupError(f"{what}. It said: {said}.") from error
    except BaseException:  # a Ctrl-C: what has been started by now must not stay
        ray.shutdown(**_WAIT)
        before.restore()
        raise
    before.restore_after_start()
    return Session(_head(), arguments or {}, local, shared=bool(_sessions), before=before)


def _check(address: str | None) -> None:
    """Refuse an address where nobody listens: Ray itself would try for two minutes."""
    if address is None or address in ("local", "auto"):
        return
    if "://" in address:
        raise WorkerSetupError(
            f"{address} is an address of Ray Client, which is not supported. Give the host:port of the cluster's head "
            f"(port {DEFAULT_PORT} unless it was started with another) on a machine of the cluster, or submit the "
            f"script as a Ray job."
        )
    if not address.rpartition(":")[2].isdecimal():
        raise WorkerSetupError(f"{address!r} is no address of a Ray cluster: it must be host:port, or auto.")
    if not reachable(address, KNOCK):
        raise WorkerSetupError(
            f"No Ray cluster answers at {address}. See whether its head runs (ray status), and whether this machine "
            f"can reach that port; without an address the run starts a Ray of its own."
        )


class _Before:
    """What ``ray.init`` changes in a process; keeps it quiet on the way."""

    def __init__(self) -> None:
        self._variables = {name: os.environ.get(name) for name in VARIABLES}
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        self._uv = getattr(ray_constants, UV, None)
        self._handler = signal.getsignal(signal.SIGTERM)
        self._logger = logging.getLogger("ray")
        self._handlers, self._level = list(self._logger.handlers), self._logger.level
        self._logger.setLevel(logging.ERROR)

    def leave_uv_out(self) -> None:
        """Under ``uv run`` Ray would build the environment of each worker anew, from a copy of the working directory.

        Workers on this machine have the interpreter of this process, and what is installed with it.
        """
        if hasattr(ray_constants, UV):
            setattr(ray_constants, UV, False)

    def restore_after_start(self) -> None:
        """Put back what only the start needs.

        Ray ends the process at a SIGTERM by ``sys.exit``; what it does then is for the user to say.
        """
        if threading.current_thread() is threading.main_thread() and self._handler is not None:
            signal.signal(signal.SIGTERM, self._handler)
        if self._uv is not None:
            setattr(ray_constants, UV, self._uv)

    def restore(self) -> None:
        """Put back everything."""
        self.restore_after_start()
        for name, value in self._variables.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self._logger.handlers[:] = self._handlers
        self._logger.setLevel(self._level)
