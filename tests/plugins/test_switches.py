"""The environment variables that switch plugins."""

from __future__ import annotations

import pytest

from celestialflow_core.plugins.switches import Switches, normalise

pytestmark = pytest.mark.pure


def off(environ: dict[str, str], name: str, distribution: str | None) -> bool:
    return bool(Switches.of(environ).reason_off(name, distribution))


def test_nothing_set_loads_everything() -> None:
    """Installed means active."""
    assert not off({}, "dask", "celestialflow-dask")


@pytest.mark.parametrize(
    "text", ["dask", "celestialflow-dask", "Celestialflow_Dask", " x , dask ,", "celestialflow.dask"]
)
def test_disable_knows_plugins_and_distributions(text: str) -> None:
    """A plugin is disabled by its own name or its distribution's, however that is spelled."""
    environ = {"CELESTIALFLOW_DISABLE_PLUGINS": text}

    assert off(environ, "dask", "celestialflow-dask")
    assert not off(environ, "ray", "celestialflow-ray")


@pytest.mark.parametrize(
    ("text", "dask", "ray"), [("dask", True, False), ("celestialflow_ray,dask", True, True), ("", False, False)]
)
def test_plugins_allows_only_those(text: str, dask: bool, ray: bool) -> None:
    """CELESTIALFLOW_PLUGINS is the whole list; set but empty, it allows none."""
    environ = {"CELESTIALFLOW_PLUGINS": text}

    assert (dask, ray) == (
        not off(environ, "dask", "celestialflow-dask"),
        not off(environ, "ray", "celestialflow-ray"),
    )


@pytest.mark.parametrize(
    ("text", "loaded"), [("0", False), ("false", False), ("No", False), ("off", False), ("1", True), ("", True)]
)
def test_autoload_can_be_switched_off(text: str, loaded: bool) -> None:
    """CELESTIALFLOW_PLUGIN_AUTOLOAD=0 loads what is named, and nothing else."""
    environ = {"CELESTIALFLOW_PLUGIN_AUTOLOAD": text}

    assert off(environ, "dask", None) is not loaded
    assert not off(environ | {"CELESTIALFLOW_PLUGINS": "dask"}, "dask", None)


def test_disable_wins_over_plugins() -> None:
    """A name in both lists is off."""
    assert off({"CELESTIALFLOW_PLUGINS": "dask", "CELESTIALFLOW_DISABLE_PLUGINS": "dask"}, "dask", None)


@pytest.mark.parametrize(("text", "strict"), [("1", True), ("yes", True), ("0", False), ("", False)])
def test_strict_is_a_truth_value(text: str, strict: bool) -> None:
    """CELESTIALFLOW_STRICT_PLUGINS is read as a truth value."""
    assert Switches.of({"CELESTIALFLOW_STRICT_PLUGINS": text}).strict is strict


def test_normalise_is_that_of_package_indexes() -> None:
    """Runs of dashes, dots and underscores are one dash, and case does not matter."""
    assert {"my-plugin-x"} == {normalise(name) for name in ("my-plugin-x", "My_Plugin.X", "my__plugin-._x")}
