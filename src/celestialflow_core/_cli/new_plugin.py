"""``celestialflow new-plugin``: a distribution that works, is tested, and can be changed into what is wanted.

The files are those of ``scaffold/common`` and of ``scaffold/<kind>`` beside this module, filled by `string.Template`.
"MODULE" in a path is the name of the module.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

__all__ = ["KINDS", "new_plugin"]

KINDS = {
    "executor": "An executor for celestialflow-core: calls run on threads of its own.",
    "hooks": "Hooks for celestialflow-core: an error that says when to come back is tried again then.",
    "sink": "A sink for celestialflow-core: results in a CSV file, a line a task.",
}
"""What can be made, and how a new distribution describes itself."""

BEGIN = {"executor": "executor.py", "hooks": "__init__.py", "sink": "sink.py"}
"""The file of each kind that its author changes first."""

PREFIX = "celestialflow-"
SUFFIX = ".template"
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", re.ASCII)


@click.command(
    "new-plugin",
    epilog=(
        "\b\nExamples:\n"
        "  celestialflow new-plugin redis --kind executor\n"
        "  celestialflow new-plugin csv --kind sink\n"
        "  celestialflow new-plugin polite --kind hooks --path ~/src"
    ),
)
@click.argument("name")
@click.option("--kind", type=click.Choice(list(KINDS)), required=True, help="What the plugin has.")
@click.option(
    "--path",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="The folder in which the new one is made; by default this one.",
)
def new_plugin(name: str, kind: str, path: Path) -> None:
    """Make a distribution with a plugin: celestialflow-NAME.

    It has a module that works, tests that pass, and all that is needed to build it.
    """
    name = _checked(name.removeprefix(PREFIX))
    values = {
        "name": name,
        "distribution": f"{PREFIX}{name}",
        "module": f"celestialflow_{name.replace('-', '_')}",
        "class_name": "".join(word.capitalize() for word in name.split("-")),
        "description": KINDS[kind],
        "core_version": _core_version(),
    }
    folder = path / values["distribution"]
    if folder.exists():
        raise click.UsageError(f"{folder} exists. Take another name, or another --path.")
    for file, text in _filled(kind, values):
        target = folder / file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        click.echo(target)
    click.echo("\nTo test it, in a virtual environment:")
    click.echo(f"  cd {shlex.quote(str(folder))} && python -m pip install -e . pytest && python -m pytest")
    click.echo(f"\nIt works as it is. Begin to change it in {folder / 'src' / values['module'] / BEGIN[kind]}.")


def _checked(name: str) -> str:
    """*name*, which can be that of a plugin, of a distribution and, with another hyphen, of a module.

    Raises:
        click.UsageError: It cannot.
    """
    if not NAME.fullmatch(name):
        raise click.UsageError(
            f"{name!r} cannot be the name of a plugin. Use small letters, digits and single hyphens, with a letter "
            f"first: redis, my-cluster."
        )
    from celestialflow_core.plugins.builtin import ENTRY_POINTS

    if name == "core" or name in ENTRY_POINTS:
        raise click.UsageError(f"{name!r} is a name of celestialflow-core itself. Take another one.")
    return name


def _core_version() -> str:
    """The oldest core that a new plugin asks for: this one, without what is fixed in it."""
    from celestialflow_core import __version__

    found = re.match(r"\d+\.\d+", __version__)
    return found[0] if found else "0.1"


def _filled(kind: str, values: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The files of a new plugin: their paths, and what is in them."""
    from importlib.resources import files

    for root in ("common", kind):
        for path, template in _templates(files("celestialflow_core._cli") / "scaffold" / root):
            name = path.replace("MODULE", values["module"]).removesuffix(SUFFIX)
            text = Template(template.read_text(encoding="utf-8")).substitute(values)
            yield (".gitignore" if name == "gitignore" else name), text


def _templates(folder: Traversable, above: str = "") -> Iterator[tuple[str, Traversable]]:
    """The templates in *folder* with their paths, sorted."""
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        path = f"{above}{entry.name}"
        if entry.is_dir():
            yield from _templates(entry, f"{path}/")
        elif entry.name.endswith(SUFFIX):
            yield path, entry
