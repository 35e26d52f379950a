"""What the package promises: its names, where they come from, and that nothing else is public."""

from __future__ import annotations

import importlib
import pickle

import pytest

import celestialflow_core

pytestmark = pytest.mark.pure

PUBLIC = [
    "celestialflow_core",
    "celestialflow_core.errors",
    "celestialflow_core.executors",
    "celestialflow_core.graph",
    "celestialflow_core.plugins",
    "celestialflow_core.sinks",
    "celestialflow_core.sinks.files",
]
NAMES = {
    "Backoff",
    "CelestialFlowError",
    "CommandFailed",
    "Counts",
    "ErrorGroup",
    "ExecutorError",
    "Family",
    "GraphError",
    "GraphStatus",
    "HookError",
    "NotPicklable",
    "Outcome",
    "PluginError",
    "RemoteError",
    "RunInProgress",
    "RunSummary",
    "SinkError",
    "StageStatus",
    "Stop",
    "TaskAbandoned",
    "TaskGraph",
    "TaskManager",
    "TaskTimeout",
    "TooManyErrors",
    "UnknownExecutor",
    "UnknownSink",
    "WorkerCrashed",
    "WorkerSetupError",
    "current_worker",
    "hookimpl",
}


def test_package_has_these_names() -> None:
    """A name that is added or taken away is a decision."""
    assert set(celestialflow_core.__all__) == NAMES
    assert list(celestialflow_core.__all__) == sorted(celestialflow_core.__all__)
    assert set(dir(celestialflow_core)) >= NAMES


@pytest.mark.parametrize("module", PUBLIC)
def test_every_name_can_be_imported(module: str) -> None:
    """Each name of ``__all__`` is there, and is the same object each time."""
    loaded = importlib.import_module(module)
    for name in loaded.__all__:
        assert getattr(loaded, name) is getattr(loaded, name)


@pytest.mark.parametrize("module", [*PUBLIC, "celestialflow_core.testing"])
def test_unknown_name_is_an_attribute_error(module: str) -> None:
    """With the module and the name."""
    loaded = importlib.import_module(module)
    with pytest.raises(AttributeError, match=f"module '{module}' has no attribute 'nothing'"):
        _ = loaded.nothing


def test_version_is_known() -> None:
    """That of the installed distribution."""
    assert celestialflow_core.__version__[0].isdigit()


def test_classes_of_users_are_pickled_by_their_names() -> None:
    """What users keep or send can be loaded again."""
    for value in (celestialflow_core.Backoff(), celestialflow_core.Stop(errors=3), celestialflow_core.Counts(taken=3)):
        assert pickle.loads(pickle.dumps(value)) == value
