"""A command line whose plugins are made by the test, here or as a program; and a module of functions."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

import celestialflow_core
from celestialflow_core._cli.main import command_line
from celestialflow_core.plugins.registry import Registry


class FakeEntryPoint:
    """An entry point of a distribution of its own."""

    def __init__(self, name: str, plugin: object) -> None:
        self.name = name
        self.value = f"celestialflow_{name}:plugin"
        self.dist = SimpleNamespace(name=f"celestialflow-{name}", version="1.0")
        self._plugin = plugin

    def load(self) -> Any:
        if isinstance(self._plugin, BaseException):
            raise self._plugin
        return self._plugin


Invoke = Callable[..., Result]


@pytest.fixture
def invoke() -> Invoke:
    """Runs the command line with plugins given by name; an exception is what importing one raises."""

    def run(*arguments: str, environ: Mapping[str, str] | None = None, columns: int = 100, **plugins: object) -> Result:
        points = [FakeEntryPoint(name, plugin) for name, plugin in plugins.items()]
        cli = command_line(lambda: Registry.load(points, environ or {}))
        return CliRunner().invoke(cli, arguments, prog_name="celestialflow", env={"COLUMNS": str(columns)})

    return run


JOB = """
import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent

def double(x):
    return x * 2

def same(x):
    return x

def add(a, b):
    return a + b

def fail(x):
    raise ValueError(f"no {x}")

def odd_fails(x):
    if x % 2 and not (HERE / "fixed").exists():
        raise ValueError(f"{x} is odd")
    return x

def pair(x):
    return (x, x)

def loss(x):
    return {"loss": float("nan"), "at": (x, 0.5), (1, 2): {3}}

def pid(x):
    return os.getpid()

def sleep(seconds):
    (HERE / f"began-{seconds}").touch()
    time.sleep(seconds)
    (HERE / f"ended-{seconds}").touch()
    return seconds

def loud(x):
    print("printed", x)
    sys.stdout.flush()
    os.write(1, b"written\\n")
    subprocess.run(["echo", "echoed"])
    return x

async def later(x):
    await asyncio.sleep(0)
    return x

NUMBER = 7

class Group:
    @staticmethod
    def triple(x):
        return x * 3
"""


@pytest.fixture
def job(own_folder: Path) -> Iterator[Path]:
    """The file ``job.py`` of functions in the folder of the test; nothing of it stays in this process."""
    modules, path = set(sys.modules), list(sys.path)
    file = own_folder / "job.py"
    file.write_text(JOB)
    sys.modules.pop("job", None)
    yield file
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(own_folder)):
            del sys.modules[name]
    sys.path[:] = path


@pytest.fixture
def run(job: Path) -> Invoke:
    """Runs a command of the command line, in this process, where ``job.py`` is."""

    def invoke(*arguments: str, input: str | None = None) -> Result:
        cli = command_line(lambda: Registry.load([], {}))
        return CliRunner().invoke(cli, arguments, prog_name="celestialflow", input=input, env={"COLUMNS": "100"})

    return invoke


SCRIPT = "from celestialflow_core._cli.main import main; main()"


@pytest.fixture
def command(job: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the command line in an interpreter of its own, where ``job.py`` is, and kills it at the end."""
    started: list[subprocess.Popen[str]] = []
    home = str(Path(celestialflow_core.__file__).parents[1])

    def start(
        *arguments: str | bytes, environ: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[str]:
        given = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        around = {**os.environ, "PYTHONPATH": home, **(environ or {})}
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, *arguments], env=around, cwd=job.parent, text=True, **given
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        process.wait()
