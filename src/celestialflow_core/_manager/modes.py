"""From ``execution_mode`` to an executor, and which options it can keep."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

import attrs

from celestialflow_core._driver.user_code import call
from celestialflow_core._driver.workers import is_async
from celestialflow_core._manager.options import Options
from celestialflow_core.errors import PluginError
from celestialflow_core.executors.interface import AsyncExecutor, Executor
from celestialflow_core.plugins import Registry

__all__ = ["Mode", "choose", "is_coroutine_function"]

# What an option needs of an executor, and what to do where it is missing.
NEEDS = {
    "task_timeout": ("timeout", "it cannot end a running call. Modes that can: thread, process, async"),
    "worker_setup": (
        "setup",
        "it does not run set-up code in its workers. Modes that do: serial, thread, process, async",
    ),
}


@attrs.frozen(kw_only=True, eq=False)
class Mode:
    """How the calls of a manager are executed.

    Attributes:
        name: For logs and messages.
        make: Makes the executor, not started.
        capabilities: What it can do, or None where only the made executor tells.
        is_async: Whether it awaits the function, or None where only the made executor tells.
    """

    name: str
    make: Callable[[], Executor | AsyncExecutor]
    capabilities: frozenset[str] | None
    is_async: bool | None

    def check(self, func: Callable[..., Any], options: Options) -> None:
        """Refuse a function or an option that this mode cannot do justice to.

        Raises:
            TypeError: A coroutine function where functions are called, or the other way round.
            ValueError: An option that the executor cannot keep.
        """
        if self.is_async is not None:
            _check_function(func, self.name, self.is_async)
        if self.capabilities is None:
            return
        for option, (capability, reason) in NEEDS.items():
            if getattr(options, option) is not None and capability not in self.capabilities:
                raise ValueError(f"{option} does not work with execution_mode={self.name!r}: {reason}.")

    def executor(self, func: Callable[..., Any], options: Options) -> Executor | AsyncExecutor:
        """Make the executor, and check what could not be checked before.

        Raises:
            PluginError: The plugin of a named executor misses what it imports, or makes no executor.
            TypeError, ValueError: As ``check``; or what was made is no executor.
        """
        made = self.make()
        if not _is_executor(made):
            raise TypeError(
                f"execution_mode={self.name!r} made {type(made).__name__}, which is no executor: it needs start, "
                f"submit, stop, slots and capabilities (see celestialflow_core.executors.Executor)."
            )
        known = attrs.evolve(self, capabilities=made.capabilities, is_async=is_async(made))
        known.check(func, options)
        return made


def choose(execution_mode: Any, func: Callable[..., Any], options: Options, registry: Registry) -> Mode:
    """The mode that *execution_mode* means.

    Args:
        execution_mode: None (serial, or async for a coroutine function); the name of an executor; an `Executor`; a
            ``concurrent.futures.Executor``; or a function of no arguments that makes one of the two.

    Raises:
        UnknownExecutor: No executor has this name.
        PluginError: The plugin that has it cannot be used.
        TypeError: It is none of these.
    """
    if execution_mode is None:
        execution_mode = "async" if is_coroutine_function(func) else "serial"
    if isinstance(execution_mode, str):
        factory = registry.executor_factory(execution_mode)
        capabilities, awaits = getattr(factory, "capabilities", None), getattr(factory, "is_async", None)
        _check_option_names(execution_mode, getattr(factory, "options", None), options.executor_options)
        check = getattr(factory, "check", None)
        if options.executor_options and callable(check):
            _call_with_options(execution_mode, check, options, registry)
        return Mode(
            name=execution_mode,
            make=functools.partial(_make_named, execution_mode, factory, options, registry),
            # A class has descriptors under these names: then only what it makes can tell.
            capabilities=frozenset(capabilities) if isinstance(capabilities, set | frozenset) else None,
            is_async=awaits if isinstance(awaits, bool) else None,
        )
    if options.executor_options:
        raise ValueError(
            f"executor_options are for an executor that is named; {execution_mode!r} is one already. Give it its "
            f"options when you make it."
        )
    if _is_executor(execution_mode):
        return Mode(
            name=type(execution_mode).__name__,
            make=functools.partial(_same, execution_mode),
            capabilities=execution_mode.capabilities,
            is_async=is_async(execution_mode),
        )
    if _is_pool(execution_mode) or callable(execution_mode):
        name = getattr(execution_mode, "__name__", None) or type(execution_mode).__name__
        pool = _is_pool(execution_mode)
        return Mode(
            name=name,
            make=functools.partial(_make_given, execution_mode, options.worker_limit),
            capabilities=frozenset() if pool else None,
            is_async=False if pool else None,
        )
    raise TypeError(
        f"execution_mode must be the name of an executor ({', '.join(registry.executors)}), an executor, a "
        f"concurrent.futures.Executor, or a function that makes one, got {execution_mode!r}."
    )


def _check_option_names(mode: str, known: Any, given: Mapping[str, Any]) -> None:
    """Refuse an option that an executor does not have, where its factory says which it has."""
    if not isinstance(known, set | frozenset):
        return
    for name in given:
        if name not in known:
            close = get_close_matches(name, known, 1)
            advice = f"Did you mean {close[0]!r}?" if close else f"It takes: {', '.join(sorted(known)) or 'none'}."
            raise TypeError(f"execution_mode={mode!r} has no executor option {name!r}. {advice}")


def _make_named(name: str, factory: Callable[..., Any], options: Options, registry: Registry) -> Any:
    made = _call_with_options(name, factory, options, registry)
    if not _is_executor(made):
        raise PluginError(registry.cannot_make("executor", name, made))
    return made


def _call_with_options(name: str, what: Callable[..., Any], options: Options, registry: Registry) -> Any:
    try:
        return what(options.worker_limit, **options.executor_options)
    except ImportError as error:
        raise PluginError(registry.cannot_make("executor", name, error)) from error
    except TypeError as error:
        if not options.executor_options:
            raise
        given = ", ".join(options.executor_options)
        raise TypeError(f"execution_mode={name!r} does not take these executor_options ({given}): {error}") from error


def _same(executor: Any) -> Any:
    return executor


def _make_given(given: Any, worker_limit: int | None) -> Any:
    from celestialflow_core.executors.futures import FuturesExecutor

    if _is_pool(given):
        return FuturesExecutor(given, worker_limit)
    first = call(given)
    if not _is_pool(first):
        return first
    made = [first]
    return FuturesExecutor(lambda: made.pop() if made else given(), worker_limit)


def _is_pool(value: object) -> bool:
    """True for a ``concurrent.futures.Executor``; where that module is not loaded there can be none."""
    futures = sys.modules.get("concurrent.futures")
    return futures is not None and isinstance(value, futures.Executor)


def _is_executor(value: Any) -> bool:
    """True for what has the members of `Executor`; a class that makes one has them too, and is none."""
    members = ("start", "submit", "stop", "slots", "capabilities")
    return not isinstance(value, type) and all(hasattr(value, name) for name in members)


def is_coroutine_function(func: Any) -> bool:
    """True for a coroutine function, also as a method, in a partial, or as the ``__call__`` of an object."""
    while isinstance(func, functools.partial):
        func = func.func
    if inspect.iscoroutinefunction(func):
        return True
    return not inspect.isclass(func) and inspect.iscoroutinefunction(getattr(func, "__call__", None))  # noqa: B004


def _check_function(func: Any, mode: str, is_async: bool) -> None:
    bare = func.func if isinstance(func, functools.partial) else func
    if inspect.isasyncgenfunction(bare):
        raise TypeError("func is an async generator function; it must return one result. Make it a coroutine function.")
    if is_async and not is_coroutine_function(func):
        raise TypeError(
            f"func is no coroutine function, and execution_mode={mode!r} awaits it. Use execution_mode='thread', or "
            f"define it with 'async def'."
        )
    if not is_async and is_coroutine_function(func):
        raise TypeError(
            f"func is a coroutine function, and execution_mode={mode!r} calls it without awaiting. Use "
            f"execution_mode='async'."
        )
