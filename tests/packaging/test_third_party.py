"""Distributions by other people: installed they work, broken they take nothing down and say what is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest

CORE = ["async", "jsonl", "process", "serial", "sqlite", "thread"]
BROKEN = (
    "celestialflow-broken",
    "celestialflow-twin-one",
    "celestialflow-twin-two",
    "celestialflow-typo",
    "celestialflow-unmarked",
)
UNFIT = (
    "celestialflow-ahead",
    "celestialflow-echo",
    "celestialflow-echo-fork",
    "celestialflow-hollow",
    "celestialflow-lazy",
)

RUN = """
import json
from celestialflow_core import TaskManager
manager = TaskManager(str.upper, enable_success_cache=True, log_dir=None, log_level="ERROR"{options})
manager.start(["a", "b"])
print(json.dumps(manager.get_success_dict()))
"""


def run(options: str = "") -> str:
    """A program that runs two tasks with *options* and prints the results."""
    return RUN.replace("{options}", options)


def listed(environment: Any, *plugins: str, **environ: str) -> tuple[int, dict[str, Any], list[str]]:
    """What ``celestialflow plugins --json`` exits with, the plugins by name, and the problems."""
    done = environment.celestialflow("plugins", "--json", "--all", plugins=plugins, **environ)
    assert "Traceback" not in done.stderr
    answer = json.loads(done.stdout)
    return done.returncode, {plugin["name"]: plugin for plugin in answer["plugins"]}, answer["problems"]


def test_wheel_of_the_core_has_its_plugins(environment: Any) -> None:
    """The executors and sinks are found by the metadata of the wheel, with its version."""
    code, plugins, problems = listed(environment)

    assert (code, problems) == (0, [])
    assert sorted(plugins) == CORE
    assert {("celestialflow-core", True)} == {
        (plugin["distribution"], bool(plugin["version"])) for plugin in plugins.values()
    }


def test_wheel_of_the_core_has_its_command(environment: Any) -> None:
    """The console script is installed and knows its version."""
    done = environment.celestialflow("--version")

    assert done.returncode == 0
    assert done.stdout.startswith("celestialflow-core 0.")


def test_wheel_of_the_core_is_typed(environment: Any) -> None:
    """py.typed ships."""
    done = environment.python(
        "import celestialflow_core, pathlib;"
        "print((pathlib.Path(celestialflow_core.__file__).parent / 'py.typed').is_file(), celestialflow_core.__file__)"
    )

    assert done.stdout.startswith("True ")
    assert "site-packages" in done.stdout


def test_third_party_executor_is_installed(environment: Any) -> None:
    """An executor of another distribution is listed with its name, distribution and version."""
    code, plugins, problems = listed(environment, "celestialflow-echo")

    assert (code, problems) == (0, [])
    assert (plugins["echo"]["distribution"], plugins["echo"]["version"]) == ("celestialflow-echo", "1.0")
    assert plugins["echo"]["executors"] == ["echo"]


def test_third_party_executor_runs_tasks(environment: Any) -> None:
    """Installed means usable: its name is an execution mode."""
    done = environment.python(run(", execution_mode='echo'"), "celestialflow-echo")

    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"a": "A", "b": "B"}


def test_third_party_hooks_run_without_a_subclass(environment: Any) -> None:
    """Arguments, keys, results and errors go through the hooks of an installed distribution."""
    done = environment.python(
        """
import json
import celestialflow_mask
from celestialflow_core import TaskManager
def pay(card):
    if not card.isdigit():
        raise ValueError(card)
    return card
manager = TaskManager(pay, enable_success_cache=True, log_dir=None, log_level="CRITICAL")
summary = manager.start([{"card": "4711"}, {"card": "x"}, {"card": "4711"}, {"card": "4712"}])
print(json.dumps([
    [value for _, value in manager.get_success_pairs()],
    summary.duplicates, celestialflow_mask.failures, celestialflow_mask.finished,
]))
""",
        "celestialflow-mask",
    )

    assert (done.returncode, json.loads(done.stdout)) == (0, [["****11", "****12"], 1, {"ValueError": 1}, [4]])


def test_third_party_command_is_there(environment: Any) -> None:
    """A command of an installed distribution is one of ``celestialflow``."""
    done = environment.celestialflow("mask", plugins=("celestialflow-mask",))

    assert (done.returncode, done.stdout, done.stderr) == (0, "****\n", "")


def test_command_lists_everything_with_every_plugin_broken(environment: Any) -> None:
    """``celestialflow plugins --json`` says of each broken plugin what is wrong, and takes none for another."""
    code, plugins, problems = listed(environment, *BROKEN, "celestialflow-echo")

    assert code == 1
    assert {name: plugin["state"] for name, plugin in plugins.items()} == {
        **dict.fromkeys([*CORE, "echo", "twin-one", "twin-two", "unmarked"], "active"),
        **dict.fromkeys(["broken", "typo"], "failed"),
    }
    assert plugins["broken"]["reason"] == (
        "Importing celestialflow_broken:plugin raised "
        "ModuleNotFoundError: No module named 'celestialflow_engine_that_is_not_installed'. "
        "Nothing that celestialflow-broken requires is missing, so install what has the module "
        "'celestialflow_engine_that_is_not_installed'."
    )
    assert plugins["typo"]["reason"] == "There is no hook named 'on_sucess'. Did you mean 'on_success'?"
    assert plugins["unmarked"]["warnings"] == ["on_start is not marked with @hookimpl, so it is never called."]
    assert len(problems) == 4


REASONS = {
    ("celestialflow-ahead", "ahead"): (
        "It requires celestialflow-core>=99, and celestialflow-core {version} is installed. Take releases that go "
        "together: python -m pip install --upgrade celestialflow-core celestialflow-ahead"
    ),
    ("celestialflow-echo", "echo"): (
        "More than one distribution has a plugin named 'echo': celestialflow-echo 1.0 and celestialflow-echo-fork 1.0. "
        "Uninstall one, or switch it off by its distribution: CELESTIALFLOW_DISABLE_PLUGINS=celestialflow-echo."
    ),
    ("celestialflow-echo-fork", "echo"): (
        "More than one distribution has a plugin named 'echo': celestialflow-echo 1.0 and celestialflow-echo-fork 1.0. "
        "Uninstall one, or switch it off by its distribution: CELESTIALFLOW_DISABLE_PLUGINS=celestialflow-echo-fork."
    ),
    ("celestialflow-hollow", "hollow-class"): (
        "executor_factories is a method of a class that was not instantiated. Give an instance: Hollow()."
    ),
    ("celestialflow-hollow", "hollow-function"): (
        "It is the function executor_factories, and hooks are looked for in a module or an object. Give the one that "
        "has it: celestialflow_hollow."
    ),
    ("celestialflow-hollow", "hollow-gone"): (
        "Importing celestialflow_hollow:gone raised AttributeError: module 'celestialflow_hollow' has no attribute "
        "'gone'. Its entry point names what the module does not have: whoever makes the distribution has to correct "
        "that in its pyproject.toml."
    ),
    ("celestialflow-hollow", "hollow-nowhere"): (
        "Importing celestialflow_hollow_nowhere raised ModuleNotFoundError: No module named "
        "'celestialflow_hollow_nowhere'. That is a module of celestialflow-hollow itself: its files are damaged, or "
        "its entry point names a wrong one. Install it anew: python -m pip install --force-reinstall --no-deps "
        "celestialflow-hollow"
    ),
}


def test_command_says_why_plugins_cannot_work_here(environment: Any) -> None:
    """Each with its reason, in the table and in JSON; what only a run can find out is active."""
    done = environment.celestialflow("plugins", "--json", plugins=UNFIT)
    table = environment.celestialflow("plugins", plugins=UNFIT, COLUMNS="1000")
    answer = json.loads(done.stdout)
    version = next(one["version"] for one in answer["plugins"] if one["name"] == "serial")

    assert (done.returncode, done.stderr, table.returncode, table.stderr) == (1, "", 1, "")
    failed = {(one["distribution"], one["name"]): one["reason"] for one in answer["plugins"] if one["reason"]}
    assert failed == {plugin: reason.format(version=version) for plugin, reason in REASONS.items()}
    assert table.stdout.splitlines()[-2 * len(failed) - 1 :: 2][:-1] == [
        f"FAILED  The plugin {name!r} of {distribution} 1.0 cannot be used: {reason}"
        for (distribution, name), reason in failed.items()
    ]
    assert {one["name"] for one in answer["plugins"] if one["state"] == "active"} == {*CORE, "hollow", "lazy"}


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("plugins", "--help")], ids=" ".join)
def test_command_line_works_with_every_plugin_broken(environment: Any, arguments: tuple[str, ...]) -> None:
    """Help and version are there whatever is installed."""
    done = environment.celestialflow(*arguments, plugins=BROKEN)

    assert done.returncode == 0
    assert "Traceback" not in done.stderr


def test_broken_plugins_take_no_run_down(environment: Any) -> None:
    """A run that uses none of them goes on, with one warning for each problem."""
    done = environment.python(run(", execution_mode='echo'"), *BROKEN, "celestialflow-echo")

    assert done.returncode == 0
    assert json.loads(done.stdout) == {"a": "A!", "b": "B!"}  # the marked hook of celestialflow-unmarked is active
    assert done.stderr.count("PluginWarning: ") == 4


def test_warnings_come_once_a_process(environment: Any) -> None:
    """A second run says nothing again."""
    done = environment.python(run() * 3, "celestialflow-broken")

    assert done.returncode == 0
    assert done.stderr.count("PluginWarning: The plugin 'broken' of celestialflow-broken 1.0 cannot be used: ") == 1


MESSAGES = {
    "broken": (
        "PluginError: The plugin 'broken' of celestialflow-broken 1.0 cannot be used: Importing "
        "celestialflow_broken:plugin raised ModuleNotFoundError: "
        "No module named 'celestialflow_engine_that_is_not_installed'."
    ),
    "broken executor": (
        "PluginError: The executor 'broken' is not there. The plugin 'broken' of celestialflow-broken 1.0 cannot be "
        "used: Importing celestialflow_broken:plugin raised"
    ),
    "engine of an executor": (
        "PluginError: The executor 'lazy' cannot be made: the factory of the plugin 'lazy' of celestialflow-lazy 1.0 "
        "raised ModuleNotFoundError: No module named 'celestialflow_engine_elsewhere'. celestialflow-lazy requires "
        "celestialflow-engine-elsewhere>=2, which is not installed. Install it: python -m pip install "
        "'celestialflow-engine-elsewhere>=2'"
    ),
    "engine of a sink": (
        "PluginError: The sink 'lazy' cannot be made: the factory of the plugin 'lazy' of "
        "celestialflow-lazy 1.0 raised ModuleNotFoundError: No module named 'celestialflow_engine_elsewhere'. "
        "celestialflow-lazy requires celestialflow-engine-elsewhere>=2, which is not installed. Install it: python -m "
        "pip install 'celestialflow-engine-elsewhere>=2'"
    ),
    "other core": (
        "PluginError: The executor 'ahead' is not there. The plugin 'ahead' of celestialflow-ahead 1.0 cannot be "
        "used: It requires celestialflow-core>=99, and celestialflow-core 0."
    ),
    "other core, by name": (
        "PluginError: The plugin 'ahead' of celestialflow-ahead 1.0 cannot be used: It requires celestialflow-core>=99"
    ),
    "name of two": (
        "PluginError: The executor 'echo' is not there. The plugin 'echo' of celestialflow-echo 1.0 cannot be used: "
        "More than one distribution has a plugin named 'echo': celestialflow-echo 1.0 and celestialflow-echo-fork 1.0."
    ),
    "no executor": (
        "PluginError: The executor 'hollow' cannot be made: the factory of the plugin 'hollow' of celestialflow-hollow "
        "1.0 gave None, which is not an executor: it needs start, submit, stop, slots and capabilities (see "
        "celestialflow_core.executors.Executor)."
    ),
    "no sink": (
        "PluginError: The sink 'hollow' cannot be made: the factory of the plugin 'hollow' of celestialflow-hollow 1.0 "
        "gave None, which is not a sink: it needs open, write and close (see celestialflow_core.sinks.Sink)."
    ),
    "twins": (
        "PluginError: More than one plugin declares the executor 'twin': 'twin-one' of celestialflow-twin-one 1.0 and "
        "'twin-two' of celestialflow-twin-two 1.0. Remove one of them, or switch it off: "
        "CELESTIALFLOW_DISABLE_PLUGINS=celestialflow-twin-two."
    ),
    "typo": (
        "PluginError: The plugin 'typo' of celestialflow-typo 1.0 cannot be used: "
        "There is no hook named 'on_sucess'. Did you mean 'on_success'?"
    ),
    "unknown": (
        "UnknownExecutor: No executor is named 'ecoh'. Installed: async, echo, process, serial, thread. "
        "Did you mean 'echo'?"
    ),
}


@pytest.mark.parametrize(
    ("options", "plugins", "message"),
    [
        (", plugins=['broken']", ("celestialflow-broken",), "broken"),
        (", execution_mode='broken'", ("celestialflow-broken",), "broken executor"),
        (", execution_mode='lazy'", ("celestialflow-lazy",), "engine of an executor"),
        (", sinks=['lazy:results']", ("celestialflow-lazy",), "engine of a sink"),
        (", execution_mode='ahead'", ("celestialflow-ahead",), "other core"),
        (", plugins=['ahead']", ("celestialflow-ahead",), "other core, by name"),
        (", execution_mode='echo'", ("celestialflow-echo", "celestialflow-echo-fork"), "name of two"),
        (", execution_mode='hollow'", ("celestialflow-hollow",), "no executor"),
        (", sinks=['hollow:results']", ("celestialflow-hollow",), "no sink"),
        (", execution_mode='twin'", ("celestialflow-twin-one", "celestialflow-twin-two"), "twins"),
        (", plugins=['typo']", ("celestialflow-typo",), "typo"),
        (", execution_mode='ecoh'", ("celestialflow-echo",), "unknown"),
    ],
    ids=MESSAGES,
)
def test_run_that_needs_a_broken_plugin_says_why(
    environment: Any, options: str, plugins: tuple[str, ...], message: str
) -> None:
    """What a run names must work, and the error says which distribution does not, and why."""
    done = environment.python(run(options), *plugins)

    assert done.returncode == 1
    assert MESSAGES[message] in done.stderr


@pytest.mark.parametrize(
    ("executor", "environ"),
    [("only-one", {}), ("only-two", {}), ("twin", {"CELESTIALFLOW_DISABLE_PLUGINS": "celestialflow-twin-two"})],
    ids=["first", "second", "other disabled"],
)
def test_clash_concerns_only_its_name(environment: Any, executor: str, environ: dict[str, str]) -> None:
    """Other executors of two clashing plugins work, and the clashing one once its rival is switched off."""
    done = environment.python(
        run(f", execution_mode={executor!r}"), "celestialflow-twin-one", "celestialflow-twin-two", **environ
    )

    assert (done.returncode, json.loads(done.stdout or "null")) == (0, {"a": "A", "b": "B"})


@pytest.mark.parametrize(
    ("environ", "states"),
    [
        ({"CELESTIALFLOW_PLUGINS": "echo"}, {"echo": "active", "mask": "disabled"}),
        ({"CELESTIALFLOW_DISABLE_PLUGINS": "celestialflow-echo"}, {"echo": "disabled", "mask": "active"}),
        ({"CELESTIALFLOW_PLUGIN_AUTOLOAD": "0"}, {"echo": "disabled", "mask": "disabled"}),
    ],
    ids=["only", "disable", "no autoload"],
)
def test_environment_switches_plugins(environment: Any, environ: dict[str, str], states: dict[str, str]) -> None:
    """Each variable does what it says, and the core's own executors stay."""
    code, plugins, _ = listed(environment, "celestialflow-echo", "celestialflow-mask", **environ)

    assert code == 0
    assert states == {name: plugins[name]["state"] for name in states}
    assert {"active"} == {plugins[name]["state"] for name in ("async", "process", "serial", "thread")}


def test_strict_makes_a_broken_plugin_fatal(environment: Any) -> None:
    """With CELESTIALFLOW_STRICT_PLUGINS=1 a run does not go on without an installed plugin."""
    done = environment.python(run(), "celestialflow-broken", CELESTIALFLOW_STRICT_PLUGINS="1")

    assert done.returncode == 1
    assert "PluginError: CELESTIALFLOW_STRICT_PLUGINS=1 allows no such plugin. The plugin 'broken'" in done.stderr


def test_registry_of_an_installed_environment(environment: Any) -> None:
    """Without a manager: the factory of an installed executor makes it, and its module is imported by then."""
    done = environment.python(
        "from celestialflow_core.plugins import installed, resolve\n"
        "registry = installed()\n"
        "print(registry.executors, type(registry.executor_factory('echo')(3)).__module__)\n"
        "print([hook.plugin for hook in resolve(registry).on_error])",
        "celestialflow-echo",
        "celestialflow-mask",
    )

    assert done.stdout.splitlines() == [
        "('async', 'echo', 'process', 'serial', 'thread') celestialflow_echo",
        "['mask']",
    ]
    assert done.stderr == ""
