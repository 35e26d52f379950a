"""The three ways in which a class that cannot be imported crosses: by value, by name, and back home.

Written against cloudpickle's reducers (a class that it sends by value is reduced to six parts, the last of which sets
its state) and its class tracker, which are the same from 3.0 on; ``tests/executors/process/test_identity.py`` fails
where a new version differs.
"""

from __future__ import annotations

import types
from io import BytesIO
from typing import Any

from cloudpickle import cloudpickle as _module

from celestialflow_core.executors.process.classes import is_settled, lookup_class, settle_class

__all__ = ["ByName", "ByValue", "Homeward"]

cloudpickle: Any = _module  # it has no types


def _tracker_id(cls: type) -> str:
    name: str = cloudpickle._get_or_create_tracker_id(cls)
    return name


class _Reducing(cloudpickle.Pickler):  # type: ignore[misc]  # its base is Any
    """What the two picklers of the parent share: which things go by value."""

    def __init__(self, file: BytesIO, by_value: tuple[str, ...] = ()) -> None:
        super().__init__(file, protocol=5)
        self._by_value = by_value

    def _reduced(self, obj: Any) -> Any:
        if isinstance(obj, types.CodeType):
            # cloudpickle calls every file "<dynamic-code>"; a traceback should say where the user's code is.
            make, args = cloudpickle._code_reduce(obj)
            return make, tuple(obj.co_filename if arg == "<dynamic-code>" else arg for arg in args)
        if self._by_value and getattr(obj, "__module__", None) in self._by_value:
            if isinstance(obj, types.FunctionType):
                return self._dynamic_function_reduce(obj)
            if isinstance(obj, type):
                return cloudpickle._dynamic_class_reduce(obj)
        return super().reducer_override(obj)


def _is_class_by_value(obj: Any, reduced: Any) -> bool:
    return isinstance(obj, type) and type(reduced) is tuple and len(reduced) == 6


class ByValue(_Reducing):
    """Sends classes themselves; the receiver fills each in only once."""

    def __init__(self, file: BytesIO, by_value: tuple[str, ...] = ()) -> None:
        super().__init__(file, by_value)
        self.seen: set[str] = set()

    def reducer_override(self, obj: Any) -> Any:
        reduced = self._reduced(obj)
        if _is_class_by_value(obj, reduced):
            self.seen.add(_tracker_id(obj))
            return (*reduced[:5], settle_class)
        return reduced


class ByName(_Reducing):
    """Sends the ids of classes, and collects those that the receiver does not know yet."""

    def __init__(self, file: BytesIO, by_value: tuple[str, ...], known: set[str]) -> None:
        super().__init__(file, by_value)
        self._known = known
        self.missing: dict[str, type] = {}

    def reducer_override(self, obj: Any) -> Any:
        reduced = self._reduced(obj)
        if _is_class_by_value(obj, reduced):
            tracker_id = _tracker_id(obj)
            if tracker_id not in self._known:
                self.missing[tracker_id] = obj
            return lookup_class, (tracker_id,)
        return reduced


class Homeward(_Reducing):
    """The worker's: classes of the parent by their id, classes born here by value."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, type) and is_settled(obj):
            return lookup_class, (_tracker_id(obj),)
        reduced = self._reduced(obj)
        if _is_class_by_value(obj, reduced):
            return (*reduced[:5], settle_class)
        return reduced
