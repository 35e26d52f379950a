"""A client of our own to the cluster that the options name; a cluster of our own where they name none.

The user's client is only asked where its scheduler is. Ours beside it may subscribe, cancel and close as it likes.
"""

from __future__ import annotations

from typing import Any

from distributed import Client

from celestialflow_core.errors import WorkerSetupError
from celestialflow_core.executors.process.cgroup import usable_cpus
from celestialflow_dask._local import CLOSE, LocalDask
from celestialflow_dask._loop import LoopThread
from celestialflow_dask._options import Options

__all__ = ["Connection"]

NAME = "celestialflow"
PATIENCE = 5.0
"""Seconds to wait for a scheduler to answer."""
INTERVAL = 0.001
"""Seconds for which messages to the scheduler are gathered. Dask's clients take 0.01, so that a worker which waits for
its next batch waits for that: a round trip takes 6 ms with the one, and 11 ms with the other."""


class Connection:
    """A client that is connected.

    Attributes:
        client: The client, which is ours.

    Raises:
        WorkerSetupError: There is no scheduler at that address, or the cluster on this machine does not start.
        ValueError: The user's client cannot be used.
    """

    def __init__(self, options: Options) -> None:
        self._local: LocalDask | None = None
        given: dict[str, Any] = {}
        address = options.address
        if options.client is not None:
            address, given = _address_of(options.client)
        elif address is None:
            self._local = LocalDask(options.worker_limit or usable_cpus(), options.resources)
            address = self._local.address
        self._thread = LoopThread()
        try:
            # Dask types a client as one that may not be connected. This one is, until `close`.
            self.client: Any = self._thread.run(_connect(address, given))
        except (OSError, ImportError, ValueError, TypeError) as error:
            self._let_go(0)
            raise WorkerSetupError(
                f"No Dask scheduler could be reached at {address!r}: {error}. Start one there (dask scheduler), or see "
                f"whether the address is right."
            ) from error
        except BaseException:
            self._let_go(0)
            raise
        self.client.scheduler_comm.interval = INTERVAL

    def close(self, grace: float) -> None:
        """Disconnect, and end the cluster if it is ours."""
        try:
            self.client.close(timeout=max(1.0, min(grace, CLOSE)))
        finally:
            self._let_go(grace)

    def _let_go(self, grace: float) -> None:
        self._thread.close()
        local, self._local = self._local, None
        if local is not None:
            local.close(grace)


async def _connect(address: str, given: dict[str, Any]) -> Client:
    """A client in the loop where this runs; where it cannot connect, nothing of it is left."""
    # Not the default one: the user's own code must not find it.
    client: Any = Client(address, asynchronous=True, timeout=PATIENCE, set_as_default=False, name=NAME, **given)
    try:
        await client
    except BaseException:
        await client.close()
        raise
    return client


def _address_of(client: Any) -> tuple[str, dict[str, Any]]:
    """Where the scheduler of the user's client is, and how one gets in."""
    if client.asynchronous:
        raise ValueError(
            "client belongs to an event loop that cannot run while this run starts, since it is asynchronous. Give "
            "the address instead, as executor_options={'address': client.scheduler.address}, or a client that is not."
        )
    if client.status != "running":
        raise ValueError(f"client is {client.status}. Give one that is connected.")
    return client.scheduler.address, {
        "security": client.security,
        "direct_to_workers": client.direct_to_workers,
    }
