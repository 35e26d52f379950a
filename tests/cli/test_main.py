"""The group of commands: plugins add to it, and none can break it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import click
import pytest
from click.testing import CliRunner

from celestialflow_core._cli.main import command_line
from celestialflow_core.plugins.markers import hookimpl
from celestialflow_core.plugins.registry import Registry


class Adds:
    """A plugin that adds a command."""

    def __init__(self, name: str = "hello", text: str = "hello from a plugin") -> None:
        self.name = name
        self.text = text

    @hookimpl
    def register_commands(self, cli: click.Group) -> None:
        @cli.command(self.name)
        def command() -> None:
            """Greet."""
            click.echo(self.text)


class Breaks:
    """A plugin that adds a command and then fails."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    @hookimpl
    def register_commands(self, cli: click.Group) -> None:
        cli.add_command(click.Command("half"))
        raise self.error


def test_plugin_adds_a_command(invoke: Any) -> None:
    """A command of a plugin is run and is in the help."""
    assert invoke("hello", adds=Adds()).output == "hello from a plugin\n"
    assert "hello       Greet." in invoke("--help", adds=Adds()).output


@pytest.mark.parametrize("error", [ValueError("oh no"), SystemExit(9)], ids=repr)
def test_broken_command_is_a_warning(invoke: Any, error: BaseException) -> None:
    """A plugin that fails to register its commands has none; those of the others work."""
    plugins = {"breaks": Breaks(error), "adds": Adds()}

    done = invoke("hello", **plugins)

    assert (done.exit_code, done.stdout) == (0, "hello from a plugin\n")
    assert f"Warning: The commands of plugin 'breaks' are left out: {type(error).__name__}: {error}" in done.stderr
    assert "half" not in invoke("--help", **plugins).stdout


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("plugins", "--help")], ids=" ".join)
def test_command_line_works_with_every_plugin_broken(invoke: Any, arguments: tuple[str, ...]) -> None:
    """Help and version do not depend on plugins."""
    done = invoke(*arguments, a=ImportError("gone"), b=SystemExit(3), c=Breaks(RuntimeError()))

    assert done.exit_code == 0
    assert "celestialflow" in done.stdout


def test_version_and_plugins_ask_no_plugin_for_commands(invoke: Any) -> None:
    """What the core answers itself calls no hook of a plugin."""

    class Counts:
        calls = 0

        @hookimpl
        def register_commands(self, cli: click.Group) -> None:
            self.calls += 1

    counts = Counts()

    assert invoke("--version", counts=counts).exit_code == 0
    assert invoke("plugins", counts=counts).exit_code == 0
    assert counts.calls == 0
    assert invoke("--help", counts=counts).exit_code == 0
    assert counts.calls == 1


def test_plugins_are_asked_for_commands_once() -> None:
    """However often a command is looked up, a plugin registers its commands once."""
    cli = command_line(lambda: Registry.load([], {}).with_plugins([Adds()]))

    assert [CliRunner().invoke(cli, [name]).exit_code for name in ("hello", "nothing", "nothing")] == [0, 2, 2]


def test_command_of_the_core_cannot_be_replaced(invoke: Any) -> None:
    """A plugin's command with a name of the core is left out, with a warning."""
    plugin = Adds("plugins", "mine")

    assert "mine" not in invoke("plugins", adds=plugin).stdout
    assert (
        "The command 'plugins' of plugin 'adds' is left out: there is one of this name."
        in invoke("--help", adds=plugin).stderr
    )


def test_one_command_of_two_plugins_is_that_of_the_first_called(invoke: Any) -> None:
    """Of two commands of one name the plugin that comes first in call order keeps its own, with a warning."""
    done = invoke("hello", a=Adds(text="a"), b=Adds(text="b"))

    assert done.stdout == "b\n"
    assert "The command 'hello' of plugin 'a' is left out" in done.stderr


def test_unknown_command_is_wrong_usage(invoke: Any) -> None:
    """A command that nobody has exits with 2, and says which plugins could not be loaded."""
    done = invoke("nothing", a=ImportError("gone"))

    assert done.exit_code == 2
    assert "No such command 'nothing'" in done.stderr
    assert "Warning: The plugin 'a' of celestialflow-a 1.0 cannot be used" in done.stderr


def test_console_script_runs_the_command_line() -> None:
    """The entry point of the console script reads the program's arguments and exits with the command's code."""
    code = "from celestialflow_core._cli.main import main; main()"  # it keeps the signals of its process to the end

    done = subprocess.run(
        [sys.executable, "-c", code, "plugins", "--nonsense"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert done.stderr.startswith("Usage: celestialflow plugins [OPTIONS]")
