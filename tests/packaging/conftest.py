"""Real distributions, built as wheels and installed with pip into a fresh environment, without a network.

The environment has the wheel of the core and its run-time dependencies, which are linked to the running environment's;
nothing else, so that neither the checkout nor other plugins are in sight. A third-party distribution is installed into
a folder of its own, and is there for those programs that are started with it. So is one of ours, under plugins/.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DISTRIBUTIONS = Path(__file__).parent / "distributions"
PLUGINS = ROOT / "plugins"


class Environment:
    """An environment with the core, for programs with any of the distributions beside this file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._bin = folder / "venv" / "bin"
        self._installed: dict[str, Path] = {}
        venv.create(folder / "venv", with_pip=True)
        (site,) = (folder / "venv").glob("lib/python*/site-packages")
        declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
        link(files_of(declared), site)
        pip = [str(self._bin / "python"), "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
        self._install = [*pip, "--disable-pip-version-check"]
        # Where the tests run on a built wheel there is no source to build another from, and that one is to be tested.
        check([*self._install, os.environ.get("CORE_WHEEL") or str(self._wheel(ROOT))])

    def python(self, code: str, *distributions: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run *code* in an interpreter that has the core and *distributions*."""
        return self._run([str(self._bin / "python"), "-c", code], distributions, environ)

    def celestialflow(
        self, *arguments: str, plugins: tuple[str, ...] = (), **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the console script with the distributions *plugins*."""
        return self._run([str(self._bin / "celestialflow"), *arguments], plugins, environ)

    def pytest(self, folder: Path, distribution: str) -> subprocess.CompletedProcess[str]:
        """Run the tests in *folder* with pytest, and with *distribution*."""
        library = self._folder / "pytest"
        if not library.exists():
            library.mkdir()
            link(files_of(["pytest"]), library)
        command = [str(self._bin / "python"), "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)]
        return self._run(command, (distribution,), {}, library)

    def install(self, project: Path) -> None:
        """Build the wheel of *project*, and install it as the distribution of that name."""
        site = self._folder / project.name
        check([*self._install, "--target", str(site), str(self._wheel(project))])
        self._installed[project.name] = site

    def _run(
        self, command: list[str], distributions: tuple[str, ...], environ: dict[str, str], *libraries: Path
    ) -> subprocess.CompletedProcess[str]:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("CELESTIALFLOW", "PYTHON"))
        }
        path = os.pathsep.join(map(str, [*map(self._site, distributions), *libraries]))
        return subprocess.run(
            command,
            env={**inherited, "PYTHONPATH": path, "COLUMNS": "200", **environ},
            cwd=self._folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def _site(self, name: str) -> Path:
        """The folder into which the distribution *name* is installed, which happens once."""
        if name not in self._installed:
            self.install(PLUGINS / name if (PLUGINS / name).is_dir() else DISTRIBUTIONS / name)
        return self._installed[name]

    def _wheel(self, project: Path) -> Path:
        wheels = self._folder / "wheels" / project.name
        check([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(wheels)], project)
        (wheel,) = wheels.glob("*.whl")
        return wheel


def check(command: list[str], folder: Path | None = None) -> None:
    """Run *command*, and fail with what it printed."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        pytest.fail(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


def link(paths: set[Path], folder: Path) -> None:
    """Let *folder* have *paths*."""
    for path in paths:
        (folder / path.name).symlink_to(path)


def files_of(requirements: list[str]) -> set[Path]:
    """What *requirements*, and what they require, consist of in the running environment, as files and folders."""
    wanted = [named(line) for line in requirements]
    found: set[Path] = set()
    seen: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name in seen:
            continue
        seen.add(name)
        distribution = importlib.metadata.distribution(name)
        for file in distribution.files or ():
            if file.parts[0] not in ("..", "__pycache__"):
                found.add(Path(str(distribution.locate_file(file.parts[0]))))
        for requirement in distribution.requires or ():
            if ";" not in requirement:
                wanted.append(named(requirement))
    return found


def named(requirement: str) -> str:
    """The distribution that a requirement is about."""
    return re.split(r"[^\w.-]", requirement.strip())[0]


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The environment, made once."""
    return Environment(tmp_path_factory.mktemp("packaging"))
