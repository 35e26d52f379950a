"""Errors: whatever a call raises is its own, and every neighbour has its value."""

from __future__ import annotations

import builtins

import pytest

import celestialflow_core.testing._tasks as tasks
from celestialflow_core.errors import RemoteError
from celestialflow_core.testing._bench import Bench
from celestialflow_core.testing._contract.suite import Suite

__all__ = ["ErrorTests"]


class ErrorTests(Suite):
    """What comes of calls that raise."""

    @pytest.mark.parametrize("kind", tasks.KINDS)
    def test_failing_call_gets_its_own_error(self, bench: Bench, kind: str) -> None:
        """Whatever a call raises is delivered for that call, and its neighbours get their values."""
        if kind == "KeyboardInterrupt" and self._is_inline(bench):
            pytest.skip("Cannot be told from a Ctrl-C in the caller's thread.")
        bad = {0, 7, 19}
        bench.start(tasks.misbehave)
        bench.feed([(kind if number in bad else "", number) for number in range(20)])
        results = bench.by_id()
        expected = tasks.KINDS[kind][1]
        for number, result in results.items():
            if number not in bad:
                assert (result.value, result.error) == (2 * number, None)
                continue
            error = result.error
            if bench.is_async and expected is StopIteration:
                assert isinstance(error, RuntimeError)  # Python's own rule for coroutines
            elif isinstance(error, RemoteError):
                assert error.type_name.rpartition(".")[2] == expected.__name__
                assert isinstance(str(error), str)
            else:
                assert isinstance(error, expected)
        assert len(results) == 20

    def test_error_carries_a_traceback(self, bench: Bench) -> None:
        """Where it was raised can be seen: on the exception itself, or as text beside it."""
        bench.start(tasks.misbehave)
        bench.feed([("exception", 1)])
        (result,) = bench.results
        assert result.error is not None
        assert result.error.__traceback__ is not None or "in misbehave" in (result.traceback or "")

    def test_every_builtin_exception_is_the_error_of_its_call(self, bench: Bench) -> None:
        """Each class of `builtins`, raised by one call: its error is of that class, and nobody else has any."""
        names = [name for name in tasks.BUILTIN_EXCEPTIONS if name != "KeyboardInterrupt" or not self._is_inline(bench)]
        bench.start(tasks.raise_builtin)
        bench.feed([(name,) for one in names for name in (one, "")])
        results = bench.by_id()
        for number, name in enumerate(names):
            good, error = results[2 * number + 1], results[2 * number].error
            assert (good.value, good.error) == ("fine", None)
            if bench.is_async and name == "StopIteration":
                name = "RuntimeError"  # Python's own rule for coroutines
            assert type(error) is getattr(builtins, name), f"{name} was raised, {error!r} was delivered."

    def test_large_error_is_delivered(self, bench: Bench) -> None:
        """A message of 5 MB blocks nobody, and arrives, at least by its beginning."""
        bench.start(tasks.misbehave)
        bench.feed([("message of 5 MB", 0), ("", 1), ("message of 5 MB", 2), ("", 3)])
        results = bench.by_id()
        assert [results[number].value for number in (1, 3)] == [2, 6]
        for number in (0, 2):
            assert "message" in str(results[number].error)[:1000]

    @staticmethod
    def _is_inline(bench: Bench) -> bool:
        """Whether a KeyboardInterrupt of a call cannot be told from a Ctrl-C in the caller's thread."""
        return bench.inline or bench.is_async
