"""The group of all commands, and its entry point.

A command of the core is imported when it is looked up; what it needs, when it runs. Plugins are asked for theirs (hook
``register_commands``) only when a command is looked up that the core does not have, and for ``--help``; each in its own
try. So ``--version``, ``plugins`` and ``--help`` work whatever is installed.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from celestialflow_core._cli.ending import ExitCode, endings, plain_warnings
from celestialflow_core._cli.glance import any_plugins
from celestialflow_core._cli.signals import Presses

if TYPE_CHECKING:
    from celestialflow_core.plugins.registry import Registry

__all__ = ["Commands", "command_line", "main"]


CORE = ("run", "results", "failures", "retry", "merge", "new-plugin", "plugins")
"""The commands of the core: each is what a module of this package calls by its own name."""


class Commands(click.Group):
    """A group that asks the plugins for commands when it needs them.

    Args:
        load_plugins: Gives the plugins; None: the installed ones, which are not loaded where there are none.
    """

    def __init__(self, *args: Any, load_plugins: Callable[[], Registry] | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._load_plugins = load_plugins
        self._asked = False

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands, for ``--help``: the core's, in the order in which they are needed, first."""
        self._ask_plugins()
        return [*CORE, *sorted(self.commands)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command called *cmd_name*; the core's own cannot be replaced."""
        if cmd_name in CORE:
            name = cmd_name.replace("-", "_")
            command: click.Command = getattr(import_module(f"celestialflow_core._cli.{name}"), name)
            return command
        if cmd_name not in self.commands:
            self._ask_plugins()
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, and end with the exit code of whatever comes out of it."""
        with endings(), plain_warnings():
            return super().invoke(ctx)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the options of the group: ``--help`` prints, and may find that it cannot."""
        with endings():
            return super().parse_args(ctx, args)

    def _ask_plugins(self) -> None:
        if self._asked:
            return
        self._asked = True
        if self._load_plugins is None and not any_plugins():
            return
        from celestialflow_core.plugins.resolve import implementations

        registry = (self._load_plugins or _installed)()
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
                if name in CORE or name in self.commands:
                    _warn(f"The command {name!r} of plugin {hook.plugin!r} is left out: there is one of this name.")
                else:
                    self.add_command(command, name)


def command_line(load_plugins: Callable[[], Registry] | None = None) -> Commands:
    """The command line, with the plugins that *load_plugins* gives, or the installed ones."""
    group = Commands(
        "celestialflow",
        load_plugins=load_plugins,
        help=(
            "Run one function over a pile of tasks, and see what the installed plugins add.\n\n"
            "Exit codes: 0 all succeeded, 1 something failed, 2 wrong usage, 3 stopped by a rule, 4 the run itself "
            "failed, 130 interrupted.\n\n"
            "\b\nExamples:\n"
            "  celestialflow run math:sqrt 1 4 9\n"
            "  celestialflow run job:fetch -a urls.txt --mode thread -j 50 --store results.db --resume\n"
            "  celestialflow run --help"
        ),
        context_settings={"help_option_names": ["-h", "--help"], "obj": load_plugins or _installed},
    )
    group.params.append(
        click.Option(
            ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version."
        )
    )
    return group


def main() -> None:
    """The console script, in a process of its own, whose signals it keeps to the end."""
    presses = Presses()
    try:
        presses.take_over()
        command_line().main(prog_name="celestialflow")
    except KeyboardInterrupt:
        presses.code = ExitCode.INTERRUPTED  # up to here nothing is called, and so no handler of a signal
        raise SystemExit(ExitCode.INTERRUPTED) from None
    except SystemExit as ending:
        if presses.outside:  # it may have come where click took it for its own, which makes a 1 of it
            presses.code = ExitCode.INTERRUPTED
            raise SystemExit(ExitCode.INTERRUPTED) from None
        presses.code = ending.code
        raise


def _installed() -> Registry:
    from celestialflow_core.plugins.registry import Registry

    return Registry.load()


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
