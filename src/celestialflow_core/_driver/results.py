"""The dict of results that a manager gives out, also when tasks cannot be keys of a dict."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, Mapping, Sequence
from typing import Any

from celestialflow_core._keys import IdentityKey, key_of

__all__ = ["Results", "TaskDict"]


class TaskDict(dict[Any, Any]):
    """A dict whose keys may be lists, dicts, arrays and other unhashable tasks.

    Such a task is found by an equal one, and iteration gives the task itself. It is a dict inside, in which the key
    of an unhashable task stands for it.
    """

    def __init__(self, items: Mapping[Any, Any] | None = None) -> None:
        super().__init__(items or {})
        self._tasks: dict[Any, Any] = {}

    @property
    def has_stand_ins(self) -> bool:
        """True if some task is not its own key."""
        return bool(self._tasks)

    def __setitem__(self, task: Any, value: Any) -> None:
        try:
            key = key_of(task)
            super().__setitem__(key, value)
        except Exception:  # its own __hash__ or __eq__ raises: it is known by its identity
            key = IdentityKey(task)
            super().__setitem__(key, value)
        if key is not task:
            self._tasks.setdefault(key, task)

    def __getitem__(self, task: Any) -> Any:
        try:
            return super().__getitem__(self._find(task))
        except KeyError:
            raise KeyError(task) from None

    def _find(self, task: Any) -> Any:
        by_identity = IdentityKey(task)
        return by_identity if by_identity in self._tasks else key_of(task)

    def __contains__(self, task: object) -> bool:
        return super().__contains__(self._find(task))

    def __delitem__(self, task: Any) -> None:
        key = self._find(task)
        super().__delitem__(key)
        self._tasks.pop(key, None)

    def pop(self, task: Any, *default: Any) -> Any:
        """Remove *task* and give its value; *default* where it is not there."""
        key = self._find(task)
        self._tasks.pop(key, None)
        return super().pop(key, *default)

    def popitem(self) -> tuple[Any, Any]:
        """Remove the last task, and give it with its value."""
        key, value = super().popitem()
        return self._tasks.pop(key, key), value

    def setdefault(self, task: Any, default: Any = None) -> Any:
        """The value of *task*, which becomes *default* if it has none."""
        if task not in self:
            self[task] = default
        return self[task]

    def update(self, *others: Any, **named: Any) -> None:
        """Take in tasks with their values, as a dict does."""
        for task, value in dict_items(*others, **named):
            self[task] = value

    def clear(self) -> None:
        """Remove all."""
        super().clear()
        self._tasks.clear()

    def get(self, task: Any, default: Any = None) -> Any:
        """The value of *task*, or *default*."""
        return super().get(self._find(task), default)

    def __iter__(self) -> Iterator[Any]:
        tasks = self._tasks
        for key in super().__iter__():
            yield tasks.get(key, key)

    def keys(self) -> KeysView[Any]:  # type: ignore[override]  # dict_keys cannot be made from Python
        """The tasks."""
        return _Keys(self)

    def items(self) -> ItemsView[Any, Any]:  # type: ignore[override]  # dict_items cannot be made from Python
        """The tasks with their values."""
        return _Items(self)

    def pairs(self) -> Iterator[tuple[Any, Any]]:
        """The tasks with their values, one by one."""
        return zip(iter(self), self.values(), strict=True)

    def copy(self) -> TaskDict:
        """A shallow copy."""
        twin = TaskDict()
        dict.update(twin, dict.items(self))
        twin._tasks = dict(self._tasks)
        return twin

    def __eq__(self, other: object) -> bool:
        if isinstance(other, TaskDict):
            return dict.__eq__(self, other)
        return isinstance(other, dict) and not self._tasks and dict.__eq__(self, other)

    __hash__ = None

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{task!r}: {value!r}" for task, value in self.pairs()) + "}"


def dict_items(*others: Any, **named: Any) -> Iterator[tuple[Any, Any]]:
    """The pairs that ``dict.update`` would take from these arguments, whose keys may be unhashable."""
    for other in others:
        if hasattr(other, "keys"):
            for task in other.keys():  # noqa: SIM118  # as dict.update does: it need not be a mapping
                yield task, other[task]
        else:
            yield from other
    yield from named.items()


class _Keys(KeysView[Any]):
    def __repr__(self) -> str:
        return f"task_keys({list(self)!r})"


class _Items(ItemsView[Any, Any]):
    _mapping: TaskDict

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return self._mapping.pairs()

    def __repr__(self) -> str:
        return f"task_items({list(self)!r})"


class Results:
    """Results by task, kept while a run goes on; ``by_task`` may be read at any time.

    Args:
        keep_pairs: Also keep every pair by itself: without the duplicate check equal tasks each have a result, which
            one dict cannot hold.
    """

    __slots__ = ("_pairs", "by_task")

    def __init__(self, keep_pairs: bool) -> None:
        self.by_task: dict[Any, Any] = {}
        self._pairs: list[tuple[Any, Any]] | None = [] if keep_pairs else None

    def add_all(self, tasks: Sequence[Any], values: Sequence[Any]) -> None:
        """Keep one value a task."""
        if self._pairs is not None:
            self._pairs.extend(zip(tasks, values, strict=True))
        try:
            self.by_task.update(zip(tasks, values, strict=True))
        except Exception:  # a task that cannot be a key: unhashable, or its __hash__ or __eq__ raises
            self._add_each(tasks, values)

    def _add_each(self, tasks: Sequence[Any], values: Sequence[Any]) -> None:
        if not isinstance(self.by_task, TaskDict):
            self.by_task = TaskDict(self.by_task)
        for task, value in zip(tasks, values, strict=True):
            self.by_task[task] = value

    def pairs(self) -> list[tuple[Any, Any]]:
        """Every task with its value, in the order in which they settled."""
        return list(self._pairs if self._pairs is not None else self.by_task.items())
