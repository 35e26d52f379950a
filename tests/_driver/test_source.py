"""The user's iterable, pulled no further than the run wants."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest

from celestialflow_core._driver.source import Source, check_iterable

pytestmark = pytest.mark.pure

CONTAINERS: list[Any] = [
    [1, 2, 3],
    (1, 2, 3),
    {1: "a", 2: "b", 3: "c"},
    {1: 1, 2: 2, 3: 3}.values(),
    {1, 2, 3},
    frozenset({1, 2, 3}),
    range(1, 4),
    range(2**80, 2**80 + 3),
    deque([1, 2, 3]),
]


@pytest.mark.parametrize("tasks", CONTAINERS, ids=lambda tasks: type(tasks).__name__)
def test_container_in_memory_is_pulled_in_chunks(tasks: Any) -> None:
    """As many as are wanted at a time, and their number is known before."""
    source = Source(tasks, None)
    assert source.total == 3
    assert len(source.take(2)) == 2
    assert source.exhausted is False
    assert len(source.take(2)) == 1
    assert bool(source.exhausted) is True
    assert source.take(5) == []


def test_anything_else_is_pulled_one_by_one() -> None:
    """Since each pull may take its time."""
    pulled: list[int] = []

    def tasks() -> Iterator[int]:
        for task in range(3):
            pulled.append(task)
            yield task

    source = Source(tasks(), None)
    assert source.total is None
    assert source.take(100) == [0]
    assert pulled == [0]
    assert [source.take(100) for _ in range(3)] == [[1], [2], []]
    assert source.exhausted


def test_total_is_what_the_user_says_or_what_the_iterable_knows() -> None:
    """Also of an iterator that knows what is left; one whose hint raises is asked no more."""

    class Shy:
        def __iter__(self) -> Iterator[int]:
            return iter(())

        def __length_hint__(self) -> int:
            raise ValueError

    assert Source([1, 2], 7).total == 7
    assert Source(iter([1, 2]), None).total == 2
    assert Source(Shy(), None).total is None


def test_error_is_kept_and_ends_the_source() -> None:
    """What came before it in the same chunk is not lost."""
    tasks = {1: 1, 2: 2}
    source = Source(tasks, None)
    assert source.take(1) == [1]
    tasks[3] = 3
    assert source.take(5) == []
    assert isinstance(source.error, RuntimeError)
    assert source.exhausted


@pytest.mark.parametrize("error", [ValueError, SystemExit, GeneratorExit])
def test_whatever_the_iterable_raises_is_kept(error: type[BaseException]) -> None:
    """A KeyboardInterrupt is kept apart, since it ends more than the source."""

    def tasks(error: type[BaseException]) -> Iterator[int]:
        yield 1
        raise error

    source = Source(tasks(error), None)
    assert source.take(5) == [1]
    assert source.take(5) == []
    assert type(source.error) is error
    interrupted = Source(tasks(KeyboardInterrupt), None)
    interrupted.take(1)
    assert interrupted.take(1) == []
    assert isinstance(interrupted.interrupt, KeyboardInterrupt)
    assert interrupted.error is None
    assert interrupted.exhausted


@pytest.mark.parametrize("tasks", ["a", b"a", 3, None, len])
def test_what_is_no_iterable_of_tasks_is_refused(tasks: Any) -> None:
    """A str, too."""
    with pytest.raises(TypeError, match="tasks must be an iterable of tasks"):
        check_iterable(tasks)
