"""The hooks. This file is the reference for plugin authors; docs/reference/hooks.md is generated from it.

A plugin is any object with functions marked by `hookimpl`: a module, or an instance of a class. It takes effect by
being installed (an entry point in the group ``celestialflow``), or for one manager by ``TaskManager(plugins=[...])``.

Rules that hold for every hook:

- It runs in the thread that called ``start``, one at a time. No lock is needed.
- An implementation names only the arguments that it uses, in any order. An argument with a default is passed where the
  hook has one of its name, and keeps its default where it has not; so a plugin can use an argument that only newer
  versions have.
- A method overridden in a subclass of ``TaskManager`` runs before all plugins. Then the plugin that was registered last
  comes first: those of ``plugins=[...]`` from the last to the first, then the installed ones, which are registered by
  distribution and name. ``@hookimpl(tryfirst=True)`` and ``trylast=True`` move an implementation to the front or back.
  ``celestialflow plugins --hooks`` prints the order.
- ``@hookimpl(wrapper=True)`` works for ``on_start`` and ``on_finish``, and is refused for all others.
- An ``async def`` is refused: nobody would await it.

In hooks that give the *first result*, implementations are asked until one answers something other than None; ``0``,
``False`` and ``()`` are answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from celestialflow_core.plugins.markers import hookspec

if TYPE_CHECKING:
    import click

    from celestialflow_core._outcome import Outcome, RunSummary
    from celestialflow_core.executors.interface import ExecutorFactory
    from celestialflow_core.sinks.interface import SinkFactory

__all__ = [
    "executor_factories",
    "get_args",
    "on_duplicate",
    "on_error",
    "on_finish",
    "on_retry",
    "on_start",
    "on_success",
    "process_result",
    "register_commands",
    "retry_delay",
    "should_retry",
    "sink_factories",
    "task_key",
]


@hookspec
def executor_factories() -> Mapping[str, ExecutorFactory] | None:
    """Declare executors: names for ``execution_mode``, and what makes each of them.

    When: Once a process, when the installed plugins are loaded; for ``plugins=[...]``, once a manager. Keep the module
        thin, and import the engine inside the factory: the hook is called also by runs that use another executor.

    Returns: A dict from names to factories, or None for none. A factory is called as
        ``factory(worker_limit, **executor_options)`` when a run starts, and gives an ``Executor`` or an
        ``AsyncExecutor``; ``worker_limit`` may be None. A factory may carry attributes, so that ``TaskManager(...)``
        can refuse an option before anything is imported: ``capabilities``, the frozenset that its executors will have;
        ``is_async``, True where the function must be a coroutine function; ``options``, the names of the
        ``executor_options`` that it takes; and ``check``, called like the factory, which raises a TypeError or
        ValueError for a value that cannot be used. Of a missing one nothing is known until the executor is made.

    If it raises: The plugin has failed. That ends the runs that name it or its executor; others get one warning. Two
        plugins that declare one name: using that name is a ``PluginError`` that names both.

    Example:
        def threads_of_your_own(worker_limit, **options):
            from celestialflow_core.executors.thread import ThreadExecutor

            return ThreadExecutor(worker_limit, **options)

        class Own:
            @hookimpl
            def executor_factories(self):
                return {"own": threads_of_your_own}

        manager = TaskManager(str.upper, execution_mode="own", plugins=[Own()], log_dir=None)
        assert manager.start(["a", "b"]).succeeded == 2

    Added in: 0.1.0
    """


@hookspec
def sink_factories() -> Mapping[str, SinkFactory] | None:
    """Declare sinks: names for the URLs of ``sinks``, and what makes each of them.

    When: Once a process, when the installed plugins are loaded; for ``plugins=[...]``, once a manager. Keep the module
        thin, and import the driver of a database inside the factory: the hook is called also by runs without a sink.

    Returns: A dict from names to factories, or None for none. The name is what stands before the colon of a URL. A
        factory is called as ``factory(url)``, with the whole URL, and gives a ``Sink``; it should look at the URL, and
        connect to nothing before ``open``.

    If it raises: The plugin has failed. That ends the runs that name it or its sink; others get one warning. Two
        plugins that declare one name: using that name is a ``PluginError`` that names both.

    Example:
        class Memory:
            def __init__(self, url):
                self.rows = {}

            def open(self, run):
                self.name = run.name

            def write(self, outcomes):
                for outcome in outcomes:
                    self.rows[outcome.key] = outcome.value

            def close(self, error):
                pass

        class Own:
            @hookimpl
            def sink_factories(self):
                return {"memory": Memory}

        assert Own().sink_factories()["memory"]("memory:").rows == {}

    Added in: 0.1.0
    """


@hookspec(firstresult=True)
def get_args(manager: Any, task: Any) -> Iterable[Any] | None:
    """Give the arguments with which the function is called for a task.

    When: Before each attempt of each task.

    Args:
        manager: The ``TaskManager`` of the run.
        task: The task, as the iterable gave it.

    Returns: An iterable of positional arguments, but not a str. None leaves it to the next plugin, and at last to the
        default: ``(task,)``, or ``task`` itself with ``unpack_task_args=True``. Anything else is a ``HookError``.

    If it raises: The exception is the task's error, with no call made.

    Example:
        class FromRow:
            @hookimpl
            def get_args(self, task):
                return task["base"], task["exponent"]

        manager = TaskManager(pow, plugins=[FromRow()], enable_success_cache=True, log_dir=None)
        manager.start([{"base": 2, "exponent": 5}])
        assert [value for _, value in manager.get_success_pairs()] == [32]

    Added in: 0.1.0
    """


@hookspec(firstresult=True)
def task_key(manager: Any, task: Any) -> Any:
    """Give what identifies a task: tasks of one key are duplicates of each other.

    When: Once a task, when it is taken from the iterable; only with ``enable_duplicate_check``.

    Args:
        manager: The ``TaskManager`` of the run.
        task: The task, as the iterable gave it.

    Returns: The key; any value that could be a task itself. None leaves it to the next plugin, and at last to the task
        itself.

    If it raises: The exception is the task's error, with no call made.

    Example:
        class ByAddress:
            @hookimpl
            def task_key(self, task):
                return task.rstrip("/").lower()

        manager = TaskManager(len, plugins=[ByAddress()], log_dir=None)
        assert manager.start(["http://a.example", "http://A.example/"]).duplicates == 1

    Added in: 0.1.0
    """


@hookspec
def process_result(manager: Any, task: Any, result: Any) -> Any:
    """Turn the result of the function into the value that is kept.

    When: Once a task whose call succeeded, before its outcome is made.

    Args:
        manager: The ``TaskManager`` of the run.
        task: The task, as the iterable gave it.
        result: What the function returned, or what the plugin before this one made of it: the implementations are a
            pipe, in call order.

    Returns: The new result. None is a value like any other, so an implementation that changes nothing returns *result*.

    If it raises: The exception is the task's error. It is not retried.

    Example:
        class Rounded:
            @hookimpl
            def process_result(self, result):
                return round(result, 1)

        manager = TaskManager(lambda x: x / 3, plugins=[Rounded()], enable_success_cache=True, log_dir=None)
        manager.start([1, 2])
        assert manager.get_success_dict() == {1: 0.3, 2: 0.7}

    Added in: 0.1.0
    """


@hookspec(firstresult=True)
def should_retry(manager: Any, task: Any, error: BaseException, attempt: int) -> bool | None:
    """Decide whether a failed attempt is tried again.

    When: After each failed attempt that has tries left under ``max_retries``.

    Args:
        manager: The ``TaskManager`` of the run.
        task: The task, as the iterable gave it.
        error: What the attempt raised.
        attempt: The number of the attempt that failed, from 1.

    Returns: True for another try, False for none. None leaves it to the next plugin, and at last to the default:
        whether *error* is one of ``retry_exceptions``.

    If it raises: The exception is the task's error, with *error* as its cause, and there is no further try.

    Example:
        class OnlyOnce:
            @hookimpl
            def should_retry(self, error, attempt):
                if isinstance(error, KeyError):
                    return attempt < 2

        manager = TaskManager({}.__getitem__, plugins=[OnlyOnce()], max_retries=5, log_dir=None)
        assert manager.start(["missing"]).retries == 1

    Added in: 0.1.0
    """


@hookspec(firstresult=True)
def retry_delay(manager: Any, task: Any, error: BaseException, attempt: int) -> float | None:
    """Give the time to wait before the next attempt.

    When: After each failed attempt that will be tried again. The wait holds no worker.

    Args:
        manager: The ``TaskManager`` of the run.
        task: The task, as the iterable gave it.
        error: What the attempt raised.
        attempt: The number of the attempt that failed, from 1.

    Returns: Seconds, at least 0, to which no jitter is applied. None leaves it to the next plugin, and at last to
        ``backoff``. Anything else is a ``HookError``.

    If it raises: The exception is the task's error, with *error* as its cause, and there is no further try.

    Example:
        class AsTheServerSays:
            @hookimpl
            def retry_delay(self, error):
                return getattr(error, "retry_after", None)

        class Busy(ConnectionError):
            retry_after = 0.0

        answers = [Busy(), "page"]

        def fetch(url):
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        manager = TaskManager(fetch, plugins=[AsTheServerSays()], log_dir=None)
        assert manager.start(["http://a.example"]).succeeded == 1

    Added in: 0.1.0
    """


@hookspec
def on_start(manager: Any) -> None:
    """Learn that a run begins.

    When: Once a run, before the first task is taken.

    Args:
        manager: The ``TaskManager`` of the run.

    Returns: Nothing; a result is ignored.

    If it raises: It is logged with the plugin's name and counted; the run and the other plugins go on.

    Example:
        class Announce:
            @hookimpl
            def on_start(self, manager):
                started.append(manager)

        started = []
        manager = TaskManager(str.upper, plugins=[Announce()], log_dir=None)
        manager.start(["a"])
        assert started == [manager]

    Added in: 0.1.0
    """


@hookspec
def on_finish(manager: Any, summary: RunSummary, error: BaseException | None) -> None:
    """Learn that a run is over, however it ended.

    When: Once a run, after its last outcome and after what the manager itself does at the end.

    Args:
        manager: The ``TaskManager`` of the run.
        summary: Its ``RunSummary``; ``summary.stopped`` says why it ended before the tasks did.
        error: What the run is about to raise: that of an iterable, of the set-up of a worker, of an override at the
            end, ``TooManyErrors``, ``KeyboardInterrupt``. None, if it returns. A task that failed is no error of the
            run. In a graph, that of the graph.

    Returns: Nothing; a result is ignored.

    If it raises: It is logged with the plugin's name and counted; the other plugins go on.

    Example:
        class Count:
            total = 0

            @hookimpl
            def on_finish(self, summary, error):
                if error is None:
                    self.total += summary.total

        count = Count()
        TaskManager(str.upper, plugins=[count], log_dir=None).start(["a", "b"])
        assert count.total == 2

    Added in: 0.1.0
    """


@hookspec
def on_success(manager: Any, outcome: Outcome[Any, Any]) -> None:
    """Learn that a task has succeeded.

    When: Once a task that succeeded, when it settles.

    Args:
        manager: The ``TaskManager`` of the run.
        outcome: The ``Outcome``; ``outcome.value`` is the result after ``process_result``.

    Returns: Nothing; a result is ignored.

    If it raises: It is logged with the plugin's name, once a kind, and counted; the run and the other plugins go on.

    Example:
        class Collect:
            @hookimpl
            def on_success(self, outcome):
                found[outcome.task] = outcome.value

        found = {}
        TaskManager(str.upper, plugins=[Collect()], log_dir=None).start(["a", "b"])
        assert found == {"a": "A", "b": "B"}

    Added in: 0.1.0
    """


@hookspec
def on_error(manager: Any, outcome: Outcome[Any, Any]) -> None:
    """Learn that a task has failed, after its last attempt.

    When: Once a task that failed, when it settles.

    Args:
        manager: The ``TaskManager`` of the run.
        outcome: The ``Outcome``; ``outcome.error`` is the exception, ``outcome.traceback`` its text.

    Returns: Nothing; a result is ignored.

    If it raises: It is logged with the plugin's name, once a kind, and counted; the run and the other plugins go on.

    Example:
        class Blame:
            @hookimpl
            def on_error(self, outcome):
                failed.append((outcome.task, type(outcome.error).__name__))

        failed = []
        TaskManager(int, plugins=[Blame()], log_dir=None).start(["1", "one"])
        assert failed == [("one", "ValueError")]

    Added in: 0.1.0
    """


@hookspec
def on_duplicate(manager: Any, outcome: Outcome[Any, Any]) -> None:
    """Learn that a task was the same as an earlier one of the run, and was not run.

    When: Once a duplicate, when it is taken from the iterable.

    Args:
        manager: The ``TaskManager`` of the run.
        outcome: The ``Outcome``; ``outcome.original`` is the id of the first task of its key.

    Returns: Nothing; a result is ignored.

    If it raises: It is logged with the plugin's name, once a kind, and counted; the run and the other plugins go on.

    Example:
        class Twice:
            @hookimpl
            def on_duplicate(self, outcome):
                again.append(outcome.task)

        again = []
        TaskManager(str.upper, plugins=[Twice()], log_dir=None).start(["a", "b", "a"])
        assert again == ["a"]

    Added in: 0.1.0
    """


@hookspec
def on_retry(manager: Any, task: Any, error: BaseException, attempt: int, delay: float) -> None:
    """Learn that an attempt has failed and that the task will be tried again.

    When: Once a failed attempt that is followed by another, before the wait.

    Args:
        manager: The ``TaskManager`` of the run.
        task: The task, as the iterable gave it.
        error: What the attempt raised.
        attempt: The number of the attempt that failed, from 1.
        delay: The seconds until the next one.

    Returns: Nothing; a result is ignored.

    If it raises: It is logged with the plugin's name, once a kind, and counted; the run and the other plugins go on.

    Example:
        class Patience:
            @hookimpl
            def on_retry(self, task, attempt):
                retried.append((task, attempt))

            @hookimpl
            def retry_delay(self):
                return 0.0

        def unreachable(host):
            raise ConnectionError(host)

        retried = []
        TaskManager(unreachable, plugins=[Patience()], max_retries=2, log_dir=None).start(["a"])
        assert retried == [("a", 1), ("a", 2)]

    Added in: 0.1.0
    """


@hookspec
def register_commands(cli: click.Group) -> None:
    """Add subcommands to the command line.

    When: Once a process of ``celestialflow``, when a command is looked up that the core does not have, and for
        ``--help``.

    Args:
        cli: The click group to add to. The core's own commands cannot be replaced; of two plugins that add one name,
            the one that comes first keeps it.

    Returns: Nothing; a result is ignored.

    If it raises: A warning on stderr names the plugin, and none of its commands is there; all others are.

    Example:
        import click

        class Hello:
            @hookimpl
            def register_commands(self, cli):
                @cli.command()
                def hello():
                    click.echo("hello")

        group = click.Group("celestialflow")
        Hello().register_commands(group)
        assert list(group.commands) == ["hello"]

    Added in: 0.1.0
    """
