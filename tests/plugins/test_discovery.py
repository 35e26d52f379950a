"""Finding and loading installed plugins: one broken plugin never takes another down."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celestialflow_core.errors import PluginError
from celestialflow_core.plugins.builtin import ENTRY_POINTS
from celestialflow_core.plugins.discovery import GROUP, discover
from celestialflow_core.plugins.loading import Plugin
from celestialflow_core.plugins.markers import hookimpl
from celestialflow_core.plugins.registry import Registry
from celestialflow_core.plugins.switches import Switches

pytestmark = pytest.mark.pure


class Watching:
    """A plugin with one hook."""

    @hookimpl
    def on_error(self, outcome: Any) -> None: ...


def by_name(plugins: list[Plugin]) -> dict[str, Plugin]:
    return {plugin.info.name: plugin for plugin in plugins}


def foreign(plugins: list[Plugin]) -> list[Plugin]:
    return [plugin for plugin in plugins if plugin.info.distribution != "celestialflow-core"]


def test_core_is_known_without_metadata() -> None:
    """Its executors and sinks are there when the package is on the path but not installed."""
    plugins = discover([])

    assert [plugin.info.name for plugin in plugins] == ["async", "jsonl", "process", "serial", "sqlite", "thread"]
    assert {"active"} == {plugin.info.state for plugin in plugins}
    assert [name for plugin in plugins for name in plugin.factories] == ["async", "process", "serial", "thread"]
    assert [name for plugin in plugins for name in plugin.sinks] == ["jsonl", "sqlite"]


@pytest.mark.parametrize("copies", [1, 2])
def test_core_is_never_there_twice(copies: int) -> None:
    """Metadata of the core, complete, in part or twice on the path, gives each plugin once."""
    points = [importlib.metadata.EntryPoint(name, value, GROUP) for name, value in ENTRY_POINTS.items()]

    for known in (points, points[:2], points[3:]):
        names = [plugin.info.name for plugin in discover(known * copies)]
        assert names == ["async", "jsonl", "process", "serial", "sqlite", "thread"]


def test_info_says_whose_plugin_it_is(entry_point: Callable[..., Any]) -> None:
    """Distribution, version, module and hooks of an active plugin are known."""
    (plugin,) = foreign(discover([entry_point("watch", Watching())]))

    info = plugin.info
    assert (info.name, info.distribution, info.version) == ("watch", "celestialflow-watch", "1.0")
    assert (info.module, info.hooks, info.state, info.reason) == ("celestialflow_watch", ("on_error",), "active", "")
    assert info.source == "celestialflow-watch 1.0"


def test_real_metadata_is_read(tmp_path: Path) -> None:
    """Entry points of a distribution folder on disk come with the name and version in its metadata."""
    folder = tmp_path / "celestialflow_disk-3.1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: celestialflow-disk\nVersion: 3.1\n")
    (folder / "entry_points.txt").write_text(f"[{GROUP}]\ndisk = celestialflow_no_such_module\n")
    points = [point for dist in importlib.metadata.distributions(path=[str(tmp_path)]) for point in dist.entry_points]

    (plugin,) = foreign(discover(points))

    assert plugin.info.source == "celestialflow-disk 3.1"
    assert plugin.info.state == "failed"
    assert plugin.info.reason == (
        "Importing celestialflow_no_such_module raised "
        "ModuleNotFoundError: No module named 'celestialflow_no_such_module'. "
        "That is a module of celestialflow-disk itself: its files are damaged, or its entry point names a wrong one. "
        "Install it anew: python -m pip install --force-reinstall --no-deps celestialflow-disk"
    )
    assert "Traceback" in plugin.info.details


@pytest.mark.parametrize(
    "error", [ImportError("no dask here"), SystemExit("needs Python 4"), SystemExit(3), ZeroDivisionError()], ids=repr
)
def test_failing_import_is_its_own_failure(entry_point: Callable[..., Any], error: BaseException) -> None:
    """An import that raises, or even exits, fails that plugin and no other."""
    plugins = by_name(discover([entry_point("a", Watching()), entry_point("b", error), entry_point("c", Watching())]))

    assert tuple(plugins[name].info.state for name in "abc") == ("active", "failed", "active")
    assert type(error).__name__ in plugins["b"].info.reason
    assert type(error).__name__ in plugins["b"].info.details


def test_keyboard_interrupt_is_not_a_failed_plugin(entry_point: Callable[..., Any]) -> None:
    """Ctrl-C during an import ends the program, as anywhere."""
    with pytest.raises(KeyboardInterrupt):
        discover([entry_point("slow", KeyboardInterrupt())])


def test_exception_without_text_is_still_reported(entry_point: Callable[..., Any]) -> None:
    """An exception whose ``__str__`` raises does not break the report."""

    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    (plugin,) = foreign(discover([entry_point("mute", MuteError())]))

    assert plugin.info.reason.endswith("raised MuteError, whose text raises RuntimeError.")


def test_object_that_cannot_be_looked_at_is_its_own_failure(entry_point: Callable[..., Any]) -> None:
    """A plugin object whose attributes cannot be listed fails alone."""

    class Opaque:
        def __dir__(self) -> Any:
            raise RuntimeError("keep out")

    (plugin,) = foreign(discover([entry_point("opaque", Opaque())]))

    assert plugin.info.state == "failed"
    assert plugin.info.reason == "Looking for its hooks raised RuntimeError: keep out."


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(4)))
def test_order_does_not_depend_on_the_path(entry_point: Callable[..., Any], order: list[int]) -> None:
    """Plugins are sorted by distribution and name, whatever order the entry points came in."""
    points = [
        entry_point("z", Watching(), "Alpha_One"),
        entry_point("a", Watching(), "beta"),
        entry_point("b", Watching(), "beta"),
        entry_point("c", Watching(), "celestialflow-z"),
    ]

    plugins = foreign(discover([points[index] for index in order]))

    assert [plugin.info.name for plugin in plugins] == ["z", "a", "b", "c"]


def test_one_name_in_two_distributions_fails_both(entry_point: Callable[..., Any]) -> None:
    """Neither of two plugins of one name is taken for the other; both distributions and the way out are named."""
    plugins = foreign(discover([entry_point("x", Watching(), "one"), entry_point("x", Watching(), "two", "2.0")]))

    assert [plugin.info.state for plugin in plugins] == ["failed", "failed"]
    assert plugins[1].info.reason == (
        "More than one distribution has a plugin named 'x': one 1.0 and two 2.0. "
        "Uninstall one, or switch it off by its distribution: CELESTIALFLOW_DISABLE_PLUGINS=two."
    )


def test_one_name_is_free_again_when_the_other_is_disabled(entry_point: Callable[..., Any]) -> None:
    """What the message about two plugins of one name advises works."""
    points = [entry_point("x", Watching(), "one"), entry_point("x", Watching(), "two")]

    plugins = foreign(discover(points, Switches(disabled=frozenset({"two"}))))

    assert [plugin.info.state for plugin in plugins] == ["active", "disabled"]


def test_name_of_the_core_cannot_be_taken(entry_point: Callable[..., Any]) -> None:
    """A foreign plugin named like one of the core fails itself, and the core's stays."""
    plugins = discover([entry_point("thread", Watching(), "evil")])

    assert {plugin.info.distribution: plugin.info.state for plugin in plugins if plugin.info.name == "thread"} == {
        "celestialflow-core": "active",
        "evil": "failed",
    }


def test_disabled_plugin_is_not_imported(entry_point: Callable[..., Any]) -> None:
    """A plugin that is switched off is listed, and its module never loaded."""
    point = entry_point("x", Watching())

    (plugin,) = foreign(discover([point], Switches(disabled=frozenset({"x"}))))

    assert (plugin.info.state, plugin.info.reason) == ("disabled", "CELESTIALFLOW_DISABLE_PLUGINS names it.")
    assert point.loads == 0


def test_plugin_without_distribution_is_loaded(entry_point: Callable[..., Any]) -> None:
    """Damaged metadata does not stop a plugin that can be imported."""

    class Damaged:
        @property
        def name(self) -> str:
            raise KeyError("Name")

    nameless = entry_point("a", Watching(), None)
    damaged = entry_point("b", Watching())
    damaged.dist = Damaged()

    plugins = by_name(discover([nameless, damaged]))

    assert (plugins["a"].info.state, plugins["a"].info.distribution) == ("active", None)
    assert (plugins["b"].info.state, plugins["b"].info.source) == ("active", "celestialflow_b")


class Mute:
    """An object that cannot be shown."""

    def __repr__(self) -> str:
        raise ValueError


MUTE = "a Mute, whose repr raises ValueError"


def declaring(given: Any) -> Any:
    """A plugin whose ``executor_factories`` gives *given*, or raises it."""

    def executor_factories() -> Any:
        if isinstance(given, BaseException):
            raise given
        return given

    return SimpleNamespace(executor_factories=hookimpl(executor_factories))


@pytest.mark.parametrize(
    ("given_value", "reason"),
    [
        (["dask"], "executor_factories gave ['dask']; it must give a dict from names to factories."),
        ({"dask": 7}, "executor_factories gave 7 for 'dask'; a factory must be callable."),
        ({"": print}, "executor_factories gave the name ''; a name is a str that is not empty."),
        ({3: print}, "executor_factories gave the name 3; a name is a str that is not empty."),
        ({"dask": Mute()}, f"executor_factories gave {MUTE} for 'dask'; a factory must be callable."),
        (ImportError("no dask"), "executor_factories raised ImportError: no dask."),
    ],
    ids=["no dict", "no callable", "empty name", "no str", "no repr", "raises"],
)
def test_wrong_factories_fail_the_plugin(entry_point: Callable[..., Any], given_value: Any, reason: str) -> None:
    """What ``executor_factories`` gives is checked when the plugin is loaded."""
    (plugin,) = foreign(discover([entry_point("x", declaring(given_value))]))

    assert (plugin.info.state, plugin.info.reason) == ("failed", reason)
    assert plugin.factories == {}


def test_plugin_for_another_core_is_not_imported(entry_point: Callable[..., Any]) -> None:
    """What it would fail with is not what is wrong with it; one that is switched off, and named, is no exception."""
    point = entry_point("x", Watching())
    point.dist.requires = ["celestialflow-core>=99"]

    (plugin,) = foreign(discover([point]))
    registry = Registry.load([point], {"CELESTIALFLOW_PLUGIN_AUTOLOAD": "0"})

    assert (plugin.info.state, point.loads) == ("failed", 0)
    assert plugin.info.reason.startswith("It requires celestialflow-core>=99, and celestialflow-core ")
    with pytest.raises(PluginError, match="It requires celestialflow-core>=99"):
        registry.with_plugins(["x"])
    assert point.loads == 0


def test_entry_point_of_a_missing_attribute_is_told(entry_point: Callable[..., Any]) -> None:
    """Who is to correct it, and where; an AttributeError of the module's own code says what it says."""
    point = importlib.metadata.EntryPoint("x", "types:NoSuchThing", GROUP)

    own, other = foreign(discover([point, entry_point("y", AttributeError("'int' object has no attribute 'z'"))]))

    assert own.info.reason == (
        "Importing types:NoSuchThing raised AttributeError: module 'types' has no attribute 'NoSuchThing'. Its entry "
        "point names what the module does not have: whoever makes the distribution has to correct that in its "
        "pyproject.toml."
    )
    assert other.info.reason.endswith("raised AttributeError: 'int' object has no attribute 'z'.")


def test_entry_point_of_a_hook_fails_the_plugin(entry_point: Callable[..., Any]) -> None:
    """A function has no hooks, also where it is one."""
    (plugin,) = foreign(discover([entry_point("x", hookimpl(lambda: None))]))

    assert (plugin.info.state, plugin.info.reason) == (
        "failed",
        (
            f"It is the function <lambda>, and hooks are looked for in a module or an object. Give the one that has "
            f"it: {__name__}."
        ),
    )


def test_factory_without_an_argument_fails_the_plugin(entry_point: Callable[..., Any]) -> None:
    """It could not be called by a run; one that needs more than its one argument may get it from the user."""
    points = [
        entry_point("x", declaring({"pool": lambda: None})),
        entry_point("y", declaring({"pool": lambda worker_limit, *, address: None})),
        entry_point("z", SimpleNamespace(sink_factories=hookimpl(lambda: {"bucket": lambda: None}))),
    ]
    plugins = by_name(discover(points))

    assert tuple(plugins[name].info.state for name in "xyz") == ("failed", "active", "failed")
    assert plugins["x"].info.reason.endswith(
        "for 'pool', which takes no argument by position; it is called as factory(worker_limit, **options)."
    )
    assert plugins["z"].info.reason.endswith("takes no argument by position; it is called as factory(url).")


@pytest.mark.parametrize("given_value", [None, {}])
def test_no_factories_are_fine(entry_point: Callable[..., Any], given_value: Any) -> None:
    """A plugin may find that it has no executor to offer."""
    (plugin,) = foreign(discover([entry_point("x", declaring(given_value))]))

    assert (plugin.info.state, plugin.info.executors) == ("active", ())


def test_two_factories_of_one_name_in_one_plugin_fail_it(entry_point: Callable[..., Any]) -> None:
    """A plugin that declares a name twice does not get one of the two by chance."""
    more = hookimpl(lambda: {"pool": print}, specname="executor_factories")
    plugin = SimpleNamespace(executor_factories=hookimpl(lambda: {"pool": repr}), more=more)

    (loaded,) = foreign(discover([entry_point("x", plugin)]))

    assert (loaded.info.state, loaded.info.reason) == ("failed", "executor_factories gave two factories for 'pool'.")
