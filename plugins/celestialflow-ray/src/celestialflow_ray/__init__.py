"""The execution mode "ray": the tasks of a run on a Ray cluster.

    TaskManager(fetch, "ray")                                               # a Ray of our own on this machine
    TaskManager(fetch, "ray", executor_options={"address": "head:6379"})    # a cluster that is there

This module is loaded in every run; Ray only where a run uses it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from celestialflow_core import hookimpl

if TYPE_CHECKING:
    from celestialflow_core.executors import ExecutorFactory
    from celestialflow_core.executors.cluster import ClusterExecutor

__all__ = ["RayExecutors", "RayFactory", "make_executor", "plugin"]


class RayFactory:
    """Makes executors, and says what they can do before Ray is imported.

    Attributes:
        capabilities: They keep ``task_timeout``, and run ``worker_setup``.
        options: The names of the ``executor_options``.
    """

    capabilities = frozenset({"timeout", "setup"})
    options = frozenset({"init", "address", "num_cpus", "num_gpus", "resources", "wait_for_workers"})

    def __call__(self, worker_limit: int | None = None, **options: Any) -> ClusterExecutor:
        """An executor; it connects to nothing yet.

        Args:
            worker_limit: How many workers, or None for as many as the cluster has room for.
            options: See the README.

        Raises:
            TypeError, ValueError: An option is of the wrong type, or of no use.
        """
        from celestialflow_core.executors.cluster import ClusterExecutor
        from celestialflow_ray._cluster import RayCluster
        from celestialflow_ray._options import RayOptions

        patience = options.pop("wait_for_workers", 60.0)
        chosen = RayOptions(worker_limit=worker_limit, **options)
        return ClusterExecutor(RayCluster(chosen), worker_limit, wait_for_workers=patience)

    def check(self, worker_limit: int | None = None, **options: Any) -> None:
        """Refuse what cannot be used, when a manager is made: that connects to nothing either.

        Raises:
            TypeError, ValueError: An option is of the wrong type, or of no use.
        """
        self(worker_limit, **options)


make_executor = RayFactory()
"""The factory of the mode "ray"."""


class RayExecutors:
    """Declares the executor."""

    @hookimpl
    def executor_factories(self) -> Mapping[str, ExecutorFactory]:
        """The mode "ray"."""
        return {"ray": make_executor}


plugin = RayExecutors()
"""What is active where this distribution is installed."""
