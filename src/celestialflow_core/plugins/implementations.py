"""Reads a plugin object: which hooks it implements, whether they can be called, and what was probably forgotten.

pluggy checks some of this when a plugin is registered, some of it (a misspelled hook) only when asked, and some of it
not at all: a missing mark, keyword-only parameters, a coroutine that nobody awaits. An author should hear of each when
the plugin is loaded, with the line to change. What is read here is the same with every version of pluggy: attributes
are looked up statically, so that no property of a plugin object is run, and an implementation reaches pluggy as a
function with all the hook's arguments in their order.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from types import FunctionType, MemberDescriptorType, MethodType
from typing import Any

import attrs

import celestialflow_core.plugins.hookspecs as hookspecs
from celestialflow_core.plugins.markers import MARK
from celestialflow_core.plugins.spelling import closest

__all__ = ["SPECS", "WRAPPABLE", "Implementation", "Reading", "read"]

SPECS: dict[str, tuple[str, ...]] = {
    name: tuple(inspect.signature(getattr(hookspecs, name)).parameters) for name in hookspecs.__all__
}
"""Every hook with its arguments, in order."""

WRAPPABLE = frozenset({"on_start", "on_finish"})
"""The hooks that are called through pluggy where one has a wrapper; all others are called directly."""

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@attrs.frozen(eq=False)
class Implementation:
    """One function of a plugin that implements a hook.

    Attributes:
        hook: The hook's name.
        call: Takes all the hook's arguments by position, in the order of the specification.
        options: What ``@hookimpl(...)`` was given.
    """

    hook: str
    call: Callable[..., Any]
    options: dict[str, Any]


@attrs.define(eq=False)
class Reading:
    """What was found in a plugin object. With an entry in ``errors`` it cannot be used."""

    implementations: list[Implementation] = attrs.field(factory=list)
    errors: list[str] = attrs.field(factory=list)
    warnings: list[str] = attrs.field(factory=list)


def read(plugin: object) -> Reading:
    """Find and check the hook implementations of *plugin*."""
    reading = Reading()
    if isinstance(plugin, FunctionType) and getattr(plugin, MARK, None):
        reading.errors.append(
            f"It is the function {plugin.__name__}, and hooks are looked for in a module or an object. Give the one "
            f"that has it: {plugin.__module__}."
        )
        return reading
    marked = 0
    for name, function, options in _functions(plugin):
        if options is None:
            if name in SPECS:
                reading.warnings.append(f"{name} is not marked with @hookimpl, so it is never called.")
            continue
        marked += 1
        hook = options.get("specname") or name
        if hook not in SPECS:
            if not options.get("optionalhook"):
                reading.errors.append(_unknown(hook))
            continue
        wrong = _misfit(plugin, name, hook, function, options)
        if wrong:
            reading.errors.append(wrong)
        else:
            wrapper = bool(options.get("wrapper") or options.get("hookwrapper"))
            reading.implementations.append(Implementation(hook, _adapt(hook, function, wrapper), options))
    if not marked and not reading.warnings:
        reading.warnings.append(
            "It has no hook, so it does nothing. Mark its functions with @hookimpl (from celestialflow_core)."
        )
    return reading


def _functions(plugin: object) -> Iterator[tuple[str, Callable[..., Any], dict[str, Any] | None]]:
    """The functions of *plugin* by name, bound as an attribute lookup binds them, with the marker's options or None."""
    for name in dir(plugin):
        if name.startswith("__"):
            continue
        static = inspect.getattr_static(plugin, name, None)
        if not isinstance(static, (FunctionType, MethodType, staticmethod, classmethod, MemberDescriptorType)):
            continue
        function = getattr(plugin, name, None)
        if not isinstance(function, (FunctionType, MethodType)):
            continue
        # @hookimpl above @staticmethod marks the descriptor, below it the function.
        options = getattr(static, MARK, None) or getattr(function, MARK, None)
        yield name, function, options if isinstance(options, dict) else None


def _unknown(hook: str) -> str:
    meant = closest(hook, SPECS)
    advice = f"Did you mean {meant!r}?" if meant else f"The hooks are: {', '.join(sorted(SPECS))}."
    return f"There is no hook named {hook!r}. {advice}"


def _misfit(plugin: object, name: str, hook: str, function: Callable[..., Any], options: dict[str, Any]) -> str | None:
    """Why *function* cannot be called as *hook*, with what to write instead; None if it can."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        return f"{name} cannot be called: {error}. A method needs self as its first parameter."
    shown = f"{name}{signature}"
    generator = inspect.isgeneratorfunction(inspect.unwrap(function))
    if inspect.isclass(plugin) and isinstance(inspect.getattr_static(plugin, name), FunctionType):
        return f"{name} is a method of a class that was not instantiated. Give an instance: {plugin.__name__}()."
    if inspect.iscoroutinefunction(inspect.unwrap(function)) or inspect.isasyncgenfunction(inspect.unwrap(function)):
        return f"{name} is an async function, and nobody would await it. Hooks are called, so write: def {shown}."
    if options.get("wrapper") or options.get("hookwrapper"):
        if hook not in WRAPPABLE:
            return f"{name} is marked wrapper=True, which works only for {' and '.join(sorted(WRAPPABLE))}."
        if not generator:
            return f"{name} is marked wrapper=True but has no yield."
        if options.get("wrapper") and options.get("hookwrapper"):
            return f"{name} is marked both wrapper=True and hookwrapper=True. Keep wrapper=True."
    elif generator and hook != "get_args":
        return f"{name} has a yield, so calling it would run nothing of it. Return the value instead."
    return _bad_parameter(shown, hook, signature)


def _bad_parameter(shown: str, hook: str, signature: inspect.Signature) -> str | None:
    arguments = SPECS[hook]
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            return f"{shown} takes *{parameter.name}, but arguments are passed by name. {_may_name(hook)}"
        required = parameter.default is parameter.empty
        if parameter.kind is parameter.KEYWORD_ONLY and (required or parameter.name in arguments):
            return f"{shown} has a keyword-only parameter, but hooks are called by position. Remove the '*'."
        if parameter.kind in _POSITIONAL and required and parameter.name not in arguments:
            return f"{shown} names {parameter.name!r}, which {hook} does not have. {_may_name(hook)}"
    return None


def _may_name(hook: str) -> str:
    return f"It may name: {', '.join(SPECS[hook])}." if SPECS[hook] else "It has no arguments."


def _adapt(hook: str, function: Callable[..., Any], wrapper: bool) -> Callable[..., Any]:
    """A callable that takes all the arguments of *hook* by position and hands on those that *function* names.

    Compiled, as a namedtuple is: a generic ``*args`` adapter costs three times as much, on a path that may run for
    each task. Every name in the source comes from our own specification.
    """
    arguments = SPECS[hook]
    passed: list[str] = []
    by_name = False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in _POSITIONAL:
            continue
        if parameter.name not in arguments:
            by_name = True  # it keeps its default; what follows it can only be given by name
        elif not by_name:
            passed.append(parameter.name)
        elif parameter.kind is not parameter.POSITIONAL_ONLY:
            passed.append(f"{parameter.name}={parameter.name}")
    body = f"function({', '.join(passed)})"
    source = f"lambda {', '.join(arguments)}: {f'(yield from {body})' if wrapper else body}"
    adapted: Callable[..., Any] = eval(compile(source, f"<adapter of {hook}>", "eval"), {"function": function})
    return adapted
