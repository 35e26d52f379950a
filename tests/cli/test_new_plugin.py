"""``celestialflow new-plugin``: what it makes, and what it refuses. Whether that works is tested in packaging."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest

from celestialflow_core._cli.new_plugin import KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_new_plugin_has_all_files_and_no_gap(kind: str, invoke: Any, own_folder: Path) -> None:
    """Every file is printed, and in none of them a place is left to be filled."""
    done = invoke("new-plugin", "my-own", "--kind", kind)

    assert done.exit_code == 0
    folder = own_folder / "celestialflow-my-own"
    found = {str(path.relative_to(own_folder)) for path in folder.rglob("*") if path.is_file()}
    assert set(done.output.split("\n\n")[0].split()) == found
    assert {name.split("/")[-1] for name in found} >= {"pyproject.toml", "README.md", "CHANGELOG.md", "py.typed"}
    assert f"cd {folder.name} && python -m pip install -e . pytest && python -m pytest" in done.output
    (begin,) = re.findall(r"It works as it is. Begin to change it in (\S+)\.\n", done.output)
    assert begin in found
    for name in found:
        text = (own_folder / name).read_text(encoding="utf-8")
        assert "MODULE" not in text + name
        assert "${" not in text


def test_new_plugin_is_named_as_plugins_are(invoke: Any, own_folder: Path) -> None:
    """Distribution, module and entry point follow from the name; it may be given with what all names begin with."""
    assert invoke("new-plugin", "celestialflow-my-own", "--kind", "hooks", "--path", "some/where").exit_code == 0

    folder = own_folder / "some" / "where" / "celestialflow-my-own"
    settings = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    assert settings["project"]["name"] == "celestialflow-my-own"
    assert settings["project"]["entry-points"]["celestialflow"] == {"my-own": "celestialflow_my_own"}
    assert settings["project"]["dependencies"][0].startswith("celestialflow-core>=")
    assert (folder / "src" / "celestialflow_my_own" / "__init__.py").is_file()


def test_command_that_is_shown_can_be_pasted(invoke: Any, own_folder: Path) -> None:
    """Also where the path has spaces."""
    done = invoke("new-plugin", "mine", "--kind", "hooks", "--path", "some where")

    (line,) = [line for line in done.output.splitlines() if line.startswith("  cd ")]
    assert shlex.split(line)[:3] == ["cd", "some where/celestialflow-mine", "&&"]


@pytest.mark.parametrize("name", ["", "Dask", "my_own", "-x", "x-", "2x", "a--b", "a/b", "é", "celestialflow-"])
def test_name_that_cannot_be_one_is_refused(name: str, invoke: Any, own_folder: Path) -> None:
    """The message says what a name is made of; nothing is written."""
    done = invoke("new-plugin", "--kind", "hooks", "--", name)

    assert done.exit_code == 2
    assert "cannot be the name of a plugin. Use small letters, digits and single hyphens" in done.stderr
    assert list(own_folder.iterdir()) == []


@pytest.mark.parametrize("name", ["core", "thread", "celestialflow-async"])
def test_name_of_the_core_is_refused(name: str, invoke: Any, own_folder: Path) -> None:
    """A plugin of such a name would clash with what is always installed."""
    done = invoke("new-plugin", name, "--kind", "executor")

    assert done.exit_code == 2
    assert f"{name.removeprefix('celestialflow-')!r} is a name of celestialflow-core itself." in done.stderr
    assert list(own_folder.iterdir()) == []


def test_folder_that_exists_is_left_alone(invoke: Any, own_folder: Path) -> None:
    """Nobody's work is written over."""
    (own_folder / "celestialflow-mine").mkdir()

    done = invoke("new-plugin", "mine", "--kind", "hooks")

    assert done.exit_code == 2
    assert "celestialflow-mine exists. Take another name, or another --path." in done.stderr
    assert list((own_folder / "celestialflow-mine").iterdir()) == []


def test_kind_is_asked_for(invoke: Any) -> None:
    """Without a kind, or with one that is none, the message names those that there are."""
    for arguments in ((), ("--kind", "sinks")):
        done = invoke("new-plugin", "mine", *arguments)
        assert done.exit_code == 2
        assert [kind for kind in KINDS if kind not in done.stderr] == []
