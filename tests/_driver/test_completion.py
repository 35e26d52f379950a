"""The completion queue: no delivery is lost, and no wait is endless while there is one."""

from __future__ import annotations

import asyncio
import threading
from time import monotonic

import pytest

from celestialflow_core._driver import completion
from celestialflow_core._driver.aio.completion import AsyncCompletions
from celestialflow_core._driver.completion import Completions
from celestialflow_core.testing import wait_until

pytestmark = pytest.mark.pure

PRODUCERS, EACH = 4, 2000


@pytest.fixture(autouse=True)
def no_ceiling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every wait of the driver ends after a second, for the sake of signals; here that would hide a lost wake-up."""
    monkeypatch.setattr(completion, "LONGEST", 3600.0)


def produce(completions: Completions[tuple[int, int]]) -> list[threading.Thread]:
    """Threads that deliver at once, each in its order."""

    def deliver(producer: int) -> None:
        for number in range(EACH):
            completions.put((producer, number))

    threads = [threading.Thread(target=deliver, args=(producer,)) for producer in range(PRODUCERS)]
    for thread in threads:
        thread.start()
    return threads


def check(seen: list[tuple[int, int]]) -> None:
    """Everything came, and what one thread delivered came in its order."""
    assert len(seen) == PRODUCERS * EACH
    for producer in range(PRODUCERS):
        assert [number for who, number in seen if who == producer] == list(range(EACH))


def test_no_delivery_is_missed_by_a_driver_that_sleeps() -> None:
    """The driver waits without a timeout after each look; a lost wake-up would hang it."""
    completions: Completions[tuple[int, int]] = Completions()
    threads = produce(completions)
    seen: list[tuple[int, int]] = []
    while len(seen) < PRODUCERS * EACH:
        completions.wait(None)
        while completions.items:
            seen.append(completions.items.popleft())
    for thread in threads:
        thread.join()
    check(seen)


def test_no_delivery_is_missed_by_a_driver_in_a_loop() -> None:
    """The same for the asynchronous one."""

    async def main() -> list[tuple[int, int]]:
        completions: AsyncCompletions[tuple[int, int]] = AsyncCompletions()
        threads = produce(completions)
        seen: list[tuple[int, int]] = []
        while len(seen) < PRODUCERS * EACH:
            await completions.wait_async(None)
            while completions.items:
                seen.append(completions.items.popleft())
        for thread in threads:
            thread.join()
        return seen

    check(asyncio.run(main()))


@pytest.mark.parametrize("timeout", [0.0, 0.02])
def test_wait_ends_at_its_timeout(timeout: float) -> None:
    """With nothing to take, it returns when the time is over."""
    completions: Completions[int] = Completions()
    begin = monotonic()
    completions.wait(timeout)
    assert timeout <= monotonic() - begin < 10
    asyncio.run(wait_async(timeout))


async def wait_async(timeout: float) -> None:
    """The same in a loop."""
    begin = monotonic()
    await AsyncCompletions[int]().wait_async(timeout)
    assert timeout * 0.9 <= monotonic() - begin < 10


def test_wake_before_the_wait_ends_it() -> None:
    """A wake that comes a moment too early is not lost."""
    completions: Completions[int] = Completions()
    completions.wake()
    completions.wait(None)


def test_wait_longer_than_the_clock_can_count_is_a_wait() -> None:
    """A retry in a thousand years is no OverflowError."""
    completions: Completions[int] = Completions()
    waiting = threading.Thread(target=completions.wait, args=(1e18,))
    waiting.start()
    wait_until(lambda: completions._asleep)
    completions.put(1)
    waiting.join(30)
    assert not waiting.is_alive()


def test_delivery_after_the_end_of_the_loop_is_dropped() -> None:
    """A thread that was left behind may deliver late; it must not fail for it."""

    async def main() -> AsyncCompletions[int]:
        completions: AsyncCompletions[int] = AsyncCompletions()
        completions._asleep = True
        return completions

    completions = asyncio.run(main())
    errors: list[BaseException] = []

    def late() -> None:
        try:
            completions.put(1)
            completions.wake()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=late)
    thread.start()
    thread.join()
    assert errors == []
