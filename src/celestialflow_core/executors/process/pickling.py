"""Objects to bytes and back, across the process boundary, with the identity of classes kept.

Plain pickle does nearly everything, and is fast. It cannot do what lives in ``__main__``, a notebook or a function:
there cloudpickle sends the thing itself. Sent naively, a class would be a new class in the worker, its instances would
come back as instances of a third one, and ``isinstance`` and ``retry_exceptions`` would fail in the parent. So:

    parent -> worker   a class is sent once to each worker, ahead of the first frame that needs it; frames then hold
                       only its id (cloudpickle's own tracker id), and its state is set once, on arrival
    worker -> parent   a class that came from the parent goes back as that id, and the parent finds its original; a
                       class born in the worker goes by value

`Outgoing` is one direction of one conversation: it knows which classes the other side knows.
"""

from __future__ import annotations

import functools
import io
import pickle
import sys
from collections.abc import Collection, Iterable
from typing import Any

__all__ = ["ATOMS", "Outgoing", "Shipped", "decode", "encode_from_worker", "ship"]

ATOMS = frozenset({int, float, complex, str, bytes, bool, type(None)})
"""Types whose objects are immutable, hold nothing else, and run no code of the user's when pickled."""

_PROTOCOL = 5
decode = pickle.loads


class Shipped:
    """A function as bytes, and the ids of the classes that travel inside them."""

    __slots__ = ("by_value", "classes", "data")

    def __init__(self, data: bytes, classes: frozenset[str], by_value: tuple[str, ...]) -> None:
        self.data = data
        self.classes = classes
        self.by_value = by_value


def ship(thing: object) -> Shipped:
    """Pickle *thing*, a function, by reference where a worker can import its module, else by value.

    Raises:
        Exception: Whatever the pickler raises.
    """
    by_value = _modules_out_of_reach(thing)
    if not by_value:
        data = _plain(thing, ())
        if data is not None:
            return Shipped(data, frozenset(), ())
    pickler = _cloud().ByValue(buffer := io.BytesIO(), by_value)
    pickler.dump(thing)
    return Shipped(buffer.getvalue(), frozenset(pickler.seen), by_value)


class Outgoing:
    """Pickles what goes to one other side.

    Args:
        known: Ids of classes that the other side has.
        by_value: Names of modules that the other side cannot import.
    """

    def __init__(self, known: Iterable[str] = (), by_value: tuple[str, ...] = ()) -> None:
        self._known = set(known)
        self._by_value = by_value
        self._needles = tuple(name.encode() for name in by_value)

    def encode(self, value: object) -> tuple[bytes, bytes | None]:
        """Pickle *value*: its frame, and the definitions of classes that have to arrive before it, if any.

        Raises:
            Exception: Whatever the pickler raises; nothing is noted as sent then.
        """
        data = _plain(value, self._needles)
        if data is not None:
            return data, None
        cloud = _cloud()
        pickler = cloud.ByName(buffer := io.BytesIO(), self._by_value, self._known)
        pickler.dump(value)
        if not pickler.missing:
            return buffer.getvalue(), None
        definer = cloud.ByValue(definitions := io.BytesIO(), self._by_value)
        definer.dump(list(pickler.missing.values()))
        self._known |= definer.seen
        return buffer.getvalue(), definitions.getvalue()


def encode_from_worker(value: object) -> bytes:
    """Pickle *value* for the parent."""
    data = _plain(value, ())
    if data is None:
        _cloud().Homeward(buffer := io.BytesIO()).dump(value)
        data = buffer.getvalue()
    return data


def _plain(value: object, needles: Collection[bytes]) -> bytes | None:
    """*value* by plain pickle, or None where that fails or would refer to what the other side cannot import."""
    # cloudpickle.register_pickle_by_value is the user's word that a module cannot be imported over there.
    loaded = sys.modules.get("cloudpickle.cloudpickle")
    if loaded is not None and loaded._PICKLE_BY_VALUE_MODULES:
        return None
    try:
        data = pickle.dumps(value, _PROTOCOL)
    except Exception:  # cloudpickle is asked next, and its error is the one that is reported
        return None
    if b"__main__" in data:
        return None
    for needle in needles:
        if needle in data:
            return None
    return data


def _modules_out_of_reach(thing: object) -> tuple[str, ...]:
    """The module of the function *thing*, if it was loaded from a file but a fresh interpreter would not find it."""
    while isinstance(thing, functools.partial):
        thing = thing.func
    thing = getattr(thing, "__func__", thing)
    name = getattr(thing, "__module__", None) or type(thing).__module__
    module = sys.modules.get(name) if isinstance(name, str) else None
    if module is None or name == "__main__" or getattr(module, "__file__", None) is None:
        return ()  # built in, or made at run time: then the worker says that it cannot be imported
    paths: Any = None
    steps = name.split(".")
    for depth in range(len(steps)):
        found = _find(".".join(steps[: depth + 1]), paths)
        if found is None:
            return (name,)
        paths = found.submodule_search_locations
    return ()


def _find(name: str, paths: Any) -> Any:
    """The spec of module *name* as the import system finds it now, whether or not it is loaded."""
    for finder in sys.meta_path:
        found = finder.find_spec(name, paths)
        if found is not None:
            return found
    return None


@functools.cache
def _cloud() -> Any:
    """The picklers, which need cloudpickle and so are made on first use."""
    import celestialflow_core.executors.process._picklers as picklers

    return picklers
