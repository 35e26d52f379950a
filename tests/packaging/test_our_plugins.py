"""The distributions under plugins/, each built as a wheel and installed beside the core."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = [folder for folder in sorted((ROOT / "plugins").iterdir()) if (folder / "pyproject.toml").is_file()]
PLUGINS = {folder.name: folder for folder in FOLDERS}


def project(name: str) -> dict[str, Any]:
    """What the pyproject.toml of the plugin *name* says of it."""
    table: dict[str, Any] = tomllib.loads((PLUGINS[name] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return table


@pytest.mark.parametrize("name", PLUGINS)
def test_installed_plugin_is_listed_and_active(name: str, environment: Any) -> None:
    """``celestialflow plugins`` shows what its wheel declares, with its version, and has nothing to complain of.

    Nothing but the core is installed beside it, so its module imports none of its dependencies.
    """
    done = environment.celestialflow("plugins", "--json", plugins=(name,))
    answer = json.loads(done.stdout)

    found = {plugin["name"]: plugin for plugin in answer["plugins"] if plugin["distribution"] == name}
    assert (done.returncode, answer["problems"]) == (0, [])
    assert set(found) == set(project(name)["entry-points"]["celestialflow"])
    assert {(plugin["state"], plugin["version"]) for plugin in found.values()} == {("active", project(name)["version"])}


def test_installed_plugins_get_along(environment: Any) -> None:
    """All of them at once: no name is taken twice."""
    done = environment.celestialflow("plugins", plugins=tuple(PLUGINS))

    assert done.returncode == 0, done.stdout
    assert [name for name in PLUGINS if f"  {name} " not in done.stdout] == []


def test_page_shows_what_is_listed(environment: Any) -> None:
    """The table on the page is the one that the command prints, and there is a row for each plugin."""
    page = (ROOT / "docs" / "how-to" / "use-plugins.md").read_text(encoding="utf-8")
    done = environment.celestialflow("plugins", plugins=tuple(PLUGINS))

    assert f"$ celestialflow plugins\n{done.stdout}```" in page
    assert [name for name in PLUGINS if f"| [`{name}`](../../plugins/{name}/README.md) |" not in page] == []


@pytest.mark.parametrize("name", PLUGINS)
def test_wheel_of_a_plugin_is_typed(name: str, environment: Any) -> None:
    """py.typed ships."""
    module = name.replace("-", "_")
    done = environment.python(
        f"import {module}, pathlib; print((pathlib.Path({module}.__file__).parent / 'py.typed').is_file())", name
    )

    assert done.stdout == "True\n", done.stderr


@pytest.mark.parametrize("name", PLUGINS)
def test_plugin_has_what_a_distribution_needs(name: str) -> None:
    """A license of its own beside it, pages, and the oldest core with which it works."""
    table = project(name)

    assert table["name"] == name
    assert table["license"] == "MIT"
    assert [file for file in ("README.md", "CHANGELOG.md", "LICENSE") if not (PLUGINS[name] / file).is_file()] == []
    assert [line for line in table["dependencies"] if line.startswith("celestialflow-core>=")] != []
