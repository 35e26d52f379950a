"""The environment variables that the user gives to workers, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from celestialflow_core.errors import WorkerSetupError
from celestialflow_core.executors.tracebacks import traceback_text, type_name

__all__ = ["Env", "checked", "environments"]

Env = Mapping[str, str] | Callable[[int], Mapping[str, str]]


def checked(variables: object, what: str) -> dict[str, str]:
    """*variables* as a dict.

    Args:
        variables: What was given.
        what: What to call it in a message.

    Raises:
        TypeError: It is no mapping from str to str.
        ValueError: The system cannot have a variable of this name or value.
    """
    if not isinstance(variables, Mapping):
        raise TypeError(f"{what} must be a dict of environment variables, got {variables!r}.")
    found: dict[str, str] = {}
    for name, value in variables.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"{what} must hold strings only, got {name!r}: {value!r}. Write {str(value)!r} instead.")
        if not name or "=" in name or "\0" in name + value:
            raise ValueError(f"{what} holds what cannot be an environment variable: {name!r}: {value!r}.")
        found[name] = value
    return found


def environments(env: Env | None, workers: int) -> list[dict[str, str]]:
    """The variables of each worker, by its index.

    Args:
        env: A dict for all, a function of the index, or None.
        workers: How many.

    Raises:
        WorkerSetupError: The function raises, or gives something else.
    """
    if env is None:
        return [{}] * workers
    if not callable(env):
        return [checked(env, "env")] * workers
    found: list[dict[str, str]] = []
    for index in range(workers):
        try:
            found.append(checked(env(index), f"What env({index}) gives"))
        except Exception as error:
            reason = f"The environment of worker {index} cannot be had: env({index}) raised {type_name(error)}."
            raise WorkerSetupError(reason, traceback_text(error, skip=1)) from error
    return found
