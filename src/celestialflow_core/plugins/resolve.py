"""Reads the hook implementations once a run into plain callables.

A call through pluggy costs a microsecond even where nobody implements the hook, more than the engine's whole share of a
task; a call of what is resolved here costs a tenth of that, and an empty tuple costs nothing. The order is pluggy's.
What it does with the results, first one or pipe, is the driver's business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs

from celestialflow_core.plugins.implementations import SPECS

if TYPE_CHECKING:
    from celestialflow_core.plugins.registry import Registry

__all__ = ["Hook", "Hooks", "implementations", "resolve"]


@attrs.frozen(eq=False)
class Hook:
    """One implementation of a hook, ready to be called.

    Attributes:
        call: Takes all the hook's arguments by position, in the order of its specification.
        plugin: The plugin's name, for messages.
    """

    call: Callable[..., Any]
    plugin: str


@attrs.define(eq=False)
class Hooks:
    """The implementations of every hook of a run, in call order; empty where there is none."""

    get_args: tuple[Hook, ...] = ()
    task_key: tuple[Hook, ...] = ()
    process_result: tuple[Hook, ...] = ()
    should_retry: tuple[Hook, ...] = ()
    retry_delay: tuple[Hook, ...] = ()
    on_start: tuple[Hook, ...] = ()
    on_finish: tuple[Hook, ...] = ()
    on_success: tuple[Hook, ...] = ()
    on_error: tuple[Hook, ...] = ()
    on_duplicate: tuple[Hook, ...] = ()
    on_retry: tuple[Hook, ...] = ()


def resolve(registry: Registry) -> Hooks:
    """The hooks of a run with the plugins of *registry*.

    Warns of installed plugins that cannot be used, once a process: by now it is known that this run does without them.
    """
    registry.report_problems()
    names = [field.name for field in attrs.fields(Hooks)]
    return Hooks(**{name: implementations(registry, name) for name in names if registry.implements(name)})


def implementations(registry: Registry, hook: str) -> tuple[Hook, ...]:
    """The implementations of one *hook*, in call order.

    Where one of them is a wrapper, there is a single `Hook`, which calls all of them through pluggy.
    """
    if not registry.implements(hook):
        return ()
    caller = registry.caller(hook)
    found = caller.get_hookimpls()[::-1]
    if not any(implementation.wrapper or implementation.hookwrapper for implementation in found):
        return tuple(Hook(implementation.function, implementation.plugin_name) for implementation in found)
    arguments = SPECS[hook]

    def through_pluggy(*values: Any) -> Any:
        return caller(**dict(zip(arguments, values, strict=True)))

    return (Hook(through_pluggy, ", ".join(implementation.plugin_name for implementation in found)),)
