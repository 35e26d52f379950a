"""What makes two tasks the same task inside a run.

A hashable task is its own key, with the equality of a dict, so that 1, 1.0 and True are one task there. An unhashable
one is known by its canonical digest (`_digest`, loaded when the first one comes), and what has neither by its identity.
"""

from __future__ import annotations

from typing import Any

__all__ = ["DigestKey", "IdentityKey", "key_of"]


class DigestKey:
    """The key, within a run, of a task that cannot be hashed. Equal to no task, only to another such key."""

    __slots__ = ("digest",)

    def __init__(self, digest: str) -> None:
        self.digest = digest

    def __eq__(self, other: object) -> bool:
        return type(other) is DigestKey and other.digest == self.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"<key {self.digest}>"


class IdentityKey:
    """The key of a task that has neither a hash nor a digest: the object itself, which it keeps alive."""

    __slots__ = ("task",)

    def __init__(self, task: object) -> None:
        self.task = task

    def __eq__(self, other: object) -> bool:
        return type(other) is IdentityKey and other.task is self.task

    def __hash__(self) -> int:
        return id(self.task)

    def __repr__(self) -> str:
        return f"<key of the {type(self.task).__qualname__} at {id(self.task):#x}>"


def key_of(task: Any) -> Any:
    """What identifies *task* within a run: itself, its digest where it cannot be hashed, or else its identity.

    Raises whatever ``__hash__`` raises, but for the TypeError of an unhashable type. The key's ``__eq__`` is the
    task's own, so a dict lookup with it may raise too.
    """
    try:
        hash(task)
    except TypeError:
        pass
    else:
        return task
    from celestialflow_core._digest import NoDigest, digest

    try:
        return DigestKey(digest(task))
    except NoDigest:
        return IdentityKey(task)
