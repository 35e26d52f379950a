"""The group of all commands, and its entry point.

The commands of the core are there at once. Plugins are asked for theirs (hook ``register_commands``) only when a
command is looked up that the core does not have, and for ``--help``; each in its own try. So ``--version``, ``plugins``
and ``--help`` work whatever is installed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from celestialflow_core._cli.new_plugin import new_plugin
from celestialflow_core._cli.plugins import plugins
from celestialflow_core.plugins.registry import Registry
from celestialflow_core.plugins.resolve import implementations

__all__ = ["Commands", "command_line", "main"]


class Commands(click.Group):
    """A group that asks the plugins for commands when it needs them.

    Args:
        load_plugins: Gives the plugins.
    """

    def __init__(self, *args: Any, load_plugins: Callable[[], Registry], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._load_plugins = load_plugins
        self._asked = False

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands, for ``--help``."""
        self._ask_plugins()
        return super().list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command called *cmd_name*; the core's own cannot be replaced."""
        if cmd_name not in self.commands:
            self._ask_plugins()
        return super().get_command(ctx, cmd_name)

    def _ask_plugins(self) -> None:
        if self._asked:
            return
        self._asked = True
        registry = self._load_plugins()
        for text in registry.failures:
            _warn(text)
        for hook in implementations(registry, "register_commands"):
            given = click.Group(self.name)
            try:
                hook.call(given)
            except (Exception, SystemExit) as error:
                _warn(f"The commands of plugin {hook.plugin!r} are left out: {type(error).__name__}: {error}")
                continue
            for name, command in given.commands.items():
                if name in self.commands:
                    _warn(f"The command {name!r} of plugin {hook.plugin!r} is left out: there is one of this name.")
                else:
                    self.add_command(command, name)


def command_line(load_plugins: Callable[[], Registry] = Registry.load) -> Commands:
    """The command line, with the plugins that *load_plugins* gives."""
    group = Commands(
        "celestialflow",
        load_plugins=load_plugins,
        help=(
            "Run one function over a pile of tasks, and see what the installed plugins add.\n\n"
            "Exit codes: 0 all is well, 1 something failed, 2 wrong usage.\n\n"
            "\b\nExamples:\n  celestialflow plugins\n  celestialflow plugins --help"
        ),
        context_settings={"help_option_names": ["-h", "--help"], "obj": load_plugins},
    )
    group.params.append(
        click.Option(
            ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version."
        )
    )
    group.add_command(plugins)
    group.add_command(new_plugin)
    return group


def main() -> None:
    """The console script."""
    command_line().main(prog_name="celestialflow")


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted:
        return
    from importlib.metadata import PackageNotFoundError, version

    try:
        click.echo(f"celestialflow-core {version('celestialflow-core')}")
    except PackageNotFoundError:
        click.echo("celestialflow-core, of unknown version: it is on the path but not installed")
    ctx.exit()


def _warn(text: str) -> None:
    click.echo(f"Warning: {text}", err=True)
