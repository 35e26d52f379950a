"""`PluginContract` finds out what is wrong with a plugin: each fault, put into a good one, fails its test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PLUGIN = """
from celestialflow_core import hookimpl


def make_executor(worker_limit=None, **options):
    import wave
    raise RuntimeError(wave)


def make_sink(url):
    raise RuntimeError(url)


class Plugin:
    @hookimpl
    def executor_factories(self):
        return {"odd": make_executor}

    @hookimpl
    def sink_factories(self):
        return {"odd": make_sink}

    @hookimpl
    def on_finish(self, summary):
        pass


plugin = Plugin()
"""

TEST = """
from celestialflow_core.testing import PluginContract

class TestOdd(PluginContract):
    plugin = "odd:plugin"
    forbidden = ("wave",)

class TestTheSame(PluginContract):
    from odd import plugin
    forbidden = ("wave",)
"""

FAULTS: dict[str, tuple[tuple[str, str], str, str]] = {
    "heavy import": (("", "import wave"), "test_import_is_thin", "Loading it imports wave."),
    "heavy hook": (("return {", "import wave; return {"), "test_import_is_thin", "Loading it imports wave."),
    "part of what is forbidden": (
        ("", "import xml.dom.minidom"),
        "test_import_is_thin",
        "Loading it imports xml.dom",
    ),
    "thread": (
        ("", "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()"),
        "test_import_is_thin",
        "Loading it starts threads.",
    ),
    "print": (("", "print('hello')"), "test_import_is_thin", "Loading it prints something."),
    "misspelled hook": (
        ("on_finish", "on_finnish"),
        "test_every_hook_is_known",
        "There is no hook named 'on_finnish'.",
    ),
    "no mark": (
        ("@hookimpl\n    def on_fin", "def on_fin"),
        "test_every_hook_is_known",
        "is not marked with @hookimpl",
    ),
    "no hook": (("@hookimpl\n", "\n"), "test_every_hook_is_known", "is not marked with @hookimpl"),
    "no factory": (("make_sink}", "3}"), "test_factories_can_be_called", "a factory must be callable."),
    "factory without the limit": (
        ("worker_limit=None, **options", "*, worker_limit=None"),
        "test_factories_can_be_called",
        "takes no argument by position; it is called as factory(worker_limit, **options)",
    ),
    "factory without the url": (
        ("make_sink(url)", "make_sink()"),
        "test_factories_can_be_called",
        "takes no argument by",
    ),
    "fact of a wrong type": (
        ("plugin = P", "make_executor.capabilities = {'timeout'}\nplugin = P"),
        "test_factories_can_be_called",
        "capabilities of 'odd' must be a frozenset.",
    ),
    "names that change": (
        ('{"odd": make_sink', '{__import__("os").urandom(9).hex(): make_sink'),
        "test_factories_can_be_called",
        "It declares other names each time: first (('odd',), ('",
    ),
    "name of another executor": (
        ('{"odd": make_executor', '{"thread": make_executor'),
        "test_names_are_its_own",
        "declares the executor 'thread' too.",
    ),
    "name of another sink": (
        ('{"odd": make_sink', '{"sqlite": make_sink'),
        "test_names_are_its_own",
        "declares the sink 'sqlite' too.",
    ),
    "broken hook": (("return {", "1 / 0; return {"), "test_plugin_is_installed_and_active", "ZeroDivisionError"),
}
"""What is written in place of what in the plugin, the test that must find it, and what that says."""

Contract = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run_contract(own_folder: Path) -> Contract:
    """Runs the contract in an interpreter of its own, against a plugin that is installed there."""

    def run(
        plugin: str, *arguments: str, test: str = TEST, points: str = "odd = odd:plugin", **environ: str
    ) -> subprocess.CompletedProcess[str]:
        (own_folder / "odd.py").write_text(plugin)
        (own_folder / "test_it.py").write_text(test)
        info = own_folder / "odd-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1\n")
        (info / "entry_points.txt").write_text(f"[celestialflow]\n{points}\n")
        path = os.pathsep.join([str(own_folder), *filter(None, sys.path)])
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments, "test_it.py"],
            env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", **environ},
            capture_output=True,
            text=True,
            timeout=250,
            check=False,
        )

    return run


def test_good_plugin_passes(run_contract: Contract) -> None:
    """Given by what its entry point says, and as an object."""
    done = run_contract(PLUGIN)

    assert done.returncode == 0, done.stdout
    assert "10 passed" in done.stdout


@pytest.mark.parametrize("fault", FAULTS)
def test_contract_finds_the_fault(run_contract: Contract, fault: str) -> None:
    """The test that is there for it fails, and says what is wrong."""
    (old, new), name, said = FAULTS[fault]
    changed = PLUGIN.replace(old, new) if old else f"{new}\n{PLUGIN}"
    assert changed != PLUGIN
    test = TEST.replace('"wave"', '"wave", "xml.dom"')

    done = run_contract(changed, "-k", f"TestOdd and {name}", test=test)

    assert done.returncode == 1, done.stdout
    assert f"FAILED test_it.py::TestOdd::{name}" in done.stdout
    assert said in done.stdout


@pytest.mark.parametrize(
    ("points", "environ", "said"),
    [
        ("", {}, "No installed distribution has an entry point in the group 'celestialflow'"),
        ("other = odd:Plugin", {}, "is a method of a class that was not instantiated"),
        ("odd = odd:plugin", {"CELESTIALFLOW_DISABLE_PLUGINS": "odd"}, "CELESTIALFLOW_DISABLE_PLUGINS"),
    ],
)
def test_plugin_that_is_not_active_fails(
    run_contract: Contract, points: str, environ: dict[str, str], said: str
) -> None:
    """Not installed, by an entry point that leads elsewhere, or switched off: the message says which."""
    done = run_contract(PLUGIN, "-k", "test_plugin_is_installed_and_active", points=points, **environ)

    assert done.returncode == 1, done.stdout
    assert done.stdout.count(said) >= 2  # for both classes


def test_name_of_two_distributions_fails(run_contract: Contract, own_folder: Path) -> None:
    """Both are named, since neither can be used."""
    info = own_folder / "even-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: even\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[celestialflow]\nodd = odd:plugin\n")

    done = run_contract(PLUGIN, "-k", "TestOdd and test_names_are_its_own")

    assert done.returncode == 1, done.stdout
    assert "has a plugin 'odd' too." in done.stdout


def test_forbidden_module_that_there_is_not_fails(run_contract: Contract) -> None:
    """A misspelled one would never be found, whatever the plugin imports."""
    done = run_contract(PLUGIN, "-k", "TestOdd and thin", test=TEST.replace("wave", "wayve"))

    assert done.returncode == 1, done.stdout
    assert "There is no module 'wayve', so that forbidding it proves nothing." in done.stdout


def test_class_without_a_plugin_says_what_to_define(run_contract: Contract) -> None:
    """A TypeError, as of the other contracts."""
    test = "from celestialflow_core.testing import PluginContract\nclass TestNone(PluginContract): pass\n"

    done = run_contract(PLUGIN, test=test)

    assert done.returncode == 1, done.stdout
    assert "TestNone must define plugin: what its entry point says." in done.stdout
