"""Hooks as plain callables keep the order and the meaning that pluggy gives them."""

from __future__ import annotations

import types
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from celestialflow_core.plugins.implementations import SPECS, WRAPPABLE
from celestialflow_core.plugins.markers import hookimpl
from celestialflow_core.plugins.registry import Registry
from celestialflow_core.plugins.resolve import Hooks, implementations, resolve

pytestmark = pytest.mark.pure


def plugin(hook: str, function: Any, **options: Any) -> Any:
    return types.SimpleNamespace(**{hook: hookimpl(function, **options)})


def with_plugins(*plugins: Any) -> Registry:
    return Registry.load([], {}).with_plugins(plugins)


def test_hooks_are_those_that_a_run_calls() -> None:
    """There is a field for every hook except those that are not part of a run."""
    declaring = {"executor_factories", "register_commands", "sink_factories"}
    assert set(SPECS) - declaring == {field.name for field in attrs.fields(Hooks)}


def test_hooks_that_nobody_implements_are_empty() -> None:
    """A hook without an implementation is an empty tuple: it costs nothing."""
    assert {()} == set(attrs.astuple(resolve(Registry.load([], {})), recurse=False))


def test_other_hooks_stay_empty_beside_one_that_is_implemented() -> None:
    """One implementation does not make the others cost something."""
    hooks = resolve(with_plugins(plugin("on_error", lambda outcome: outcome)))

    assert [field.name for field in attrs.fields(Hooks) if getattr(hooks, field.name)] == ["on_error"]
    assert hooks.on_error[0].call("manager", "outcome") == "outcome"


def test_last_registered_is_called_first() -> None:
    """Plugins given to a manager come before installed ones, and the last given is the first called."""
    hooks = resolve(with_plugins(plugin("task_key", lambda: 1), plugin("task_key", lambda: 2)))

    assert [hook.call(None, None) for hook in hooks.task_key] == [2, 1]
    assert [hook.plugin for hook in hooks.task_key] == ["SimpleNamespace-2", "SimpleNamespace"]


@given(st.lists(st.sampled_from(["", "tryfirst", "trylast"]), max_size=8))
def test_order_is_as_documented(places: list[str]) -> None:
    """Those marked tryfirst come first, those marked trylast last, and among equals the last registered."""
    plugins = [
        plugin("task_key", lambda number=number: number, **({place: True} if place else {}))
        for number, place in enumerate(places)
    ]
    rank = {"tryfirst": 0, "": 1, "trylast": 2}

    called = [hook.call(None, None) for hook in resolve(with_plugins(*plugins)).task_key]

    # Among several trylast, pluggy puts a later one further back.
    first, middle, last = ([n for n, place in enumerate(places) if rank[place] == r] for r in range(3))
    assert called == first[::-1] + middle[::-1] + last


def test_wrapper_is_called_through_pluggy() -> None:
    """Where on_finish has a wrapper, one callable runs it around all the implementations."""
    seen: list[Any] = []

    class Timing:
        @hookimpl(wrapper=True)
        def on_finish(self, summary: Any) -> Any:
            seen.append(f"before {summary}")
            result = yield
            seen.append(f"after {summary}")
            return result

    class Watching:
        @hookimpl
        def on_finish(self, manager: Any, summary: Any = "default") -> None:
            seen.append((manager, summary))

    hooks = resolve(with_plugins(Timing(), Watching()))

    (hook,) = hooks.on_finish
    hook.call("manager", "summary", None)
    assert seen == ["before summary", ("manager", "summary"), "after summary"]
    assert hook.plugin == "Timing, Watching"


@pytest.mark.parametrize("hook", sorted(WRAPPABLE))
def test_wrapper_sees_an_exception_of_another_plugin(hook: str) -> None:
    """A wrapper's generator gets the exception and may turn it into a result, as in pluggy."""

    def guard() -> Any:
        try:
            return (yield)
        except ZeroDivisionError:
            return "guarded"

    registry = with_plugins(plugin(hook, guard, wrapper=True), plugin(hook, lambda: 1 / 0))
    (found,) = getattr(resolve(registry), hook)

    assert found.call(*SPECS[hook]) == "guarded"


def test_one_hook_can_be_asked_for() -> None:
    """The command line reads the hook that is none of a run's."""
    registry = with_plugins(plugin("register_commands", lambda cli: f"added to {cli}"))

    (hook,) = implementations(registry, "register_commands")

    assert hook.call("the group") == "added to the group"
    assert implementations(registry, "on_error") == ()
