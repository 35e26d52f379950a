"""What a user can say of a run on Ray, checked before Ray is imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

__all__ = ["RayOptions"]


def _is_amount(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")


def _check_amount(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not _is_amount(value):
        raise TypeError(f"{attribute.name} must be a number of at least 0, for each worker, got {value!r:.100}.")


def _check_init(_: object, __: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not (isinstance(value, Mapping) and all(isinstance(name, str) for name in value)):
        raise TypeError(f"init must be a dict of arguments for ray.init, got {value!r:.100}.")


def _check_resources(_: object, __: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, Mapping) or not all(isinstance(n, str) and _is_amount(a) for n, a in value.items()):
        raise TypeError(f'resources must be a dict of what each worker takes, like {{"fpga": 1}}, got {value!r:.100}.')
    for name, instead in (("CPU", "num_cpus"), ("GPU", "num_gpus")):
        if name in value:
            raise ValueError(f"resources cannot have {name!r}: say {instead}={value[name]!r}.")


@attrs.frozen(kw_only=True)
class RayOptions:
    """The options of one executor.

    Attributes:
        worker_limit: How many workers, or None for as many as there is room for.
        init: The arguments of ``ray.init``, or None.
        address: Short for ``init={"address": ...}``.
        num_cpus: The CPUs that each worker takes; None: one, shared by the runs of a process.
        num_gpus: The GPUs that each worker takes.
        resources: What else each takes, by the cluster's names.
    """

    worker_limit: int | None = None
    init: Mapping[str, Any] | None = attrs.field(default=None, validator=_check_init)
    address: str | None = None
    num_cpus: float | None = attrs.field(default=None, validator=_check_amount)
    num_gpus: float | None = attrs.field(default=None, validator=_check_amount)
    resources: Mapping[str, float] = attrs.field(factory=dict, validator=_check_resources)

    def __attrs_post_init__(self) -> None:
        if self.address is None:
            return
        if not isinstance(self.address, str):
            raise TypeError(f'address must be the "host:port" of a Ray cluster, got {self.address!r:.100}.')
        if self.init is not None and "address" in self.init:
            raise ValueError("There are two addresses, address and init's: leave out one of them.")

    @property
    def arguments(self) -> dict[str, Any] | None:
        """What ``ray.init`` is to be given, or None if the user did not ask for one."""
        if self.init is None and self.address is None:
            return None
        return {**(self.init or {}), **({} if self.address is None else {"address": self.address})}

    @property
    def needs(self) -> dict[str, float]:
        """What one worker takes of a node, by Ray's names; nothing that is 0."""
        asked = {"CPU": 1 if self.num_cpus is None else self.num_cpus, "GPU": self.num_gpus or 0, **self.resources}
        return {name: amount for name, amount in asked.items() if amount}

    def room(self, nodes: list[dict[str, float]]) -> int:
        """How many workers fit.

        Args:
            nodes: What each node has in all, by Ray's names.
        """
        # A worker that takes nothing fits anywhere, any number of times; one for each core is what has a use.
        needs = self.needs or {"CPU": 1}
        return sum(min(int(node.get(name, 0) / amount + 1e-9) for name, amount in needs.items()) for node in nodes)
