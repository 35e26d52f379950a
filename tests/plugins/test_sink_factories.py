"""Sinks are found as executors are: by name, in the plugins, with words for what is not there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from celestialflow_core import hookimpl
from celestialflow_core.errors import PluginError, UnknownSink
from celestialflow_core.plugins.registry import Registry

pytestmark = pytest.mark.pure


def factory(url: str) -> Any:
    return "sink", url


class Declares:
    """A plugin with sinks."""

    def __init__(self, *names: str) -> None:
        self.names = names

    @hookimpl
    def sink_factories(self) -> Any:
        return dict.fromkeys(self.names, factory)


def test_sink_of_a_plugin_is_found(entry_point: Callable[..., Any]) -> None:
    """The factory that a plugin declares is given back as it is, and its name is listed."""
    registry = Registry.load([entry_point("x", Declares("bucket", "queue"))], {})

    assert registry.sink_factory("bucket") is factory
    assert registry.sinks == ("bucket", "jsonl", "queue", "sqlite")
    assert [info.sinks for info in registry.plugins if info.name == "x"] == [("bucket", "queue")]


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("sqlit", "Did you mean 'sqlite'?"),
        ("JSONL", "Did you mean 'jsonl'?"),
        ("postgresql", "Install it: pip install celestialflow-sql"),
        ("mysql", "Install it: pip install celestialflow-sql"),
        ("postgres", "Did you mean 'postgresql'? Install it: pip install celestialflow-sql"),
        ("parquet", "Install it: pip install celestialflow-arrow"),
        ("qqqqq", ""),
    ],
)
def test_unknown_sink_says_what_was_meant(name: str, advice: str) -> None:
    """The error names what is installed, the closest name, and the distribution where one is known."""
    with pytest.raises(UnknownSink) as caught:
        Registry.load([], {}).sink_factory(name)

    assert str(caught.value) == f"No sink is named {name!r}. Installed: jsonl, sqlite. {advice}".rstrip()


def test_one_sink_of_two_plugins_names_both(entry_point: Callable[..., Any]) -> None:
    """Using a name that two plugins declare is an error; other names work, and the clash is a suspicion."""
    registry = Registry.load([entry_point("a", Declares("bucket")), entry_point("b", Declares("bucket", "b"))], {})
    message = (
        "More than one plugin declares the sink 'bucket': 'a' of celestialflow-a 1.0 and 'b' of celestialflow-b 1.0. "
        "Remove one of them, or switch it off: CELESTIALFLOW_DISABLE_PLUGINS=celestialflow-b."
    )

    with pytest.raises(PluginError) as caught:
        registry.sink_factory("bucket")

    assert str(caught.value) == message
    assert registry.suspicions == (message,)
    assert registry.sink_factory("b") is factory


def test_executor_and_sink_may_share_a_name(entry_point: Callable[..., Any]) -> None:
    """They are asked for in different places."""

    class Both(Declares):
        @hookimpl
        def executor_factories(self) -> Any:
            return {"both": print}

    registry = Registry.load([entry_point("x", Both("both"))], {})

    assert registry.suspicions == ()
    assert registry.sink_factory("both") is factory
    assert registry.executor_factory("both") is print


def test_sink_of_a_failed_plugin_says_why(entry_point: Callable[..., Any]) -> None:
    """Asking for the sink of a plugin that failed, or most likely has it, gives the plugin's error."""

    class Misspells(Declares):
        @hookimpl
        def on_strat(self) -> None: ...

    registry = Registry.load([entry_point("x", Misspells("bucket")), entry_point("tape", ImportError("no"))], {})

    with pytest.raises(PluginError, match="The sink 'bucket' is not there. .*no hook named 'on_strat'"):
        registry.sink_factory("bucket")
    with pytest.raises(PluginError, match="The sink 'tape' is not there. .*raised ImportError: no"):
        registry.sink_factory("tape")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (["a"], "sink_factories gave ['a']; it must give a dict from names to factories."),
        ({"": print}, "sink_factories gave the name ''; a name is a str that is not empty."),
        ({"a": 1}, "sink_factories gave 1 for 'a'; a factory must be callable."),
    ],
)
def test_bad_declaration_fails_the_plugin(entry_point: Callable[..., Any], given: Any, reason: str) -> None:
    """What is no dict from names to callables is named, with the hook that gave it."""

    class Wrong:
        @hookimpl
        def sink_factories(self) -> Any:
            return given

    (info,) = [info for info in Registry.load([entry_point("x", Wrong())], {}).plugins if info.name == "x"]

    assert (info.state, info.reason) == ("failed", reason)
