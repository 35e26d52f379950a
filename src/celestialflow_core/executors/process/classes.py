"""Classes that cannot be imported: how both sides come to mean the same class.

Referred to from inside pickles by name, so the names here are part of the conversation between parent and worker.
"""

from __future__ import annotations

import pickle
import weakref
from collections.abc import MutableSet
from typing import Any

__all__ = ["hold_classes", "is_settled", "lookup_class", "settle_class"]

_settled: MutableSet[type] = weakref.WeakSet()


def hold_classes() -> None:
    """Keep every class that arrives from now on: in a worker, only its id may come the next time."""
    global _settled
    _settled = set(_settled)


def is_settled(cls: type) -> bool:
    """Whether *cls* arrived from the other side."""
    return cls in _settled


def settle_class(cls: type, state: Any) -> type:
    """Fill in a class that arrived by value; a class that is complete already is left as it is."""
    if cls in _settled:
        return cls
    _settled.add(cls)
    _cloudpickle()._class_setstate(cls, state)
    return cls


def lookup_class(tracker_id: str) -> type:
    """The class that both sides know by this id."""
    cls: type | None = _cloudpickle()._DYNAMIC_CLASS_TRACKER_BY_ID.get(tracker_id)
    if cls is None:
        raise pickle.UnpicklingError(
            "its class was defined at run time and does not exist any more on this side; keep a reference to the class"
        )
    return cls


def _cloudpickle() -> Any:
    from cloudpickle import cloudpickle

    return cloudpickle
