"""What the user says of the cluster is checked before anything is connected to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from distributed import Client, LocalCluster

from celestialflow_core import TaskManager
from celestialflow_dask import DaskFactory


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"address": 8786}, TypeError, "address must be that of a Dask scheduler"),
        ({"address": ""}, TypeError, "address must be"),
        ({"client": "tcp://host:8786"}, TypeError, "client must be a distributed.Client"),
        ({"resources": ["GPU"]}, TypeError, "resources must be a dict"),
        ({"resources": {1: 1}}, TypeError, "resources must have names"),
        ({"resources": {"GPU": 0}}, ValueError, "must be a number above 0"),
        ({"resources": {"GPU": True}}, ValueError, "must be a number above 0"),
        ({"worker_limit": 0}, ValueError, "worker_limit must be a positive int"),
        ({"wait_for_workers": 0}, ValueError, "wait_for_workers must be a number"),
    ],
)
def test_option_that_is_wrong_is_refused_with_a_sentence(
    options: dict[str, Any], error: type[Exception], text: str
) -> None:
    """A wrong type and a wrong value, each by name."""
    with pytest.raises(error, match=text):
        DaskFactory()(**options)


def test_option_that_is_wrong_is_refused_by_the_manager() -> None:
    """When it is made, and not when it runs."""
    with pytest.raises(TypeError, match="address must be that of a Dask scheduler"):
        TaskManager(abs, "dask", executor_options={"address": 8786})


def test_address_and_client_together_are_refused(client: Any) -> None:
    """They could contradict each other."""
    with pytest.raises(ValueError, match="say the same"):
        DaskFactory()(address="tcp://127.0.0.1:8786", client=client)


def test_unknown_option_is_refused_by_the_constructor() -> None:
    """With what was probably meant."""
    with pytest.raises(TypeError, match="Did you mean 'address'"):
        TaskManager(int, "dask", executor_options={"adress": "tcp://127.0.0.1:8786"})


def test_asynchronous_client_is_refused_with_what_to_give_instead() -> None:
    """Its loop is that of the caller, who waits: connecting would never end."""

    async def main() -> None:
        async with (
            LocalCluster(0, host="127.0.0.1", dashboard_address=":0", asynchronous=True, silence_logs=50) as cluster,
            Client(cluster, asynchronous=True, set_as_default=False) as client,
        ):
            manager = TaskManager(int, "dask", log_dir=None, executor_options={"client": client})
            with pytest.raises(ValueError, match="belongs to an event loop"):
                manager.start(["1"])

    asyncio.run(main())


def test_client_that_is_closed_is_refused(address: str) -> None:
    """Before anything else is tried."""
    with Client(address, set_as_default=False) as client:
        pass
    with pytest.raises(ValueError, match="client is closed"):
        TaskManager(int, "dask", log_dir=None, executor_options={"client": client}).start(["1"])


def test_time_limit_is_refused_where_a_worker_cannot_be_ended(new_cluster: Callable[..., Any]) -> None:
    """A worker of two threads runs calls of others too, so that nobody may end it for one that is stuck."""
    cluster = new_cluster(1, threads_per_worker=2)
    options = {"address": cluster.scheduler_address}
    manager = TaskManager(int, "dask", task_timeout=5, log_dir=None, executor_options=options)

    with pytest.raises(ValueError, match="task_timeout does not work with the Dask worker at"):
        manager.start(["1"])
