"""``celestialflow plugins``: everything that is installed, and what is wrong with it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from celestialflow_core.plugins.markers import hookimpl


class Watches:
    """A plugin with two hooks."""

    @hookimpl
    def on_error(self, outcome: Any) -> None: ...

    @hookimpl(tryfirst=True)
    def process_result(self, result: Any) -> Any: ...


class Declares:
    """A plugin with an executor and a sink."""

    @hookimpl
    def executor_factories(self) -> Any:
        return {"pool": print}

    @hookimpl
    def sink_factories(self) -> Any:
        return {"bucket": print}


class Forgets:
    """A plugin with an unmarked hook."""

    def on_start(self, manager: Any) -> None: ...


def by_name(done: Any) -> dict[str, Any]:
    return {plugin["name"]: plugin for plugin in json.loads(done.stdout)["plugins"]}


def test_table_lists_every_plugin(invoke: Any) -> None:
    """A line a plugin: name, distribution, state, executors, sinks and hooks, the core's among them."""
    done = invoke("plugins", watches=Watches(), declares=Declares())

    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "PLUGIN    DISTRIBUTION                STATE   EXECUTORS  SINKS   HOOKS",
        "async     celestialflow-core          active  async              executor_factories",
        "jsonl     celestialflow-core          active             jsonl   sink_factories",
        "process   celestialflow-core          active  process            executor_factories",
        "serial    celestialflow-core          active  serial             executor_factories",
        "sqlite    celestialflow-core          active             sqlite  sink_factories",
        "thread    celestialflow-core          active  thread             executor_factories",
        "declares  celestialflow-declares 1.0  active  pool       bucket  executor_factories, sink_factories",
        "watches   celestialflow-watches 1.0   active                     on_error, process_result",
    ]


@pytest.mark.parametrize("columns", [20, 60, 100])
def test_table_fits_the_terminal(invoke: Any, columns: int) -> None:
    """The last column is wrapped under itself; no line is wider than the terminal or what the other columns need."""

    class Everything(Watches):
        on_success = on_start = on_finish = on_retry = hookimpl(lambda self: None)
        task_key = get_args = hookimpl(lambda self: None)

    lines = invoke("plugins", everything=Everything(), columns=columns).stdout.splitlines()

    hooks = lines[0].index("HOOKS")
    assert max(map(len, lines)) <= max(columns, hooks + 24)
    words = "".join(line[hooks:] + " " for line in lines if line.startswith(("everything", " "))).split()
    assert words == [
        "get_args,",
        "on_error,",
        "on_finish,",
        "on_retry,",
        "on_start,",
        "on_success,",
        "process_result,",
        "task_key",
    ]


def test_failed_plugin_exits_with_one(invoke: Any) -> None:
    """A failed plugin is in the list with its reason below it, and the command says so to a script."""
    done = invoke("plugins", broken=ImportError("no engine"), watches=Watches())

    assert done.exit_code == 1
    assert "broken   celestialflow-broken 1.0   failed" in done.stdout
    assert "FAILED  The plugin 'broken' of celestialflow-broken 1.0 cannot be used: Importing" in done.stdout
    assert "watches  celestialflow-watches 1.0  active" in done.stdout


def test_warnings_are_shown_and_are_no_failure(invoke: Any) -> None:
    """A suspicious plugin is listed with its warning; the exit code is 0."""
    done = invoke("plugins", forgets=Forgets())

    assert done.exit_code == 0
    assert "WARNING The plugin 'forgets' of celestialflow-forgets 1.0: on_start is not marked with" in done.stdout


def test_disabled_plugins_are_shown_on_demand(invoke: Any) -> None:
    """A disabled plugin is counted, and listed with the reason by --all."""
    environ = {"CELESTIALFLOW_DISABLE_PLUGINS": "watches"}

    brief = invoke("plugins", environ=environ, watches=Watches())
    full = invoke("plugins", "--all", environ=environ, watches=Watches())

    assert brief.exit_code == full.exit_code == 0
    assert "watches " not in brief.stdout
    assert "Disabled and not shown: 1. --all shows them, with the reason." in brief.stdout
    assert "watches  celestialflow-watches 1.0  disabled" in full.stdout
    assert "OFF     watches: CELESTIALFLOW_DISABLE_PLUGINS names it." in full.stdout


def test_hooks_are_shown_in_call_order(invoke: Any) -> None:
    """--hooks has a line a hook, with the plugins in the order in which they are called."""
    lines = invoke("plugins", "--hooks", a=Watches(), b=Watches(), x=Declares()).stdout.splitlines()

    assert "on_error            b, a" in lines
    assert "executor_factories  x, thread, serial, process, async" in lines
    assert "on_start            -" in lines


def test_json_has_everything(invoke: Any) -> None:
    """--json gives a program all that is known, whatever is broken."""
    done = invoke("plugins", "--json", "--all", a=Watches(), b=ImportError("no"), c=Forgets(), d=SystemExit(1))

    assert done.exit_code == 1
    plugins = by_name(done)
    assert {name: plugins[name]["state"] for name in "abcd"} == {
        "a": "active",
        "b": "failed",
        "c": "active",
        "d": "failed",
    }
    assert plugins["a"] == {
        "name": "a",
        "distribution": "celestialflow-a",
        "version": "1.0",
        "module": "celestialflow_a",
        "state": "active",
        "reason": "",
        "warnings": [],
        "executors": [],
        "sinks": [],
        "hooks": ["on_error", "process_result"],
        "traceback": "",
    }
    assert plugins["b"]["reason"] == "Importing celestialflow_b:plugin raised ImportError: no."
    assert "ImportError: no" in plugins["b"]["traceback"]
    assert json.loads(done.stdout)["hooks"]["on_error"] == ["a"]
    assert len(json.loads(done.stdout)["problems"]) == 3


def test_json_leaves_out_disabled_plugins_unless_asked(invoke: Any) -> None:
    """--all means the same with --json."""
    environ = {"CELESTIALFLOW_PLUGINS": "a"}

    assert "b" not in by_name(invoke("plugins", "--json", environ=environ, a=Watches(), b=Watches()))
    assert (
        by_name(invoke("plugins", "--json", "--all", environ=environ, a=Watches(), b=Watches()))["b"]["state"]
        == "disabled"
    )


def test_help_has_examples(invoke: Any) -> None:
    """The help of a command shows how it is used."""
    assert "celestialflow plugins --all --json" in invoke("plugins", "--help").stdout
