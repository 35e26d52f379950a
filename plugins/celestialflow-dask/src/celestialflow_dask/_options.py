"""What the user says of the cluster, checked before anything is connected to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from distributed import Client

__all__ = ["Options"]


def _check_address(_: object, __: object, value: Any) -> None:
    if value is not None and (not isinstance(value, str) or not value):
        raise TypeError(f"address must be that of a Dask scheduler, as 'tcp://host:8786', got {value!r:.100}.")


def _check_client(_: object, __: object, value: Any) -> None:
    if value is not None and not isinstance(value, Client):
        raise TypeError(
            f"client must be a distributed.Client, got {value!r:.100}. Of a cluster object make one: Client(cluster)."
        )


def _check_resources(_: object, __: object, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, Mapping):
        raise TypeError(f"resources must be a dict of amounts a call, as {{'GPU': 1}}, got {value!r:.100}.")
    for name, amount in value.items():
        if not isinstance(name, str):
            raise TypeError(f"resources must have names, as {{'GPU': 1}}, got {name!r:.100}.")
        if isinstance(amount, bool) or not isinstance(amount, int | float) or not amount > 0:
            raise ValueError(f"resources[{name!r}] must be a number above 0, got {amount!r:.100}.")


def _check_limit(_: object, __: object, value: Any) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ValueError(f"worker_limit must be a positive int or None, got {value!r:.100}. None is no limit.")


@attrs.frozen
class Options:
    """Which cluster to use, and how much of it.

    Attributes:
        address: Where the scheduler is, or None.
        client: A client of the cluster, or None. With neither there will be a cluster on this machine.
        resources: What a call takes of a worker's resources.
        worker_limit: The most calls that run at a time, or None.
    """

    address: str | None = attrs.field(default=None, validator=_check_address)
    client: Client | None = attrs.field(default=None, validator=_check_client)
    resources: Mapping[str, float] | None = attrs.field(default=None, validator=_check_resources)
    worker_limit: int | None = attrs.field(default=None, validator=_check_limit)

    def __attrs_post_init__(self) -> None:
        if self.address is not None and self.client is not None:
            raise ValueError("address and client say the same. Give one of the two.")
