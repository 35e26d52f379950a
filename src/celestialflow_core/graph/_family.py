"""Joins: when all that came of one task has settled, through any depth, it becomes one task.

Every task of a graph that has a gather edge knows the innermost family to which it belongs. A family counts what may
still come of its root: tasks that wait or run, results that have not been taken to their end, families inside it. When
that is nothing, it is complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from celestialflow_core._call import record
from celestialflow_core._keys import key_of
from celestialflow_core._outcome import Outcome
from celestialflow_core._text import cut

if TYPE_CHECKING:
    from celestialflow_core.graph._way import Way

__all__ = ["Family", "FamilyTree", "Index", "Member", "is_fresh", "is_stale", "key_of_outcome"]

Index: TypeAlias = tuple[int, int, int]
"""Which child: the number of the edge, which of its targets, which item of the result."""


@record
class Family:
    """All that came of one task: the task that a ``gather=True`` edge makes.

    Attributes:
        root: The outcome of the gathered manager's task.
        leaves: The outcomes below it that no edge took, failed and duplicate ones too, in an order that does not depend
            on timing: that of the edges, and of the items in a result.
        fresh: False in a run that resumes another, if all of it was restored.
    """

    root: Outcome[Any, Any]
    leaves: tuple[Outcome[Any, Any], ...]
    fresh: bool = True

    def __repr__(self) -> str:
        count = len(self.leaves)
        return f"<Family of {cut(self.root.task)}: {count} {'leaf' if count == 1 else 'leaves'}>"


def key_of_outcome(task: Any) -> Any:
    """The key of a task that a graph made: of an outcome its stage and key, of a family its root's; or None."""
    if isinstance(task, Family):
        return ("family", task.root.stage, _key_inside(task.root.key))
    if isinstance(task, Outcome):
        return ("outcome", task.stage, _key_inside(task.key))
    return None


def is_stale(task: Any) -> bool:
    """True for an outcome or a family in which anything has been computed anew, in a run that resumes another."""
    return task.fresh if isinstance(task, Family) else isinstance(task, Outcome) and is_fresh(task)


def is_fresh(outcome: Outcome[Any, Any]) -> bool:
    """True if *outcome* was computed in this run."""
    return outcome.status not in ("restored", "duplicate")


def _key_inside(key: Any) -> Any:
    """Of a task that nobody asked for its key (its stage has the duplicate check off) the key is the task itself."""
    made = key_of_outcome(key)
    return key_of(key if made is None else made)


class Member:
    """The place of one task in a family."""

    __slots__ = ("family", "index", "parent")

    def __init__(self, family: FamilyTree, parent: Member | None, index: Index) -> None:
        self.family = family
        self.parent = parent
        """None for a child of the root."""
        self.index = index


class FamilyTree:
    """A family that is not complete.

    Attributes:
        root: The outcome of its root.
        place: The root's place in the family around it, or None.
        gathers: The edges along which it goes when it is complete.
        pending: What may still bring something: tasks, results, families; and the root, until its children are known.
        leaves: What has come of it so far, with its places.
        fresh: Whether anything in it was computed in this run.
    """

    __slots__ = ("fresh", "gathers", "leaves", "pending", "place", "root")

    def __init__(self, root: Outcome[Any, Any], place: Member | None, gathers: Sequence[Way]) -> None:
        self.root = root
        self.place = place
        self.gathers = gathers
        self.pending = 1
        self.fresh = is_fresh(root)
        self.leaves: list[tuple[Member, Outcome[Any, Any]]] = []

    def settled(self, member: Member, outcome: Outcome[Any, Any], taken: bool) -> None:
        """Note what became of one of its tasks; what no edge has *taken* is a leaf."""
        self.fresh = self.fresh or is_fresh(outcome)
        if not taken:
            self.leaves.append((member, outcome))

    def complete(self) -> Family:
        """The family, its leaves in the order of their path of indices from the root."""
        outcome_of = {id(member): outcome for member, outcome in self.leaves}
        children: dict[int | None, list[Member]] = {}
        known: set[int] = set()
        for member, _ in self.leaves:
            at: Member | None = member
            while at is not None and id(at) not in known:
                known.add(id(at))
                children.setdefault(None if at.parent is None else id(at.parent), []).append(at)
                at = at.parent
        ordered: list[Outcome[Any, Any]] = []
        todo = _reversed(children.get(None, []))
        while todo:
            member = todo.pop()
            outcome = outcome_of.get(id(member))
            if outcome is not None:
                ordered.append(outcome)
            todo += _reversed(children.get(id(member), []))
        return Family(self.root, tuple(ordered), self.fresh)


def _reversed(members: list[Member]) -> list[Member]:
    return sorted(members, key=lambda member: member.index, reverse=True)
