"""I6: an import loads nothing but itself, a hook that nobody implements costs nothing, no Outcome is built in vain."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from celestialflow_core import Outcome, TaskManager, hookimpl
from celestialflow_core._driver import stage

LOADED = """
import sys
before = set(sys.modules)
{statement}
print(*sorted(set(sys.modules) - before))
"""


def loaded_by(child: Any, statement: str) -> set[str]:
    """The modules that *statement* loads in a fresh interpreter."""
    with child(LOADED.format(statement=statement)) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return set(out.split())


def test_import_loads_nothing_but_itself(child: Any) -> None:
    """No pluggy, attrs, loguru, asyncio, tqdm, and not even typing: one file."""
    assert loaded_by(child, "import celestialflow_core") <= {"celestialflow_core", "__future__"}


HEAVY = {"loguru", "tqdm", "asyncio", "multiprocessing", "cloudpickle", "click", "sqlite3", "concurrent", "logging"}


def test_first_manager_loads_pluggy_and_attrs_and_no_more(child: Any) -> None:
    """The name alone loads neither; log, bar, event loops and processes come when they are needed."""
    statement = "from celestialflow_core import TaskManager"
    name = {module.partition(".")[0] for module in loaded_by(child, statement)}
    made = {module.partition(".")[0] for module in loaded_by(child, f"{statement}; TaskManager(abs, 'thread')")}
    assert not name & {"pluggy", "attr", *HEAVY}
    assert {"pluggy", "attr"} <= made
    assert not made & HEAVY


def test_serial_run_loads_the_log_and_no_executor_but_its_own(child: Any) -> None:
    """No bar, no cloudpickle, no other executor."""
    modules = loaded_by(
        child,
        "from celestialflow_core import TaskManager; TaskManager(abs, log_dir=None, log_level='ERROR').start([1])",
    )
    executors = {name.rpartition(".")[2] for name in modules if name.startswith("celestialflow_core.executors.")}
    assert "serial" in executors
    assert not executors & {"thread", "aio", "process", "futures", "loop_thread"}
    assert not {name.partition(".")[0] for name in modules} & {"tqdm", "cloudpickle", "click"}


def test_names_are_loaded_when_they_are_used(child: Any) -> None:
    """An error class costs an error class."""
    modules = loaded_by(child, "from celestialflow_core import TaskTimeout, WorkerCrashed")
    assert {name for name in modules if name.startswith("celestialflow_core")} == {
        "celestialflow_core",
        "celestialflow_core.errors",
    }


class Told:
    """A plugin that consumes outcomes of successes."""

    @hookimpl
    def on_success(self, outcome: Any) -> None:
        """Nothing."""


def test_no_outcome_is_built_that_nobody_consumes(mode: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """start with caches on and no hook builds none; with on_success, one a task."""
    built: list[int] = []
    real = Outcome

    def counting(id: int, *args: Any, **options: Any) -> Any:
        built.append(id)
        return real(id, *args, **options)

    monkeypatch.setattr(stage, "Outcome", counting)
    mode.manager(abs, enable_success_cache=True).start(range(50))
    assert built == []
    mode.manager(abs, plugins=[Told()]).start(range(50))
    assert sorted(built) == list(range(50))


def test_hooks_are_resolved_once_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """pluggy is asked at the beginning, and not again for any task."""
    module = importlib.import_module("celestialflow_core.plugins.resolve")
    asked: list[str] = []
    real = module.implementations

    def counting(registry: Any, hook: str) -> Any:
        asked.append(hook)
        return real(registry, hook)

    monkeypatch.setattr(module, "implementations", counting)
    TaskManager(str, plugins=[Told()], log_dir=None).start(range(100))
    assert asked == ["on_success"]
