"""The options of a manager: their types, their defaults, and what is wrong with a bad one."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, TypedDict

import attrs

from celestialflow_core._manager.shards import shard_of
from celestialflow_core._observe.log import check_level
from celestialflow_core._policies import Backoff, Stop

__all__ = ["ManagerOptions", "Options"]


class ManagerOptions(TypedDict, total=False):
    """The keyword options of `TaskManager`; what each means is said there."""

    enable_success_cache: bool
    enable_error_cache: bool
    enable_duplicate_check: bool
    progress_desc: str
    show_progress: bool
    name: str | None
    retry_exceptions: type[BaseException] | Iterable[type[BaseException]]
    backoff: Backoff
    task_timeout: float | None
    stop: Stop | int | None
    max_in_flight: int | None
    worker_setup: Callable[[], Any] | None
    grace: float
    sinks: Iterable[object]
    resume: bool | str
    shard: str | None
    version: str
    plugins: Iterable[object]
    executor_options: Mapping[str, Any] | None
    log_level: str
    log_dir: str | os.PathLike[str] | None


_ELSEWHERE = {
    "max_workers": "worker_limit",
    "workers": "worker_limit",
    "n_jobs": "worker_limit",
    "processes": "worker_limit",
    "threads": "worker_limit",
    "concurrency": "worker_limit",
    "mode": "execution_mode",
    "executor": "execution_mode",
    "backend": "execution_mode",
    "initializer": "worker_setup",
}
"""What other libraries call an option, and its name here."""


def _refuse(name: str, wanted: str, got: object, advice: str = "") -> ValueError | TypeError:
    kind = ValueError if isinstance(got, int | float) and not isinstance(got, bool) else TypeError
    return kind(f"{name} must be {wanted}, got {got!r}.{' ' + advice if advice else ''}")


def _flag(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{attribute.name} must be True or False, got {value!r}.")


def _text(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{attribute.name} must be a str, got {value!r}.")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _worker_limit(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and (not _is_int(value) or value < 1):
        # ValueError for every one of them, also for "5": one thing to catch, as in concurrent.futures.
        raise ValueError(f"worker_limit must be a positive int or None, got {value!r}. None lets the executor choose.")


def _max_retries(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not _is_int(value) or value < 0:
        raise _refuse("max_retries", "an int of at least 0", value, "It counts the tries after the first.")


def _max_info(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not _is_int(value) or value < 0:
        raise _refuse("max_info", "an int of at least 0, the most characters to show (0: no limit)", value)


def _backoff(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, Backoff):
        raise TypeError(f"backoff must be a Backoff, got {value!r}. For example Backoff(initial=0.5, maximum=60).")


def _is_seconds(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _timeout(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and (not _is_seconds(value) or value <= 0):
        raise _refuse("task_timeout", "a number of seconds above 0, or None for no limit", value)


def _grace(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not _is_seconds(value) or value < 0:
        raise _refuse("grace", "a number of seconds, at least 0", value)


def _in_flight(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is None:
        return
    if not _is_int(value) or value < 1:
        raise _refuse("max_in_flight", "a positive int or None", value)
    if instance.worker_limit is not None and value < instance.worker_limit:
        raise ValueError(
            f"max_in_flight={value} is less than worker_limit={instance.worker_limit}: some workers would never have "
            f"a task. Raise the one or lower the other."
        )


def _setup(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not callable(value):
        raise TypeError(f"worker_setup must be a function, a generator function or None, got {value!r}.")


def _resume(instance: Any, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, bool) and value not in ("unfinished", "failed"):
        raise _refuse("resume", 'True, False, "unfinished" or "failed"', value)
    if value and not instance.sinks:
        raise ValueError(f"resume={value!r} needs a store to go on from, for example sinks=['sqlite:results.db'].")
    if value and not instance.enable_duplicate_check:
        raise ValueError(
            f"resume={value!r} knows tasks by their key, so it does not work with enable_duplicate_check=False."
        )


def _shard(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None:
        if not isinstance(value, str):
            raise TypeError(f'shard must be like "3/16", or "auto", or None, got {value!r}.')
        shard_of(value)


def _level(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    check_level(value)


def _log_dir(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not isinstance(value, str | os.PathLike):
        raise TypeError(f"log_dir must be a path, or None for no log file, got {value!r}.")


def _executor_options(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise TypeError(f"executor_options must be a dict of options for the executor, got {value!r}.")


def _stop(value: Any) -> Stop | None:
    return Stop.of(value)


def _sinks(value: Any) -> tuple[object, ...]:
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise TypeError(f"sinks must be a list of sinks and of their URLs, got {value!r}. For one sink: [{value!r}].")
    sinks: tuple[object, ...] = tuple(value)
    return sinks


def _plugins(value: Any) -> tuple[object, ...]:
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise TypeError(f"plugins must be a list of plugins and of names of plugins, got {value!r}.")
    plugins: tuple[object, ...] = tuple(value)
    return plugins


@attrs.frozen(kw_only=True, eq=False)
class Options:
    """The options of one manager, checked. See `TaskManager` for what they mean."""

    worker_limit: int | None = attrs.field(default=None, validator=_worker_limit)
    max_retries: int = attrs.field(default=1, validator=_max_retries)
    max_info: int = attrs.field(default=50, validator=_max_info)
    unpack_task_args: bool = attrs.field(default=False, validator=_flag)
    enable_success_cache: bool = attrs.field(default=False, validator=_flag)
    enable_error_cache: bool = attrs.field(default=False, validator=_flag)
    enable_duplicate_check: bool = attrs.field(default=True, validator=_flag)
    progress_desc: str = attrs.field(default="Processing", validator=_text)
    show_progress: bool = attrs.field(default=False, validator=_flag)
    backoff: Backoff = attrs.field(factory=Backoff, validator=_backoff)
    task_timeout: float | None = attrs.field(default=None, validator=_timeout)
    stop: Stop | None = attrs.field(default=None, converter=_stop)
    max_in_flight: int | None = attrs.field(default=None, validator=_in_flight)
    worker_setup: Callable[[], Any] | None = attrs.field(default=None, validator=_setup)
    grace: float = attrs.field(default=5.0, validator=_grace)
    sinks: tuple[object, ...] = attrs.field(default=(), converter=_sinks)
    resume: bool | str = attrs.field(default=False, validator=_resume)
    shard: str | None = attrs.field(default=None, validator=_shard)
    version: str = attrs.field(default="", validator=_text)
    plugins: tuple[object, ...] = attrs.field(default=(), converter=_plugins)
    executor_options: Mapping[str, Any] = attrs.field(factory=dict, validator=_executor_options)
    log_level: str = attrs.field(default="INFO", validator=_level)
    log_dir: str | os.PathLike[str] | None = attrs.field(default="logs", validator=_log_dir)

    @classmethod
    def of(cls, **given: Any) -> Options:
        """The options *given* by a user.

        Raises:
            TypeError, ValueError: One is unknown, or wrong; the message says what was probably meant.
        """
        known = [field.name for field in attrs.fields(cls)]
        for name in given:
            if name not in known:
                close = get_close_matches(name, [*known, "name", "retry_exceptions", "execution_mode"], 1)
                meant = _ELSEWHERE.get(name) or (close[0] if close else None)
                raise TypeError(f"TaskManager has no option {name!r}." + (f" Did you mean {meant!r}?" if meant else ""))
        if given.get("executor_options", ()) is None:
            del given["executor_options"]
        return cls(**given)
