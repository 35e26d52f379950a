"""Which task came of which: the last tasks of a run, for ``graph.story``."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from celestialflow_core._driver.stage import Stage
from celestialflow_core._engine.journal import Journal
from celestialflow_core._engine.transitions import Event
from celestialflow_core._keys import key_of
from celestialflow_core._text import cut

__all__ = ["Lineage"]

REMEMBERED = 16_384  # tasks
SHOWN = 200  # lines of a story
WORDS = {
    Event.ADMIT: "waits",
    Event.SUBMIT: "running",
    Event.WAKE: "waits",
    Event.RETRY: "waits for a retry",
    Event.SUCCEED: "success",
    Event.FAIL: "error",
    Event.DUPLICATE: "duplicate",
    Event.RESTORE: "restored",
    Event.CANCEL: "cancelled",
}


class Lineage:
    """Remembers batches of tasks, with their parents, until they are more than `REMEMBERED`.

    Of the tasks themselves only a fingerprint is kept, since they may be large.
    """

    def __init__(self) -> None:
        self._batches: deque[tuple[str, Sequence[int], Sequence[int | None], Sequence[int | None]]] = deque()
        self._journals: dict[str, Journal] = {}
        self._held = 0
        self.complete = True
        """False once something has been forgotten."""

    def add(self, stage: Stage, ids: Sequence[int], tasks: Sequence[Any], kin: Sequence[Any] | None) -> None:
        """Remember new tasks of *stage*, and where they came from; None: from a source."""
        self._journals[stage.name] = stage.engine.journal
        if kin is None:
            self._batches.append((stage.name, ids, (), _fingerprints(tasks)))
        else:  # the rest of what is known of a parent leads to its family, which would stay in memory
            parents = kin if type(kin[0]) is int else list(map(_parent, kin))
            self._batches.append((stage.name, ids, parents, ()))
        self._held += len(ids)
        while self._held > REMEMBERED and len(self._batches) > 1:
            self._held -= len(self._batches.popleft()[1])
            self.complete = False

    def story(self, task: Any) -> str:
        """The family tree of *task*, a task of a source, a line a task."""
        stage_of: dict[int, str] = {}
        children: dict[int | None, list[int]] = {}
        wanted = _fingerprint(task)
        found: list[int] = []
        for stage, ids, parents, fingerprints in list(self._batches):
            stage_of.update(dict.fromkeys(ids, stage))
            for id, parent in zip(ids, parents, strict=False):
                children.setdefault(parent, []).append(id)
            found += [id for id, other in zip(ids, fingerprints, strict=False) if other == wanted is not None]
        journals = list(self._journals.values())  # the run may add one
        state = {id: word for journal in journals for id, word in _states(journal)}
        lines: list[str] = []
        todo = [(id, 0) for id in reversed(found)]
        while todo and len(lines) < SHOWN:
            id, depth = todo.pop()
            of = f" of {cut(task)}" if depth == 0 else ""
            lines.append(f"{'  ' * depth}{stage_of[id]} {id}{of}: {state.get(id, 'settled')}")
            todo += [(child, depth + 1) for child in reversed(children.get(id, []))]
        if todo:
            lines.append(f"(and more: only the first {SHOWN} are shown)")
        if not lines:
            lines.append(f"{cut(task)} is no task of a source that is remembered.")
        if not self.complete:
            lines.append(f"(only the last {REMEMBERED} tasks of a run are remembered)")
        return "\n".join(lines)


def _fingerprints(tasks: Sequence[Any]) -> Sequence[int | None]:
    if set(map(type, tasks)) == {int}:
        return tasks
    return list(map(_fingerprint, tasks))


def _fingerprint(task: Any) -> int | None:
    """What a task is found by: its hash, or that of its digest; None for what has neither.

    A number is its own, for -1 has the hash of -2, and 2**61 - 1 that of 0.
    """
    try:
        if isinstance(task, int) or (isinstance(task, float) and task.is_integer()):
            return int(task)
        return hash(task)
    except Exception:
        pass  # it cannot be hashed, or not without its digest
    try:
        return hash(key_of(task))
    except Exception:
        return None


def _parent(kin: Any) -> int | None:
    """Of the parent's id alone, or of it with more; None for what has no parent."""
    parent = kin[0] if isinstance(kin, tuple) else kin
    return parent if isinstance(parent, int) else None


def _states(journal: Journal) -> Iterator[tuple[int, str]]:
    for event, _, ids in journal:
        for id in ids:
            yield id, WORDS[event]
