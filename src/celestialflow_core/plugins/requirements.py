"""What the distribution of a plugin requires, against what is installed: why a plugin cannot work, and what to install.

pip sees to that when it installs something, and to nothing afterwards: a core that was taken back to an older release,
an engine that was uninstalled, or ``--no-deps``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from typing import TYPE_CHECKING

import attrs
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from celestialflow_core.plugins.builtin import CORE
from celestialflow_core.plugins.switches import normalise

if TYPE_CHECKING:
    from celestialflow_core.plugins.loading import PluginInfo

__all__ = ["advice", "refusal"]

_EXTRA = re.compile(r"""\bextra\s*==\s*["']([^"']+)["']""")


@attrs.frozen
class Need:
    """One line of what a distribution requires, that holds here.

    Attributes:
        text: The line, without its marker, as pip takes it.
        name: The distribution that it is about, as names are compared.
        specifier: Which versions are fine.
        extra: The extra that it belongs to, or "".
    """

    text: str
    name: str
    specifier: SpecifierSet
    extra: str

    @property
    def installed(self) -> str | None:
        """The version that is installed; None where it is not there."""
        return _installed(self.name)

    @property
    def met(self) -> bool:
        """Whether it is installed, in a version that is fine or cannot be judged."""
        version = self.installed
        if version is None:
            return False
        try:
            release = Version(version)
        except InvalidVersion:
            return True
        # What is installed is, pre-release or not.
        return self.specifier.contains(release, prereleases=True)


def refusal(owner: str, requires: Iterable[str] | None) -> str:
    """That *owner* requires another core than the one that is installed, and what to do; "" where it does not."""
    for wanted in _read(requires):
        if wanted.name == CORE and not wanted.extra and wanted.installed and not wanted.met:
            return (
                f"It requires {wanted.text}, and {CORE} {wanted.installed} is installed. Take releases that go "
                f"together: python -m pip install --upgrade {CORE} {owner}"
            )
    return ""


def advice(error: ImportError, info: PluginInfo) -> str:
    """What to install after *error*; "" where nothing can be said.

    Args:
        error: What importing a plugin, or what it imports later, raised.
        info: The plugin.
    """
    owner = info.distribution
    if owner is None:
        return ""
    # An ImportError of another kind names a module that is there, and too old or too new.
    absent = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if absent and absent == info.module.partition(".")[0]:
        return (
            f"That is a module of {owner} itself: its files are damaged, or its entry point names a wrong one. "
            f"Install it anew: python -m pip install --force-reinstall --no-deps {owner}"
        )
    unmet = [wanted for wanted in _read(_requires(owner)) if not wanted.met]
    for wanted in unmet:
        if wanted.extra and wanted.name == normalise(absent):
            return f"{owner} requires it with an extra: python -m pip install '{owner}[{wanted.extra}]'"
    unmet = [wanted for wanted in unmet if not wanted.extra]
    if unmet:
        said = "; and ".join(_unmet(wanted) for wanted in unmet)
        command = " ".join(f"'{wanted.text}'" for wanted in unmet)
        return f"{owner} requires {said}. Install it: python -m pip install {command}"
    return f"Nothing that {owner} requires is missing, so install what has the module {absent!r}." if absent else ""


def _unmet(wanted: Need) -> str:
    version = wanted.installed
    return f"{wanted.text}, which is not installed" if version is None else f"{wanted.text}, and {version} is installed"


def _read(requires: Iterable[str] | None) -> Iterator[Need]:
    for line in requires or ():
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        marker, extra = requirement.marker, _EXTRA.search(str(requirement.marker or ""))
        requirement.marker = None
        if extra is not None or marker is None or marker.evaluate():
            name, text = normalise(requirement.name), str(requirement)
            yield Need(text, name, requirement.specifier, extra[1] if extra else "")


def _requires(name: str) -> list[str] | None:
    try:
        return distribution(name).requires
    except PackageNotFoundError:
        return None


def _installed(name: str) -> str | None:
    try:
        return distribution(name).version or ""
    except PackageNotFoundError:
        return None
