"""``celestialflow plugins``: what is installed, what state it is in, and in which order hooks are called."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from celestialflow_core.plugins.loading import PluginInfo
    from celestialflow_core.plugins.registry import Registry

__all__ = ["plugins"]


@click.command(
    epilog=(
        "\b\nExamples:\n"
        "  celestialflow plugins                what is installed, and what is wrong with it\n"
        "  celestialflow plugins --all --json   the same for a program, disabled ones too\n"
        "  celestialflow plugins --hooks        the call order of every hook"
    )
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--all", "show_all", is_flag=True, help="Show the disabled plugins too.")
@click.option("--hooks", "show_hooks", is_flag=True, help="Show the plugins of each hook, in call order.")
@click.pass_obj
def plugins(load_plugins: Callable[[], Registry], as_json: bool, show_all: bool, show_hooks: bool) -> None:
    """List the plugins: distribution, version, state, executors, sinks and hooks.

    The order is that of registration; hooks are called in the opposite order, the last plugin first, unless an
    implementation asks for another place (see --hooks). Exits with 1 if a plugin failed.
    """
    from celestialflow_core.plugins.implementations import SPECS
    from celestialflow_core.plugins.resolve import implementations

    registry = load_plugins()
    shown = [info for info in registry.plugins if show_all or info.state != "disabled"]
    order = {hook: [found.plugin for found in implementations(registry, hook)] for hook in sorted(SPECS)}
    if as_json:
        import json

        click.echo(json.dumps({
            "plugins": [_as_dict(info) for info in shown],
            "hooks": {hook: names for hook, names in order.items() if names},
            "problems": [*registry.failures, *registry.suspicions],
        }, indent=2))  # fmt: skip
    elif show_hooks:
        click.echo(_table([("HOOK", "CALLED IN THIS ORDER"), *_order_rows(order)]))
    else:
        click.echo(_table([("PLUGIN", "DISTRIBUTION", "STATE", "EXECUTORS", "SINKS", "HOOKS"), *map(_row, shown)]))
    if not as_json:
        for line in _remarks(registry, show_all):
            click.echo(line)
    if registry.failures:
        raise SystemExit(1)


def _as_dict(info: PluginInfo) -> dict[str, object]:
    return {
        "name": info.name,
        "distribution": info.distribution,
        "version": info.version,
        "module": info.module,
        "state": info.state,
        "reason": info.reason,
        "warnings": list(info.warnings),
        "executors": list(info.executors),
        "sinks": list(info.sinks),
        "hooks": list(info.hooks),
        "traceback": info.details,
    }


def _row(info: PluginInfo) -> tuple[str, ...]:
    return info.name, info.source, info.state, ", ".join(info.executors), ", ".join(info.sinks), ", ".join(info.hooks)


def _order_rows(order: dict[str, list[str]]) -> Iterable[tuple[str, ...]]:
    return ((hook, ", ".join(names) or "-") for hook, names in order.items())


def _remarks(registry: Registry, show_all: bool) -> Iterable[str]:
    """What is wrong, in sentences, below the table."""
    import shutil
    import textwrap

    width = max(60, shutil.get_terminal_size().columns)
    disabled = [info for info in registry.plugins if info.state == "disabled"]
    texts = [f"FAILED  {text}" for text in registry.failures]
    texts += [f"WARNING {text}" for text in registry.suspicions]
    if show_all:
        texts += [f"OFF     {info.name}: {info.reason}" for info in disabled]
    elif disabled:
        texts.append(f"Disabled and not shown: {len(disabled)}. --all shows them, with the reason.")
    if any(info.details for info in registry.plugins):
        texts.append("--json shows the tracebacks.")
    for text in texts:
        yield ""
        yield from textwrap.wrap(text, width, subsequent_indent="        ", break_on_hyphens=False)


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    """Columns as wide as their widest cell; the last one is wrapped at the width of the terminal."""
    import shutil
    import textwrap

    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    indent = sum(widths) + 2 * len(widths)
    width = max(indent + 24, shutil.get_terminal_size().columns)
    lines = []
    for *cells, last in rows:
        start = "".join(f"{cell:<{size}}  " for cell, size in zip(cells, widths, strict=True))
        wrapped = textwrap.wrap(last, width - indent, break_long_words=False, break_on_hyphens=False) or [""]
        lines.append((start + wrapped[0]).rstrip())
        lines += [" " * indent + more for more in wrapped[1:]]
    return "\n".join(lines)
