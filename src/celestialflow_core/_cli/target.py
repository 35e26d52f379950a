"""Finds the function that a command names: "module:function", or "./file.py:function"."""

from __future__ import annotations

import importlib
import importlib.util
import os
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from celestialflow_core._cli.ending import Broken

__all__ = ["find", "lookup"]


def find(target: str) -> tuple[Callable[..., Any], str]:
    """The function that *target* names, and the same in a way that holds in another folder.

    The working folder comes first on the search path, as for ``python -m``; the folder of a file, as for a script.

    Raises:
        click.UsageError: There is no such module or function; says what was probably meant.
        Broken: The module cannot be imported.
    """
    place, colon, name = target.rpartition(":")
    if not colon or not place or not name:
        raise click.UsageError(f"{target!r} names no function: it must be like module:function.{_dotted(target)}")
    importlib.invalidate_caches()
    if place.endswith(".py") or os.sep in place:
        path = Path(place).absolute()
        module, where = _import_file(path), f"{path}:{name}"
    else:
        _search(os.getcwd())
        module, where = _import(place), target
    found = lookup(module, name, place)
    if not callable(found):
        raise click.UsageError(f"{target!r} is no function but {type(found).__name__}, which cannot be called.")
    return found, where


def lookup(module: ModuleType, name: str, place: str) -> Any:
    """What the dotted *name* means in *module*, which the user calls *place*.

    Raises:
        click.UsageError: There is nothing of this name.
    """
    found: Any = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise click.UsageError(
                f"There is no {part!r} in {place if found is module else name.rpartition('.')[0]!s}."
                f"{_meant(part, _callables(found))}"
            ) from None
    return found


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        near = [str(other.name) for other in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise click.UsageError(f"There is no file {str(path)!r}.{_meant(path.name, near)}")
    _search(str(path.parent))
    name = path.stem
    if _is_module(name, path):
        return _import(name)
    # Its name is no identifier, or another module has it: then it gets one of its own, and travels by value to workers.
    name = f"celestialflow_target_{abs(hash(str(path))):x}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise click.UsageError(f"{str(path)!r} is no Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _cannot_be_imported(str(path), error) from error
    return module


def _is_module(name: str, path: Path) -> bool:
    """True if importing *name* gives the file *path*."""
    if not name.isidentifier():
        return False
    loaded = sys.modules.get(name)
    if loaded is not None:
        origin = getattr(loaded, "__file__", None)
    else:
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            return False
        origin = None if spec is None else spec.origin
    try:
        return origin is not None and os.path.samefile(origin, path)
    except OSError:
        return False


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name == missing or name.startswith(f"{missing}."):
            raise click.UsageError(f"There is no module {missing!r}.{_meant(missing, _modules(missing))}") from None
        raise _cannot_be_imported(name, error) from error
    except (Exception, SystemExit) as error:
        raise _cannot_be_imported(name, error) from error


def _search(folder: str) -> None:
    if folder not in sys.path and not sys.flags.safe_path:
        sys.path.insert(0, folder)


def _cannot_be_imported(place: str, error: BaseException) -> Broken:
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename not in (__file__, importlib.__file__) and not frame.filename.startswith("<frozen importlib")
    ]
    trace = "".join([*traceback.format_list(frames), *traceback.format_exception_only(error)]).rstrip()
    advice = ""
    if isinstance(error, SystemExit):
        advice = " It ends the program: put what it does as a script under `if __name__ == '__main__':`."
    return Broken(f"{place} cannot be imported.{advice}\n{trace}")


def _dotted(target: str) -> str:
    """A hint for somebody who wrote a dot for the colon."""
    module, dot, name = target.rpartition(".")
    if not dot or not module:
        return ""
    if name == "py":
        return f" For a function in that file: {target}:function."
    _search(os.getcwd())
    try:
        there = importlib.util.find_spec(module.partition(".")[0]) is not None
    except ValueError:
        there = False
    return f" Did you mean {module}:{name}?" if there else ""


def _modules(missing: str) -> Iterable[str]:
    """The modules among which *missing* was looked for."""
    package, dot, _ = missing.rpartition(".")
    if not dot:
        return [*sys.stdlib_module_names, *(info.name for info in pkgutil.iter_modules())]
    path = getattr(sys.modules.get(package), "__path__", [])
    return [f"{package}.{info.name}" for info in pkgutil.iter_modules(path)]


def _callables(place: object) -> list[str]:
    """The public functions of *place*; of a module those that are its own come first."""
    own = getattr(place, "__name__", None)
    names = [name for name in dir(place) if not name.startswith("_") and callable(getattr(place, name, None))]
    return sorted(names, key=lambda name: (getattr(getattr(place, name), "__module__", None) != own, name))


def _meant(word: str, possible: Iterable[str]) -> str:
    from difflib import get_close_matches

    names = list(dict.fromkeys(possible))
    close = get_close_matches(word, names, 1)
    if close:
        return f" Did you mean {close[0]!r}?"
    shown = [name for name in names if not name.startswith("_")]
    return f" It has {', '.join(shown)}." if 0 < len(shown) <= 12 else ""
