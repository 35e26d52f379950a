"""What the tests of a contract stand on: the executor's factory, a bench for each, and a look for leaks at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from celestialflow_core.executors.interface import AsyncExecutor, Executor
from celestialflow_core.testing._bench import Bench
from celestialflow_core.testing.leaks import Resources

__all__ = ["Suite"]


class Suite:
    """What a subclass says of its executor, and the fixtures that all tests use.

    Attributes:
        patience: Seconds to wait for what must come. Raise it for a system that is slow to start.
        isolated: Whether calls run in processes apart, so that one which ends its process, or changes it, does so to
            nobody else. Set it where that is so, and it is tested.
    """

    patience: float = 60.0
    isolated: bool = False

    def make_executor(self) -> Executor | AsyncExecutor:
        """A new executor, preferably of two workers."""
        raise TypeError(f"{type(self).__name__} must define make_executor(self), which returns a new executor.")

    def warm_up(self) -> None:
        """Called before each test begins to look for leaks: start here what a foreign client keeps for good."""

    def leak_allowance(self, leak: str) -> bool:
        """Whether *leak* is a thing that a foreign client is known to leave, such as "thread 'Dask-Offload_0'".

        Args:
            leak: A line of `Resources.leaks`.
        """
        return False

    @pytest.fixture
    def new_bench(self, tmp_path: Path) -> Iterator[Callable[[], Bench]]:
        """Makes benches, each with an executor of its own; checks in the end that nothing is left of any."""
        self.warm_up()
        before = Resources()
        benches: list[Bench] = []

        def make() -> Bench:
            benches.append(Bench(self.make_executor(), self.patience))
            return benches[-1]

        try:
            yield make
        finally:
            (tmp_path / "release").touch()
            for bench in benches:
                bench.close()
        before.expect_no_leaks(self.leak_allowance)
        for bench in benches:
            assert bench.late == [], "Results were delivered after stop() had returned."

    @pytest.fixture
    def bench(self, new_bench: Callable[[], Bench]) -> Bench:
        """An executor on a bench, not started."""
        return new_bench()

    @staticmethod
    def require(bench: Bench, capability: str) -> None:
        """Skip the test where the executor does not claim *capability*."""
        if capability not in bench.capabilities:
            pytest.skip(f"Does not claim the capability {capability!r}.")
