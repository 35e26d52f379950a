"""The executor ``dask``: a run's tasks on a Dask cluster, by the batch.

    TaskManager(fetch, execution_mode="dask", executor_options={"address": "tcp://scheduler:8786"})

This module is loaded in every run; Dask only where such an executor is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from celestialflow_core import hookimpl

if TYPE_CHECKING:
    from distributed import Client

    from celestialflow_core.executors import ExecutorFactory
    from celestialflow_core.executors.cluster import ClusterExecutor

__all__ = ["DaskFactory", "DaskPlugin", "plugin"]


class DaskFactory:
    """Makes executors that run on Dask.

    Attributes:
        capabilities: What they can do; whether the cluster can end a stuck call is seen when a run starts.
        is_async: Whether they await the function.
        options: The names of the ``executor_options`` that they take.
    """

    capabilities = frozenset({"timeout", "setup"})
    is_async = False
    options = frozenset({"address", "client", "resources", "wait_for_workers"})

    def __call__(
        self,
        worker_limit: int | None = None,
        *,
        address: str | None = None,
        client: Client | None = None,
        resources: Mapping[str, float] | None = None,
        wait_for_workers: float | None = 60.0,
    ) -> ClusterExecutor:
        """An executor, not started; it connects to nothing yet.

        Args:
            worker_limit: The most calls that run at a time; None for all that the workers have threads for.
            address: Where the scheduler is, as "tcp://host:8786".
            client: A ``distributed.Client`` of the cluster to use, instead of an address.
            resources: What a call takes of a worker's resources, as {"GPU": 1}.
            wait_for_workers: The seconds for which tasks wait while there is no worker; None for ever.

        Raises:
            TypeError, ValueError: An option that cannot be used, or both an address and a client.
        """
        from celestialflow_core.executors.cluster import ClusterExecutor
        from celestialflow_dask._cluster import DaskCluster
        from celestialflow_dask._options import Options

        options = Options(address, client, resources, worker_limit)
        return ClusterExecutor(DaskCluster(options), worker_limit, wait_for_workers=wait_for_workers)

    def check(self, worker_limit: int | None = None, **options: Any) -> None:
        """Refuse what cannot be used, when a manager is made: that connects to nothing either.

        Raises:
            TypeError, ValueError: An option is of the wrong type, or of no use.
        """
        self(worker_limit, **options)


class DaskPlugin:
    """Declares the executor."""

    def __init__(self) -> None:
        self._factory = DaskFactory()

    @hookimpl
    def executor_factories(self) -> Mapping[str, ExecutorFactory]:
        """One, named as the engine is."""
        factories: dict[str, Any] = {"dask": self._factory}
        return factories


plugin = DaskPlugin()
"""What is active where this distribution is installed."""
