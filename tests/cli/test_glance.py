"""The quick look for plugins, before ``--help``: it may say yes too often, and never no where there are some."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from celestialflow_core._cli.glance import any_plugins

OURS = "[celestialflow]\nthread = celestialflow_core.plugins.builtin:thread\n"


def install(folder: Path, text: str, metadata: str = "it-1.0.dist-info") -> None:
    (folder / metadata).mkdir(parents=True)
    (folder / metadata / "entry_points.txt").write_text(text)


@pytest.mark.parametrize(
    ("text", "there"),
    [
        ("[console_scripts]\nx = y:z\n", False),
        (OURS, False),
        (f"{OURS}\n[other]\nx = y:z\n", False),
        (f"{OURS}mine = mine:plugin\n", True),
        ("[console_scripts]\nx = y:z\n[celestialflow]\n# a comment\nmine = mine:plugin\n", True),
    ],
)
@pytest.mark.parametrize("metadata", ["it-1.0.dist-info", "it.egg-info", "it.egg/EGG-INFO"])
def test_plugins_are_seen_in_metadata(own_folder: Path, metadata: str, text: str, there: bool) -> None:
    """Entry points of anybody but the core, in any form in which a distribution is installed."""
    install(own_folder / "other", "[console_scripts]\n", "other-1.0.dist-info")
    install(own_folder / "site", text, metadata)

    assert any_plugins([str(own_folder / "other"), "nowhere", str(own_folder / "site")], {}) is there


def test_what_cannot_be_looked_into_may_have_plugins(own_folder: Path) -> None:
    """A zip file on the path is left to the real search, and so is a plugin that is asked for by name."""
    with zipfile.ZipFile(own_folder / "all.zip", "w") as file:
        file.writestr("x.py", "")

    assert any_plugins([str(own_folder / "all.zip")], {})
    assert any_plugins([], {"CELESTIALFLOW_PLUGINS": "mine"})
    assert not any_plugins([], {})
