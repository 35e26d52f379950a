"""What a user says about how two managers are connected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from celestialflow_core.errors import GraphError

__all__ = ["Edge"]


@attrs.frozen(kw_only=True, eq=False)
class Edge:
    """One ``connect``: from one manager to one or more.

    Attributes:
        number: Which edge of its graph it is, from 0.
        source: The manager whose outcomes it takes.
        targets: The managers whose tasks it makes of them.
        each: Make many tasks of one result.
        when: Says which results (with *each*: which of their items) become tasks; None: all.
        route: Says for which of the targets a result (an item) is; None: for all.
        gather: Wait until all that came of a task has settled, and make one task of all that.
        on: "success" or "error": which outcomes it takes.
    """

    number: int
    source: Any
    targets: tuple[Any, ...]
    each: bool = False
    when: Callable[[Any], object] | None = None
    route: Callable[[Any], object] | None = None
    gather: bool = False
    on: str = "success"

    @property
    def label(self) -> str:
        """ "fetch -> parse", for messages."""
        targets = ", ".join(target.name for target in self.targets)
        return f"{self.source.name} -> {targets if len(self.targets) == 1 else f'[{targets}]'}"

    @property
    def kind(self) -> str:
        """What is special about it, in a few words; "" for a plain edge."""
        words = ["error"] if self.on == "error" else []
        words += [word for word in ("each", "gather") if getattr(self, word)]
        words += [f"{word} {_name(call)}" for word in ("when", "route") if (call := getattr(self, word)) is not None]
        return ", ".join(words)

    @property
    def always(self) -> bool:
        """True if every success becomes a task of every target, whatever it is."""
        return self.on == "success" and not self.gather and self.when is None and self.route is None

    def check(self) -> None:
        """Refuse what cannot go together.

        Raises:
            TypeError: An argument is of the wrong kind.
            GraphError: Two arguments contradict each other.
        """
        for name in ("each", "gather"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} must be True or False, got {getattr(self, name)!r}.")
        for name in ("when", "route"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                raise TypeError(f"{name} must be a function of a result, or None, got {value!r}.")
        if self.on not in ("success", "error"):
            raise GraphError(f'Edge {self.label}: on must be "success" or "error", got {self.on!r}.')
        if self.gather and (self.each or self.route is not None or self.on == "error"):
            raise GraphError(
                f"Edge {self.label}: gather=True makes one task of all that came of a task. Leave out each, route and "
                f"on, or put them on an edge of the manager that takes what is gathered."
            )
        if self.on == "error" and (self.each or self.route is not None):
            raise GraphError(
                f'Edge {self.label}: on="error" passes the outcome of a failed task on as it is. Leave out each and '
                f"route; choose among outcomes with when."
            )
        names = [target.name for target in self.targets]
        if len(set(names)) < len(names):
            raise GraphError(f"Edge {self.label}: a manager is there twice. Name each target once.")


def _name(call: Callable[..., Any]) -> str:
    return str(getattr(call, "__name__", type(call).__name__))
