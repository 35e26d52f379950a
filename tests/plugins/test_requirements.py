"""Why a plugin cannot work, and what to install: read from the metadata of distributions on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from celestialflow_core.plugins.loading import PluginInfo
from celestialflow_core.plugins.requirements import advice, refusal

pytestmark = pytest.mark.pure

OWNER = "celestialflow-disk"
INFO = PluginInfo(name="disk", distribution=OWNER, version="1.0", module="celestialflow_disk.plugin")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of distributions in front of all others."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def install(site: Path, name: str, version: str, *requires: str) -> None:
    """Put the metadata of a distribution into *site*."""
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {line}" for line in requires)]
    (info / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", *lines, ""]))


@pytest.mark.parametrize(
    ("requirement", "shown"),
    [
        ("celestialflow-core>=0.3", "celestialflow-core>=0.3"),
        ("celestialflow_core (<0.2)", "celestialflow_core<0.2"),
        ("CelestialFlow.Core[all] ~= 1.0, !=1.1", "CelestialFlow.Core[all]!=1.1,~=1.0"),
    ],
)
def test_other_core_is_named_with_both_versions(site: Path, requirement: str, shown: str) -> None:
    """However the requirement is spelled; the command is one that pip takes."""
    install(site, "celestialflow-core", "0.2.5")

    assert refusal(OWNER, ["attrs", requirement]) == (
        f"It requires {shown}, and celestialflow-core 0.2.5 is installed. Take releases that go together: "
        "python -m pip install --upgrade celestialflow-core celestialflow-disk"
    )


@pytest.mark.parametrize(
    "requires",
    [
        None,
        [],
        ["celestialflow-core"],
        ["celestialflow-core>=0.2,<0.3"],
        ["celestialflow-core>=9; python_version > '9'"],
        ["celestialflow-core>=9; extra == 'next'"],
        ["celestialflow-core @ https://example.org/core.whl"],
        ["celestialflow-core>=soon", "???"],
        ["celestialflow-http>=9"],
    ],
    ids=repr,
)
def test_core_that_may_be_right_is_not_refused(site: Path, requires: list[str] | None) -> None:
    """Nor is one where that cannot be read, or may not hold here; other distributions are not looked at."""
    install(site, "celestialflow-core", "0.2.5")

    assert refusal(OWNER, requires) == ""


def test_engine_that_is_not_installed_is_named_as_it_is_required(site: Path) -> None:
    """All that is missing or of a wrong version, in one command."""
    install(
        site, OWNER, "1.0", "engine-elsewhere >= 2", "wheel-of-it[fast] < 3", "there>=1", "other; sys_platform=='x'"
    )
    install(site, "wheel-of-it", "3.1")
    install(site, "there", "1.5")

    assert advice(ModuleNotFoundError("no engine", name="engine.pool"), INFO) == (
        "celestialflow-disk requires engine-elsewhere>=2, which is not installed; and wheel-of-it[fast]<3, and 3.1 is "
        "installed. Install it: python -m pip install 'engine-elsewhere>=2' 'wheel-of-it[fast]<3'"
    )


def test_engine_of_a_wrong_version_is_named(site: Path) -> None:
    """An import of a name that an old release does not have is no missing module."""
    install(site, OWNER, "1.0", "engine>=2")
    install(site, "engine", "1.0")

    assert advice(ImportError("cannot import name 'Pool' from 'engine'", name="engine"), INFO) == (
        "celestialflow-disk requires engine>=2, and 1.0 is installed. Install it: python -m pip install 'engine>=2'"
    )


def test_engine_whose_version_cannot_be_read_is_not_blamed(site: Path) -> None:
    """It may be the right one."""
    install(site, OWNER, "1.0", "engine>=2")
    install(site, "engine", "from-a-checkout")

    assert advice(ImportError("cannot import name 'Pool' from 'engine'", name="engine"), INFO) == ""


def test_engine_of_an_extra_is_installed_with_the_extra(site: Path) -> None:
    """What is required only with an extra is asked for by the extra."""
    install(site, OWNER, "1.0", "celestialflow-core", "fast_engine>=1; extra == 'fast'")

    assert advice(ModuleNotFoundError("no", name="fast_engine"), INFO) == (
        "celestialflow-disk requires it with an extra: python -m pip install 'celestialflow-disk[fast]'"
    )


def test_module_of_the_plugin_itself_is_told_apart(site: Path) -> None:
    """No other distribution would bring it."""
    install(site, OWNER, "1.0", "engine>=1")

    assert advice(ModuleNotFoundError("no", name="celestialflow_disk.pool"), INFO) == (
        "That is a module of celestialflow-disk itself: its files are damaged, or its entry point names a wrong one. "
        "Install it anew: python -m pip install --force-reinstall --no-deps celestialflow-disk"
    )


def test_module_that_nobody_requires_is_named(site: Path) -> None:
    """Which distribution has it, nobody can know."""
    install(site, OWNER, "1.0")

    assert advice(ModuleNotFoundError("no", name="engine.pool"), INFO) == (
        "Nothing that celestialflow-disk requires is missing, so install what has the module 'engine'."
    )
    assert advice(ImportError("no"), INFO) == ""


def test_plugin_of_no_distribution_gets_no_advice() -> None:
    """An object in plugins=[...] requires nothing that could be read."""
    assert advice(ModuleNotFoundError("no", name="engine"), PluginInfo(name="x", module="__main__")) == ""
