"""A result of which many tasks are made (``each=True``), one after the other, as they are wanted."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Any

from celestialflow_core._driver.source import is_in_memory
from celestialflow_core._driver.user_code import call

if TYPE_CHECKING:
    from celestialflow_core._driver.load import Load
    from celestialflow_core.graph._family import FamilyTree, Member

__all__ = ["Branch", "Spring", "branches", "open_iterator"]

PATIENCE = 0.001  # seconds that an iterator which runs the user's code may keep the run at a time


def open_iterator(result: Any) -> Iterator[Any]:
    """An iterator over *result*.

    Raises:
        TypeError: It is a str or bytes, or not iterable.
        BaseException: Whatever its ``__iter__`` raises.
    """
    can_be_walked = hasattr(type(result), "__iter__") or hasattr(type(result), "__getitem__")
    if isinstance(result, str | bytes | bytearray) or not can_be_walked:
        raise TypeError(
            f"each=True makes a task of each item of a result, but this result is one {type(result).__name__}. Return "
            f"a list, or connect without each."
        )
    iterator: Iterator[Any] = call(iter, result)
    return iterator


class Branch:
    """One iterator of which several edges each get all items: what one of them has not taken yet waits for it.

    Unlike ``itertools.tee`` it counts what waits, so that the fastest edge does not fill the memory for the slowest.
    """

    __slots__ = ("_iterator", "_load", "_mine", "_others")

    def __init__(self, iterator: Iterator[Any], mine: deque[Any], others: Sequence[deque[Any]], load: Load) -> None:
        self._iterator = iterator
        self._mine = mine
        self._others = others
        self._load = load

    @property
    def ahead(self) -> bool:
        """True if another has more items before it than this one."""
        mine = len(self._mine)
        return any(len(queue) > mine for queue in self._others)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self._mine:
            self._load.waiting -= 1
            return self._mine.popleft()
        item = next(self._iterator)
        for queue in self._others:
            queue.append(item)
        self._load.waiting += len(self._others)
        return item


def branches(iterator: Iterator[Any], number: int, load: Load) -> list[Branch]:
    """So many ways to go through *iterator*; *load* is told of what waits."""
    queues: list[deque[Any]] = [deque() for _ in range(number)]
    return [Branch(iterator, queue, [other for other in queues if other is not queue], load) for queue in queues]


class Spring:
    """What is left of one result.

    Args:
        iterator: Over its items.
        value: The result.
        id, root: The task whose result it is, and the task of the source from which that came.
        family, member: Where its items belong, and their parent there.

    Attributes:
        taken: How many items have been taken.
        dry: True when there are no more.
        error: What the iterator raised, or None.
        interrupt: The KeyboardInterrupt that came out of it, or None.
    """

    __slots__ = (
        *("_in_memory", "_iterator", "dry", "error", "family", "id", "interrupt", "member", "root", "taken", "value"),
    )

    def __init__(
        self, iterator: Iterator[Any], value: Any, id: int, root: int, family: FamilyTree | None, member: Member | None
    ) -> None:
        self._iterator = iterator
        self._in_memory = is_in_memory(iterator)
        self.value = value
        self.id = id
        self.root = root
        self.family = family
        self.member = member
        self.taken = 0
        self.dry = False
        self.error: BaseException | None = None
        self.interrupt: KeyboardInterrupt | None = None

    @property
    def ahead(self) -> bool:
        """True if its iterator is shared, and another edge is not as far with it as this one."""
        return isinstance(self._iterator, Branch) and self._iterator.ahead

    def take(self, most: int) -> list[Any]:
        """Up to *most* items; fewer where the iterator takes its time, or ends."""
        items: list[Any] = []
        try:
            if self._in_memory:
                items.extend(islice(self._iterator, most))
                self.dry = len(items) < most
            else:
                deadline = monotonic() + PATIENCE
                while len(items) < most and not self.dry:
                    before = len(items)
                    call(items.extend, islice(self._iterator, 1))
                    self.dry = len(items) == before
                    if monotonic() > deadline:
                        break
        except KeyboardInterrupt as error:
            self.interrupt = error
            self.dry = True
        except BaseException as error:
            self.error = error
            self.dry = True
        self.taken += len(items)
        return items
