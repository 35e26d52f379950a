"""What is read from a plugin object, and what its author is told."""

from __future__ import annotations

import functools
import types
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from celestialflow_core.plugins.implementations import SPECS, WRAPPABLE, read
from celestialflow_core.plugins.markers import hookimpl

pytestmark = pytest.mark.pure

PER_TASK = sorted(set(SPECS) - WRAPPABLE - {"executor_factories", "register_commands"})


def make(name: str, parameters: str, body: str = "return locals()", options: str = "", prefix: str = "def") -> Any:
    """A module with one marked function."""
    module = types.ModuleType("made")
    source = f"@hookimpl({options})\n{prefix} {name}({parameters}):\n    {body}\n"
    exec(source, {"hookimpl": hookimpl}, module.__dict__)
    return module


def test_specs_are_the_hooks_of_the_design() -> None:
    """Every promised hook is there with its arguments in the promised order."""
    assert SPECS == {
        "executor_factories": (),
        "get_args": ("manager", "task"),
        "on_duplicate": ("manager", "outcome"),
        "on_error": ("manager", "outcome"),
        "on_finish": ("manager", "summary", "error"),
        "on_retry": ("manager", "task", "error", "attempt", "delay"),
        "on_start": ("manager",),
        "on_success": ("manager", "outcome"),
        "process_result": ("manager", "task", "result"),
        "register_commands": ("cli",),
        "retry_delay": ("manager", "task", "error", "attempt"),
        "should_retry": ("manager", "task", "error", "attempt"),
        "sink_factories": (),
        "task_key": ("manager", "task"),
    }


@given(st.data())
def test_adapter_passes_each_argument_by_its_name(data: st.DataObject) -> None:
    """Whatever arguments an implementation names, in whatever order, with or without defaults, each gets its own."""
    hook = data.draw(st.sampled_from(sorted(SPECS)))
    named = data.draw(st.lists(st.sampled_from(SPECS[hook] or ("nothing",)), unique=True)) if SPECS[hook] else []
    foreign = data.draw(st.lists(st.sampled_from(["later", "cache"]), unique=True))
    required = data.draw(st.integers(0, len(named)))
    optional = data.draw(st.permutations(named[required:] + foreign))
    parameters = ", ".join(named[:required] + [f"{name}='default'" for name in optional])

    reading = read(make(hook, parameters))

    assert reading.errors == []
    (implementation,) = reading.implementations
    got = implementation.call(*[f"the {name}" for name in SPECS[hook]])
    assert got == {name: f"the {name}" for name in named} | dict.fromkeys(foreign, "default")


@pytest.mark.parametrize("above", [True, False], ids=["hookimpl above", "hookimpl below"])
@pytest.mark.parametrize("kind", [staticmethod, classmethod])
def test_read_finds_static_and_class_methods(kind: Any, above: bool) -> None:
    """The mark may be above or below the descriptor."""

    def task_key(*names: Any) -> Any:
        raise AssertionError

    def static(task: Any) -> Any:
        return "key", task

    def of_class(cls: type, task: Any) -> Any:
        return "key", task

    function = static if kind is staticmethod else of_class
    function.__name__ = "task_key"
    marked = hookimpl(kind(function)) if above else kind(hookimpl(function))
    plugin = type("Plugin", (), {"task_key": marked})()

    (implementation,) = read(plugin).implementations

    assert implementation.call("manager", 7) == ("key", 7)


def test_read_runs_no_property() -> None:
    """A property of a plugin object, also one with a hook's name, is not executed."""

    class Plugin:
        @property
        def on_start(self) -> Any:
            raise AssertionError("the property was run")

        @functools.cached_property
        def connection(self) -> Any:
            raise AssertionError("the property was run")

        @hookimpl
        def on_error(self, outcome: Any) -> None: ...

    reading = read(Plugin())

    assert [implementation.hook for implementation in reading.implementations] == ["on_error"]


def test_read_finds_functions_kept_on_an_instance() -> None:
    """A function in the instance's dict or in a slot of it is a hook like a method."""

    @hookimpl
    def on_start(manager: Any) -> str:
        return f"started {manager}"

    @attrs.define
    class Slotted:
        on_start: Any

    for plugin in (types.SimpleNamespace(on_start=on_start), Slotted(on_start)):
        (implementation,) = read(plugin).implementations
        assert implementation.call("m") == "started m"


def test_specname_names_the_hook() -> None:
    """``hookimpl(specname=...)`` lets a function have a name of its own."""
    (implementation,) = read(make("mask", "result", "return result * 2", "specname='process_result'")).implementations

    assert implementation.hook == "process_result"
    assert implementation.call(None, None, 4) == 8


def test_unknown_hook_suggests_the_closest() -> None:
    """A misspelled hook is an error that says which one was meant."""
    assert read(make("on_strat", "manager")).errors == ["There is no hook named 'on_strat'. Did you mean 'on_start'?"]


def test_unknown_hook_lists_all_where_none_is_close() -> None:
    """A name that is like no hook gets the list of hooks."""
    (error,) = read(make("zzzzzz", "")).errors

    assert error.startswith("There is no hook named 'zzzzzz'. The hooks are: executor_factories, get_args, ")


def test_optionalhook_allows_hooks_of_other_versions() -> None:
    """An implementation marked optional for a hook that does not exist is ignored."""
    reading = read(make("on_eclipse", "sun, moon", options="optionalhook=True"))

    assert (reading.implementations, reading.errors, reading.warnings) == ([], [], [])


def test_unmarked_function_with_a_hooks_name_is_warned_of() -> None:
    """Forgetting @hookimpl is the most common mistake, and otherwise silent."""

    class Plugin:
        def on_start(self, manager: Any) -> None: ...

        @hookimpl
        def on_error(self, outcome: Any) -> None: ...

    reading = read(Plugin())

    assert reading.errors == []
    assert reading.warnings == ["on_start is not marked with @hookimpl, so it is never called."]
    assert [implementation.hook for implementation in reading.implementations] == ["on_error"]


@pytest.mark.parametrize("plugin", [1, "text", object(), types.ModuleType("empty"), types], ids=repr)
def test_object_without_hooks_is_warned_of(plugin: object) -> None:
    """Something that has no hook at all is accepted, with a warning."""
    reading = read(plugin)

    assert reading.errors == []
    assert len(reading.warnings) == 1
    assert reading.warnings[0].startswith("It has no hook, so it does nothing.")


def test_class_instead_of_instance_is_an_error() -> None:
    """A class whose methods lack their instance is refused with the corrected line."""

    class Plugin:
        @hookimpl
        def on_start(self, manager: Any) -> None: ...

    (error,) = read(Plugin).errors

    assert error == "on_start is a method of a class that was not instantiated. Give an instance: Plugin()."


def test_class_with_static_hooks_is_a_plugin() -> None:
    """A class works where its hooks need no instance."""

    class Plugin:
        @hookimpl
        @staticmethod
        def on_start(manager: Any) -> Any:
            return manager

    (implementation,) = read(Plugin).implementations

    assert implementation.call("m") == "m"


NAMES = "It may name: manager, outcome."
ASYNC = "on_error is an async function, and nobody would await it. Hooks are called, so write: def on_error(outcome)."
BY_POSITION = "has a keyword-only parameter, but hooks are called by position. Remove the '*'."
MISFITS = {
    f"on_error(out) names 'out', which on_error does not have. {NAMES}": make("on_error", "out"),
    "executor_factories(cli) names 'cli', which executor_factories does not have. It has no arguments.": make(
        "executor_factories", "cli"
    ),
    f"on_error(*, outcome) {BY_POSITION}": make("on_error", "*, outcome"),
    f"on_error(*, outcome=None) {BY_POSITION}": make("on_error", "*, outcome=None"),
    f"on_error(*args) takes *args, but arguments are passed by name. {NAMES}": make("on_error", "*args"),
    ASYNC: make("on_error", "outcome", prefix="async def"),
    ASYNC + " ": make("on_error", "outcome", "yield", prefix="async def"),
    "on_error has a yield, so calling it would run nothing of it. Return the value instead.": make(
        "on_error", "outcome", "yield"
    ),
    "on_start is marked wrapper=True but has no yield.": make("on_start", "", options="wrapper=True"),
    "on_start is marked both wrapper=True and hookwrapper=True. Keep wrapper=True.": make(
        "on_start", "", "yield", "wrapper=True, hookwrapper=True"
    ),
}


@pytest.mark.parametrize(("message", "plugin"), MISFITS.items(), ids=range(len(MISFITS)))
def test_implementation_that_cannot_work_is_an_error(message: str, plugin: object) -> None:
    """Each way to write a hook that would fail or do nothing when called is refused, with what to write."""
    reading = read(plugin)

    assert reading.errors == [message.rstrip()]
    assert reading.implementations == []


@pytest.mark.parametrize("option", ["wrapper", "hookwrapper"])
@pytest.mark.parametrize("hook", [*PER_TASK, "executor_factories", "register_commands"])
def test_wrapper_is_refused_on_hooks_that_are_called_directly(hook: str, option: str) -> None:
    """A wrapper on a per-task hook could not be kept, and says so."""
    (error,) = read(make(hook, "", "yield", f"{option}=True")).errors

    assert error == f"{hook} is marked wrapper=True, which works only for on_finish and on_start."


def test_keyword_only_parameters_of_its_own_are_allowed() -> None:
    """A keyword-only parameter with a default that is no argument of the hook stays at its default."""
    (implementation,) = read(make("on_error", "outcome, *, verbose=3")).implementations

    assert implementation.call("m", "o") == {"outcome": "o", "verbose": 3}


def test_get_args_may_be_a_generator() -> None:
    """``get_args`` returns any iterable, so a generator function is one way to write it."""
    reading = read(make("get_args", "task", "yield task"))

    assert reading.errors == []
    assert list(reading.implementations[0].call(None, 5)) == [5]


def test_decorated_function_shows_its_own_parameters() -> None:
    """A decorator that uses functools.wraps does not hide which arguments are named."""

    def twice(function: Any) -> Any:
        @functools.wraps(function)
        def inner(*args: Any) -> Any:
            return function(*args) * 2

        return inner

    @twice
    def process_result(result: Any) -> Any:
        return result + 1

    (implementation,) = read(types.SimpleNamespace(process_result=hookimpl(process_result))).implementations

    assert implementation.call(None, None, 1) == 4


def test_method_without_self_is_an_error() -> None:
    """A method that cannot even take its instance is refused when it is read, not when it is called."""

    class Plugin:
        @hookimpl
        def on_error() -> None:  # type: ignore[misc]
            """No self."""

    assert read(Plugin()).errors == [
        "on_error cannot be called: invalid method signature. A method needs self as its first parameter."
    ]


def test_positional_only_parameter_after_one_of_its_own_stays_at_its_default() -> None:
    """What can be given neither by position nor by name keeps its default; the others get their arguments."""
    (implementation,) = read(make("on_error", "cache=1, outcome=2, /, manager=3")).implementations

    assert implementation.call("m", "o") == {"cache": 1, "outcome": 2, "manager": "m"}
