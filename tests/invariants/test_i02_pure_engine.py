"""I2: the engine has no thread, clock, sleep, random or file; the same events give the same run."""

from __future__ import annotations

import ast
import random
from pathlib import Path
from typing import Any

import pytest

import celestialflow_core._engine
from celestialflow_core._engine.machine import Engine
from celestialflow_core.testing import FakeClock

pytestmark = pytest.mark.pure

FOLDER = Path(celestialflow_core._engine.__file__).parent
PURE = {"__future__", "collections", "enum", "heapq", "itertools", "typing", "celestialflow_core"}
IMPURE_BUILTINS = {"open", "print", "input", "exec", "eval", "__import__", "id", "hash"}


@pytest.mark.parametrize("module", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_engine_module_uses_nothing_that_is_not_pure(module: Path) -> None:
    """Its imports are containers and types, and it calls no builtin that touches the world."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    imported: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
    assert imported <= PURE
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert not called & IMPURE_BUILTINS


def replay(seed: int) -> tuple[str, str, list[Any]]:
    """A run of random events, told with moments of a fake clock."""
    dice, clock = random.Random(seed), FakeClock()
    engine: Engine[int, int] = Engine(max_in_flight=50)
    given = 0
    for _ in range(200):
        clock.advance(dice.random())
        running = list(range(given))
        dice.shuffle(running)
        running = [id for id in running if engine.is_running(id)]
        event = dice.randrange(5)
        if event == 0:
            ids = range(given, given + min(50 - engine.in_flight, dice.randrange(5)))
            given += len(ids)
            engine.admit(ids, [id % 30 for id in ids], [id % 30 for id in ids], clock.now)
        elif event == 1:
            engine.submit(dice.randrange(4), clock.now)
        elif event == 2:
            engine.succeed(running[:2], clock.now)
        elif event == 3 and running:
            engine.retry(running[0], dice.random() * 3, clock.now)
        else:
            engine.wake(clock.now)
        engine.check()
    return repr(engine), engine.story(7), list(engine.journal)


@pytest.mark.parametrize("seed", range(5))
def test_same_events_give_the_same_run(seed: int) -> None:
    """Nothing but what it is told decides, down to the journal."""
    assert replay(seed) == replay(seed)
