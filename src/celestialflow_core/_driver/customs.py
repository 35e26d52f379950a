"""What the user's overrides and plugins say about a task, in one place and with one rule a question.

The manager's own override is asked first, then the plugins in call order. A question that nobody answers costs
nothing: the attribute is None, and the driver takes its fast path.

 - ``get_args``, ``task_key``, ``should_retry``, ``retry_delay``: the first answer that is not None.
 - ``process_result``: a pipe, in which None is a value.
 - ``on_*``: everybody is told, one by one; one that raises is logged once a kind, and the others are told all the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from celestialflow_core._driver.user_code import call
from celestialflow_core._text import cut
from celestialflow_core.errors import HookError
from celestialflow_core.plugins.resolve import Hook, Hooks

__all__ = ["Customs", "Override"]

Override = Callable[..., Any]


class Customs:
    """The customs of one run of *manager*.

    Args:
        manager: Handed to every hook.
        hooks: The resolved hooks.
        overrides: The manager's own methods that differ from the default, by name, bound.
        unpack: Whether a task is by default its own arguments.
        report: Told once of each kind of error in an ``on_*`` hook: hook name, plugin name, error.
    """

    def __init__(
        self,
        manager: Any,
        hooks: Hooks,
        overrides: dict[str, Override],
        unpack: bool,
        report: Callable[[str, str, Exception], None],
    ) -> None:
        self._manager = manager
        self._hooks = hooks
        self._overrides = overrides
        self._unpack = unpack
        self._report = report
        self._reported: set[tuple[str, str, type]] = set()
        self.hook_errors = 0
        """How often an ``on_*`` hook raised."""
        self.args = self._args if unpack or "get_args" in overrides or hooks.get_args else None
        """The arguments of a task, or None where they are just the task."""
        self.key = self._key if hooks.task_key else None
        """The key of a task as a hook gives it, or None where nobody is asked."""
        self.process = self._process if "process_result" in overrides or hooks.process_result else None
        """The value made of a task and its result, or None where the result is the value."""
        self.decides_retries = bool(hooks.should_retry or hooks.retry_delay)
        self.wants_successes = bool(hooks.on_success)

    @property
    def sees_outcomes(self) -> bool:
        """True if some hook is given outcomes."""
        hooks = self._hooks
        return bool(hooks.on_success or hooks.on_error or hooks.on_duplicate)

    def key_by_default(self, make: Callable[[Any], Any]) -> None:
        """Where no hook has a key for a task, ask *make*; None from it leaves the task to be its own key."""
        ask = self.key

        def key(task: Any) -> Any:
            answer = None if ask is None else ask(task)
            return make(task) if answer is None else answer

        self.key = key

    def _first(self, name: str, hooks: tuple[Hook, ...], *args: Any) -> Any:
        for hook in hooks:
            answer = call(hook.call, self._manager, *args)
            if answer is not None:
                return answer
        return None

    def _args(self, task: Any) -> tuple[Any, ...]:
        """The arguments for *task*.

        Raises:
            HookError: What should give them gave no iterable, or a str.
            BaseException: Whatever it raised.
        """
        override = self._overrides.get("get_args")
        if override is not None:
            return _as_args(call(override, task), f"class {type(self._manager).__qualname__}")
        for hook in self._hooks.get_args:
            answer = call(hook.call, self._manager, task)
            if answer is not None:
                return _as_args(answer, f"plugin {hook.plugin!r}")
        if not self._unpack:
            return (task,)
        if isinstance(task, dict):
            raise HookError(
                "unpack_task_args",
                f"the task {cut(task)}",
                "The items of a dict are its keys alone. Say what the arguments are: override get_args, or give a "
                "plugin that has it.",
            )
        if isinstance(task, str | bytes) or not isinstance(task, Iterable):
            raise HookError(
                "unpack_task_args",
                f"a task of type {type(task).__name__}",
                "A task must be a tuple or another iterable of arguments. For functions of one argument leave "
                "unpack_task_args off.",
            )
        return tuple(call(iter, task))

    def _key(self, task: Any) -> Any:
        return self._first("task_key", self._hooks.task_key, task)

    def _process(self, task: Any, value: Any) -> Any:
        override = self._overrides.get("process_result")
        if override is not None:
            value = call(override, task, value)
        for hook in self._hooks.process_result:
            value = call(hook.call, self._manager, task, value)
        return value

    def should_retry(self, task: Any, error: BaseException, attempt: int) -> bool | None:
        """True, False, or None where nobody has an opinion."""
        answer = self._first("should_retry", self._hooks.should_retry, task, error, attempt)
        return None if answer is None else bool(answer)

    def retry_delay(self, task: Any, error: BaseException, attempt: int) -> float | None:
        """Seconds to wait, or None where nobody has an opinion.

        Raises:
            HookError: The answer is no finite number of seconds, at least 0.
        """
        for hook in self._hooks.retry_delay:
            delay = call(hook.call, self._manager, task, error, attempt)
            if delay is None:
                continue
            if isinstance(delay, bool) or not isinstance(delay, int | float) or not 0 <= delay < math.inf:
                raise HookError(
                    "retry_delay",
                    f"plugin {hook.plugin!r}",
                    f"It must return seconds, at least 0, or None, not {delay!r}.",
                )
            return float(delay)
        return None

    def tell(self, name: str, *args: Any) -> None:
        """Call every implementation of the ``on_*`` hook *name*; what they raise is reported, once a kind."""
        for hook in getattr(self._hooks, name):
            try:
                call(hook.call, self._manager, *args)
            except Exception as error:
                self.hook_errors += 1
                kind = (name, hook.plugin, type(error))
                if kind not in self._reported:
                    self._reported.add(kind)
                    self._report(name, hook.plugin, error)

    def listens(self, name: str) -> bool:
        """True if somebody implements the hook *name*."""
        return bool(getattr(self._hooks, name))


def _as_args(answer: Any, owner: str) -> tuple[Any, ...]:
    if type(answer) is tuple:
        return answer
    if isinstance(answer, str | bytes) or not isinstance(answer, Iterable):
        raise HookError(
            "get_args",
            owner,
            f"It must return an iterable of arguments, and has returned {cut(answer)}. For one argument return a tuple "
            f"of one: (argument,).",
        )
    return tuple(call(iter, answer))
