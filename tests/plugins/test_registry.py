"""What a run can use, what it is told about plugins that are broken, and that nothing else suffers from them."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import threading
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from celestialflow_core.errors import PluginError, UnknownExecutor
from celestialflow_core.plugins.markers import hookimpl
from celestialflow_core.plugins.messages import PluginWarning
from celestialflow_core.plugins.registry import Registry, _Once, installed
from celestialflow_core.plugins.resolve import resolve

pytestmark = pytest.mark.pure


def factory(worker_limit: int | None, **options: Any) -> Any:
    return "executor", worker_limit, options


@attrs.define
class Declares:
    """A plugin with executors; two of them are equal, as attrs classes are by default."""

    names: tuple[str, ...] = ()

    @hookimpl
    def executor_factories(self) -> Any:
        return dict.fromkeys(self.names, factory)


class Watches:
    """A plugin with a hook for tasks."""

    @hookimpl
    def on_error(self, outcome: Any) -> None: ...


class Misspells:
    """A plugin that fails when it is looked at, and that has an executor."""

    @hookimpl
    def on_strat(self, manager: Any) -> None: ...

    @hookimpl
    def executor_factories(self) -> Any:
        return {"pool": factory}


def warned(registry: Registry) -> list[str]:
    """What resolving the hooks of a run warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        resolve(registry)
    return [str(warning.message) for warning in caught if warning.category is PluginWarning]


def test_executor_of_a_plugin_is_found(entry_point: Callable[..., Any]) -> None:
    """The factory that a plugin declares is given back as it is."""
    registry = Registry.load([entry_point("x", Declares(("echo", "other")))], {})

    assert registry.executor_factory("echo") is factory
    assert registry.executors == ("async", "echo", "other", "process", "serial", "thread")


@pytest.mark.parametrize(
    ("name", "capabilities", "is_async"),
    [
        ("serial", {"setup", "inline"}, False),
        ("thread", {"timeout", "setup"}, False),
        ("process", {"timeout", "setup"}, False),
        ("async", {"timeout", "setup"}, True),
    ],
)
def test_builtin_factory_knows_its_executor_without_importing_it(
    name: str, capabilities: set[str], is_async: bool
) -> None:
    """A constructor can refuse an option before an executor's module is loaded."""
    made: Any = Registry.load([], {}).executor_factory(name)

    assert made.capabilities == frozenset(capabilities)
    assert made.is_async is is_async


def test_builtin_factory_imports_its_executor_when_called() -> None:
    """Calling the factory gives an executor of the class that it names, with the limit."""
    registry = Registry.load([], {})

    executor: Any = registry.executor_factory("serial")(None)

    assert type(executor).__name__ == "SerialExecutor"
    assert executor.capabilities == frozenset({"setup", "inline"})


def test_builtin_factory_refuses_values_without_starting_anything() -> None:
    """What the constructor of a manager asks before there is a run."""
    made: Any = Registry.load([], {}).executor_factory("thread")

    assert made.check(2) is None
    with pytest.raises(TypeError, match="workers"):
        made.check(2, workers=3)


def test_builtin_factory_imports_its_sink_when_called(tmp_path: Path) -> None:
    """Calling the factory gives a sink of the class that it names, for the URL; nothing is made on disk."""
    sink = Registry.load([], {}).sink_factory("jsonl")(f"jsonl:{tmp_path}/results.jsonl")

    assert type(sink).__name__ == "JsonlStore"
    assert list(tmp_path.iterdir()) == []


def test_factory_that_tells_no_signature_is_taken(entry_point: Callable[..., Any]) -> None:
    """Classes written in C may have none that can be read; whether they can be called shows when they are."""

    class Mapped:
        @hookimpl
        def executor_factories(self) -> Any:
            return {"mapped": dict}

    assert Registry.load([entry_point("x", Mapped())], {}).executor_factory("mapped") is dict


@pytest.mark.parametrize(
    ("kind", "given", "text"),
    [
        ("executor", 7, "the factory of the plugin 'x' of {} gave 7, which is not an executor: it needs start, submit"),
        ("sink", None, "the factory of the plugin 'x' of {} gave None, which is not a sink: it needs open, write and"),
        ("sink", ImportError("no engine"), "the factory of the plugin 'x' of {} raised ImportError: no engine."),
    ],
)
def test_factory_that_makes_the_wrong_thing_is_named(
    entry_point: Callable[..., Any], kind: Any, given: object, text: str
) -> None:
    """With what it made or raised, and what was expected."""

    class Both:
        @hookimpl
        def executor_factories(self) -> Any:
            return {"both": factory}

        @hookimpl
        def sink_factories(self) -> Any:
            return {"both": factory}

    registry = Registry.load([entry_point("x", Both())], {})
    source = registry.plugins[-1].source

    assert text.format(source) in registry.cannot_make(kind, "both", given)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("thred", "Did you mean 'thread'?"),
        ("Threads", "Did you mean 'thread'?"),
        ("asyncio", "Did you mean 'async'?"),
        ("dask", "Install it: pip install celestialflow-dask"),
        ("dsk", "Did you mean 'dask'? Install it: pip install celestialflow-dask"),
        ("qqqqq", ""),
    ],
)
def test_unknown_executor_says_what_was_meant(name: str, advice: str) -> None:
    """The error names what is installed, the closest name, and the distribution where one is known."""
    with pytest.raises(UnknownExecutor) as caught:
        Registry.load([], {}).executor_factory(name)

    assert str(caught.value) == (
        f"No executor is named {name!r}. Installed: async, process, serial, thread. {advice}".rstrip()
    )


def test_info_is_that_of_the_object_itself(entry_point: Callable[..., Any]) -> None:
    """Not of an equal one; a plugin that failed is known too, and one that is not there is None."""
    one, misspelled = Declares(("pool",)), Misspells()
    points = [entry_point("one", one), entry_point("bad", misspelled), entry_point("off", Declares())]
    registry = Registry.load(points, {"CELESTIALFLOW_DISABLE_PLUGINS": "off"})

    infos = {info.name: info for info in registry.plugins}
    assert registry.info_of(one) is infos["one"]
    assert registry.info_of(misspelled) is infos["bad"]
    assert registry.info_of(Declares(("pool",))) is None
    assert registry.info_of(None) is None


def test_unknown_executor_mentions_plugins_that_failed(entry_point: Callable[..., Any]) -> None:
    """What failed to load may have had the executor, so the error points there."""
    with pytest.raises(UnknownExecutor, match="Some plugins could not be loaded; 'celestialflow plugins' says why"):
        Registry.load([entry_point("x", ImportError())], {}).executor_factory("turbo")


def test_one_executor_of_two_plugins_names_both(entry_point: Callable[..., Any]) -> None:
    """Using a name that two plugins declare is an error; other names work, with one warning."""
    registry = Registry.load([entry_point("a", Declares(("pool",))), entry_point("b", Declares(("pool", "b")))], {})
    message = (
        "More than one plugin declares the executor 'pool': 'a' of celestialflow-a 1.0 and 'b' of celestialflow-b 1.0. "
        "Remove one of them, or switch it off: CELESTIALFLOW_DISABLE_PLUGINS=celestialflow-b."
    )

    with pytest.raises(PluginError) as caught:
        registry.executor_factory("pool")

    assert str(caught.value) == message
    assert registry.executor_factory("b") is factory
    assert warned(registry) == [message]
    assert warned(registry) == []


def test_core_names_are_not_privileged(entry_point: Callable[..., Any]) -> None:
    """A plugin that declares ``thread`` clashes with the core's, and the advice is to switch the plugin off."""
    registry = Registry.load([entry_point("a", Declares(("thread",)))], {})

    with pytest.raises(PluginError, match=r"and 'thread' of celestialflow-core.*DISABLE_PLUGINS=celestialflow-a\.$"):
        registry.executor_factory("thread")
    assert registry.executors == ("async", "process", "serial", "thread")


@pytest.mark.parametrize("executor", ["x", "pool"])
def test_failed_plugin_is_fatal_to_a_run_that_uses_its_executor(entry_point: Callable[..., Any], executor: str) -> None:
    """An executor of a failed plugin is told apart from one that nobody knows, with the reason."""
    registry = Registry.load([entry_point("x", Misspells())], {})

    with pytest.raises(PluginError) as caught:
        registry.executor_factory(executor)

    assert str(caught.value) == (
        f"The executor {executor!r} is not there. The plugin 'x' of celestialflow-x 1.0 cannot be used: "
        "There is no hook named 'on_strat'. Did you mean 'on_start'?"
    )


def test_failed_plugin_is_fatal_to_a_run_that_names_it(entry_point: Callable[..., Any]) -> None:
    """plugins=["x"] fails with the reason, and carries the traceback of the plugin."""
    registry = Registry.load([entry_point("x", ImportError("no engine"))], {})

    with pytest.raises(PluginError) as caught:
        registry.with_plugins(["x"])

    assert str(caught.value) == (
        "The plugin 'x' of celestialflow-x 1.0 cannot be used: "
        "Importing celestialflow_x:plugin raised ImportError: no engine."
    )
    assert "Traceback" in caught.value.__notes__[0]


def test_failed_plugin_is_one_warning_to_other_runs(entry_point: Callable[..., Any]) -> None:
    """The first run that does without the plugin says so; later ones, and those with plugins of their own, do not."""
    registry = Registry.load([entry_point("x", ImportError("no engine")), entry_point("y", Watches())], {})
    own = registry.with_plugins([Watches()])

    assert warned(own) == [
        (
            "The plugin 'x' of celestialflow-x 1.0 cannot be used: "
            "Importing celestialflow_x:plugin raised ImportError: no engine."
        )
    ]
    assert warned(own) == []
    assert warned(registry) == []
    assert [hook.plugin for hook in resolve(registry).on_error] == ["y"]


def test_warning_points_outside_of_the_package(entry_point: Callable[..., Any]) -> None:
    """The line that is shown with a warning is the user's, not one of ours."""
    registry = Registry.load([entry_point("x", ImportError())], {})

    with pytest.warns(PluginWarning) as caught:
        resolve(registry)

    assert [__file__] == [warning.filename for warning in caught]


def test_suspicious_plugin_is_one_warning(entry_point: Callable[..., Any]) -> None:
    """A forgotten @hookimpl takes nothing down, and is told once."""

    class Forgets:
        def on_start(self, manager: Any) -> None: ...

    registry = Registry.load([entry_point("x", Forgets())], {})

    assert warned(registry) == [
        "The plugin 'x' of celestialflow-x 1.0: on_start is not marked with @hookimpl, so it is never called."
    ]
    assert registry.failures == ()


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        ({"CELESTIALFLOW_DISABLE_PLUGINS": "x"}, "CELESTIALFLOW_DISABLE_PLUGINS names it."),
        ({"CELESTIALFLOW_PLUGINS": "y"}, "CELESTIALFLOW_PLUGINS is set and does not name it."),
    ],
)
def test_disabled_plugin_cannot_be_named(entry_point: Callable[..., Any], environ: dict[str, str], reason: str) -> None:
    """What the environment switches off, a program does not switch on."""
    registry = Registry.load([entry_point("x", Declares(("pool",))), entry_point("y", Watches())], environ)

    with pytest.raises(PluginError) as caught:
        registry.with_plugins(["x"])
    assert str(caught.value) == f"The plugin 'x' of celestialflow-x 1.0 is disabled: {reason}"
    with pytest.raises(PluginError, match="The executor 'x' is not there"):
        registry.executor_factory("x")


def test_plugin_can_be_named_where_autoload_is_off(entry_point: Callable[..., Any]) -> None:
    """With CELESTIALFLOW_PLUGIN_AUTOLOAD=0, plugins=["x"] loads that plugin, for that manager."""
    point = entry_point("x", Declares(("pool",)))
    registry = Registry.load([point, entry_point("y", Watches())], {"CELESTIALFLOW_PLUGIN_AUTOLOAD": "0"})

    assert point.loads == 0
    assert registry.executors == ("async", "process", "serial", "thread")
    named = registry.with_plugins(["x", "celestialflow-x"])

    assert named.executor_factory("pool") is factory
    assert {info.name: info.state for info in named.plugins if info.distribution != "celestialflow-core"} == {
        "x": "active",
        "y": "disabled",
    }
    with pytest.raises(PluginError, match=r"is disabled: With CELESTIALFLOW_PLUGIN_AUTOLOAD=0 it is loaded only where"):
        registry.executor_factory("x")


def test_named_plugin_that_fails_only_then_is_fatal(entry_point: Callable[..., Any]) -> None:
    """A plugin that is loaded because it is named, and cannot be, ends the run that names it."""
    registry = Registry.load([entry_point("x", ImportError("no"))], {"CELESTIALFLOW_PLUGIN_AUTOLOAD": "0"})

    with pytest.raises(PluginError, match=r"cannot be used: Importing celestialflow_x:plugin raised ImportError: no\."):
        registry.with_plugins(["x"])


def test_ambiguous_name_is_an_error(entry_point: Callable[..., Any]) -> None:
    """Two plugins of one name that are not loaded are told apart by their distribution."""
    points = [entry_point("x", Watches(), "one"), entry_point("x", Watches(), "two")]
    registry = Registry.load(points, {"CELESTIALFLOW_PLUGIN_AUTOLOAD": "0"})

    with pytest.raises(PluginError, match=r"More than one installed plugin is named 'x'. Name one by its distribution"):
        registry.with_plugins(["x"])
    assert [hook.plugin for hook in resolve(registry.with_plugins(["two"])).on_error] == ["x"]


def test_naming_an_active_plugin_changes_nothing(entry_point: Callable[..., Any]) -> None:
    """plugins=["x"] says that the run needs x, which is there."""
    registry = Registry.load([entry_point("x", Watches())], {})

    assert registry.with_plugins(["x", "celestialflow_x", "thread"]) is registry
    assert registry.with_plugins([]) is registry


def test_name_of_no_plugin_is_an_error(entry_point: Callable[..., Any]) -> None:
    """A name that is not installed is an error with the names that are."""
    with pytest.raises(PluginError) as caught:
        Registry.load([entry_point("masking", Watches())], {}).with_plugins(["maskin"])

    assert str(caught.value) == (
        "No installed plugin is named 'maskin'. Installed: async, jsonl, masking, process, serial, sqlite, thread. "
        "Did you mean 'masking'?"
    )


def test_allowed_plugin_that_is_missing_is_reported(entry_point: Callable[..., Any]) -> None:
    """A name in CELESTIALFLOW_PLUGINS that is not installed is not passed over in silence."""
    registry = Registry.load([entry_point("masking", Watches())], {"CELESTIALFLOW_PLUGINS": "maskin"})

    assert warned(registry) == [
        (
            "No installed plugin is named 'maskin'. Installed: async, jsonl, masking, process, serial, sqlite, thread. "
            "Did you mean 'masking'?"
        )
    ]


def test_equal_objects_are_two_plugins() -> None:
    """Objects are told apart by identity: attrs classes compare by value, arrays not at all."""

    class Stubborn(Watches):
        def __eq__(self, other: object) -> bool:
            raise TypeError("cannot be compared")

        def __hash__(self) -> int:
            raise TypeError("cannot be hashed")

    registry = Registry.load([], {}).with_plugins([Stubborn(), Stubborn()])

    assert [hook.plugin for hook in resolve(registry).on_error] == ["Stubborn-2", "Stubborn"]


def test_one_object_twice_is_an_error() -> None:
    """The same object given twice would have its hooks called twice."""
    plugin = Watches()

    with pytest.raises(PluginError, match="holds one 'Watches' twice"):
        Registry.load([], {}).with_plugins([plugin, plugin])


def test_installed_object_given_again_is_called_once(entry_point: Callable[..., Any]) -> None:
    """A module that is installed as a plugin may be given too."""
    plugin = Watches()
    registry = Registry.load([entry_point("x", plugin)], {})

    assert registry.with_plugins([plugin]) is registry


def test_module_is_a_plugin() -> None:
    """A module with hooks can be given."""
    module = types.ModuleType("my_hooks")
    exec("@hookimpl\ndef on_error(outcome): ...", {"hookimpl": hookimpl}, module.__dict__)

    registry = Registry.load([], {}).with_plugins([module])

    assert [hook.plugin for hook in resolve(registry).on_error] == ["my_hooks"]
    assert (registry.plugins[-1].name, registry.plugins[-1].module) == ("my_hooks", "my_hooks")


def test_given_object_that_is_wrong_is_an_error() -> None:
    """A run names the objects that it is given, so a mistake in one is fatal."""
    with pytest.raises(PluginError, match=r"The plugin 'Misspells' of .* cannot be used: There is no hook named"):
        Registry.load([], {}).with_plugins([Misspells()])


def test_known_suspicions_are_not_repeated_for_a_manager(entry_point: Callable[..., Any]) -> None:
    """What is wrong with an installed plugin is not said again with each manager that has plugins of its own."""
    registry = Registry.load([entry_point("x", object())], {})

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        registry.with_plugins([Watches()])


def test_given_object_that_is_suspicious_is_warned_of() -> None:
    """A plugin object without hooks, and an executor's name that is taken, are told at once."""
    registry = Registry.load([], {})

    with pytest.warns(PluginWarning, match="It has no hook, so it does nothing"):
        registry.with_plugins([object()])
    with pytest.warns(PluginWarning, match="More than one plugin declares the executor 'serial'"):
        registry.with_plugins([Declares(("serial",))])


@pytest.mark.parametrize("plugins", ["x", b"x", 5, [None]], ids=repr)
def test_plugins_of_a_wrong_type_are_refused(plugins: Any) -> None:
    """plugins="x" is not a list of one name."""
    with pytest.raises(TypeError, match="plugins must be a list of plugins and of names of plugins, got"):
        Registry.load([], {}).with_plugins(plugins)


def test_given_plugins_leave_the_installed_ones_alone() -> None:
    """What one manager adds, another does not see."""
    registry = Registry.load([], {})

    own = registry.with_plugins([Declares(("mine",))])

    assert own.executor_factory("mine") is factory
    assert "mine" not in registry.executors


def test_installed_plugins_are_loaded_once_by_many_threads() -> None:
    """Threads that start their first runs together wait for one load."""
    loads = []
    together = threading.Barrier(8)

    def load() -> Registry:
        loads.append(threading.get_ident())
        return Registry([])

    once = _Once(load)
    got: list[Registry] = []

    def first_run() -> None:
        together.wait(30)
        got.append(once.get())

    threads = [threading.Thread(target=first_run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert len(loads) == 1
    assert len(got) == 8
    assert len(set(map(id, got))) == 1


def test_plugin_that_runs_tasks_while_imported_is_told(entry_point: Callable[..., Any]) -> None:
    """A module that starts a run at import time fails with a reason instead of a deadlock or a recursion."""

    class Point:
        name, value, dist = "eager", "eager:plugin", None

        def load(self) -> Any:
            return once.get()

    once = _Once(lambda: Registry.load([Point()], {}))

    (eager,) = [info for info in once.get().plugins if info.name == "eager"]

    assert eager.state == "failed"
    assert "A plugin uses TaskManager while it is being imported. Do that when it is called" in eager.reason


def test_load_that_is_interrupted_can_be_repeated() -> None:
    """Ctrl-C during the first load does not leave the process without plugins."""
    answers: list[Any] = [KeyboardInterrupt(), Registry([])]

    def load() -> Registry:
        answer = answers.pop(0)
        if isinstance(answer, Registry):
            return answer
        raise answer

    once = _Once(load)

    with pytest.raises(KeyboardInterrupt):
        once.get()
    assert once.get() is once.get()


def child(code: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run *code* in an interpreter of its own, which can import what this one can."""
    path = os.pathsep.join(filter(None, sys.path))
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path, **environ},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_installed_plugins_are_the_same_for_all() -> None:
    """A process has one registry of installed plugins."""
    assert installed() is installed()
    assert {"async", "process", "serial", "thread"} <= set(installed().executors)


@pytest.mark.parametrize("value", ["0", "1"])
def test_strictness_concerns_failed_plugins(entry_point: Callable[..., Any], value: str) -> None:
    """A failed plugin is refused only where the environment asks for it; a suspicious one never is."""
    environ = {"CELESTIALFLOW_STRICT_PLUGINS": value}
    failed = Registry.load([entry_point("x", ImportError("no"))], environ)

    Registry.load([entry_point("x", object())], environ).require_strictness()
    if value == "0":
        failed.require_strictness()
    else:
        with pytest.raises(PluginError, match=r"STRICT_PLUGINS=1 allows no such plugin. The plugin 'x'"):
            failed.require_strictness()


def test_strict_makes_a_failed_plugin_an_error() -> None:
    """With CELESTIALFLOW_STRICT_PLUGINS=1 no run starts while an allowed plugin is missing."""
    code = "from celestialflow_core.plugins import installed; print(installed().executors)"

    lenient = child(code, CELESTIALFLOW_PLUGINS="absent")
    strict = child(code, CELESTIALFLOW_PLUGINS="absent", CELESTIALFLOW_STRICT_PLUGINS="1")

    assert (lenient.returncode, lenient.stdout) == (0, "('async', 'process', 'serial', 'thread')\n")
    assert strict.returncode == 1
    assert (
        "PluginError: CELESTIALFLOW_STRICT_PLUGINS=1 allows no such plugin. No installed plugin is named 'absent'."
    ) in strict.stderr


def test_import_is_light() -> None:
    """Importing the plugin system loads neither metadata nor what only a run or an error needs."""
    code = (
        "import sys, celestialflow_core.plugins\n"
        "heavy = ['importlib.metadata', 'asyncio', 'loguru', 'click', 'difflib', 'multiprocessing', 'json']\n"
        "print([name for name in heavy if name in sys.modules])"
    )

    done = child(code)

    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def test_declared_pluggy_is_new_enough() -> None:
    """The installed pluggy is at or above the floor that this package was written for."""
    version = tuple(int(part) for part in importlib.metadata.version("pluggy").split(".")[:2])

    assert version >= (1, 6)
