"""Bad input gets a clear error, early: from the constructor, or from start before the iterable is touched."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from celestialflow_core import Backoff, CelestialFlowError, Stop, TaskManager, UnknownExecutor, hookimpl
from celestialflow_core.testing import ScriptedExecutor

pytestmark = pytest.mark.pure


def double(x: int) -> int:
    """A function of one argument."""
    return 2 * x


async def double_soon(x: int) -> int:
    """A coroutine function of one argument."""
    return 2 * x


def make(func: Any = double, mode: Any = None, **options: Any) -> TaskManager[Any, Any]:
    """A manager, or what its constructor raises."""
    return TaskManager(func, mode, **options)


@pytest.mark.parametrize("func", [None, 3, "double", [double]])
def test_func_must_be_callable(func: Any) -> None:
    """What cannot be called is refused, and shown: mostly it is what a call has given."""
    with pytest.raises(TypeError) as raised:
        make(func)
    shown = f"func must be callable, got {func!r}."
    assert str(raised.value) == f"{shown} Give the function itself, not what a call of it gives."


@pytest.mark.parametrize(
    ("given", "meant"), [("thred", "thread"), ("Thread", "thread"), ("proces", "process"), ("asinc", "async")]
)
def test_unknown_mode_names_what_is_installed_and_what_was_meant(given: str, meant: str) -> None:
    """The names that are there, and the one that was probably meant."""
    with pytest.raises(UnknownExecutor) as raised:
        make(mode=given)
    text = str(raised.value)
    assert text.startswith(f"No executor is named {given!r}. Installed: async, process, serial, thread.")
    assert f"Did you mean {meant!r}?" in text
    assert isinstance(raised.value, ValueError)
    assert isinstance(raised.value, CelestialFlowError)


def test_unknown_mode_of_a_known_plugin_names_the_distribution() -> None:
    """An executor that is a distribution of its own is offered with the line that installs it."""
    with pytest.raises(UnknownExecutor, match="pip install celestialflow-dask"):
        make(mode="dask")


@pytest.mark.parametrize("mode", [3, 1.5, object(), [], True])
def test_mode_of_a_wrong_type_says_what_it_may_be(mode: Any) -> None:
    """A TypeError that lists the choices."""
    with pytest.raises(TypeError, match="execution_mode must be the name of an executor"):
        make(mode=mode)


@pytest.mark.parametrize("limit", [0, -1, "5", True, 2.0])
def test_worker_limit_must_be_a_positive_int(limit: Any) -> None:
    """One kind of error for each of them, and the model message."""
    with pytest.raises(ValueError, match="worker_limit") as raised:
        make(worker_limit=limit)
    expected = f"worker_limit must be a positive int or None, got {limit!r}. None lets the executor choose."
    assert str(raised.value) == expected


BAD: list[tuple[str, Any, type[Exception], str]] = [
    ("max_retries", -1, ValueError, "max_retries must be an int of at least 0, got -1. It counts the tries after the"),
    ("max_retries", "3", TypeError, "max_retries must be an int of at least 0, got '3'"),
    ("max_retries", 1.5, ValueError, "max_retries must be an int of at least 0, got 1.5"),
    ("max_retries", True, TypeError, "max_retries must be an int of at least 0, got True"),
    ("max_info", "50", TypeError, "max_info must be an int"),
    ("max_info", True, TypeError, "max_info must be an int"),
    ("max_info", -1, ValueError, "max_info must be an int of at least 0, the most characters to show (0: no limit)"),
    ("unpack_task_args", 1, TypeError, "unpack_task_args must be True or False, got 1"),
    ("enable_success_cache", None, TypeError, "enable_success_cache must be True or False, got None"),
    ("enable_error_cache", "yes", TypeError, "enable_error_cache must be True or False, got 'yes'"),
    ("enable_duplicate_check", 0, TypeError, "enable_duplicate_check must be True or False, got 0"),
    ("show_progress", "no", TypeError, "show_progress must be True or False"),
    ("progress_desc", 3, TypeError, "progress_desc must be a str, got 3"),
    ("name", 3, TypeError, "name must be a str or None, got 3"),
    ("retry_exceptions", (ValueError, int), TypeError, "retry_exceptions must be exception classes, got <class 'int'>"),
    ("retry_exceptions", ValueError("x"), TypeError, "retry_exceptions must be exception classes"),
    ("retry_exceptions", "ValueError", TypeError, "retry_exceptions must be exception classes, got 'ValueError'. For"),
    ("retry_exceptions", 7, TypeError, "retry_exceptions must be exception classes, got 7"),
    ("backoff", 0.5, TypeError, "backoff must be a Backoff, got 0.5. For example Backoff"),
    ("task_timeout", 0, ValueError, "task_timeout must be a number of seconds above 0, or None for no limit, got 0"),
    ("task_timeout", float("nan"), ValueError, "task_timeout must be a number of seconds above 0"),
    ("task_timeout", float("inf"), ValueError, "task_timeout must be a number of seconds above 0"),
    ("task_timeout", "5", TypeError, "task_timeout must be a number of seconds"),
    ("stop", 0, ValueError, "Stop.errors must be a positive int"),
    ("stop", "10", TypeError, "stop must be a Stop, an int"),
    ("stop", 0.1, TypeError, "or None, got 0.1. For example Stop(fraction=0.1)."),
    ("stop", True, TypeError, "stop must be a Stop, an int"),
    ("max_in_flight", 0, ValueError, "max_in_flight must be a positive int or None, got 0"),
    ("max_in_flight", "many", TypeError, "max_in_flight must be a positive int or None, got 'many'"),
    ("worker_setup", 3, TypeError, "worker_setup must be a function, a generator function or None, got 3"),
    ("grace", -0.1, ValueError, "grace must be a number of seconds, at least 0, got -0.1"),
    ("grace", None, TypeError, "grace must be a number of seconds"),
    ("grace", float("inf"), ValueError, "grace must be a number of seconds"),
    ("plugins", "mine", TypeError, "plugins must be a list of plugins"),
    ("plugins", 3, TypeError, "plugins must be a list of plugins"),
    ("executor_options", [1], TypeError, "executor_options must be a dict"),
    ("executor_options", {1: 2}, TypeError, "executor_options must be a dict"),
    ("log_level", "LOUD", ValueError, "log_level must be one of"),
    ("log_level", "debug", ValueError, "Did you mean 'DEBUG'?"),
    ("log_level", 10, ValueError, "log_level must be one of"),
    ("log_dir", 3, TypeError, "log_dir must be a path, or None for no log file, got 3"),
]


@pytest.mark.parametrize(("option", "value", "kind", "message"), BAD, ids=[f"{row[0]}={row[1]!r}" for row in BAD])
def test_bad_option_is_refused_with_its_name_and_value(option: str, value: Any, kind: type, message: str) -> None:
    """Every option is checked in the constructor, and the message says what it may be."""
    with pytest.raises(kind) as raised:
        make(**{option: value})
    assert type(raised.value) is kind
    assert message in str(raised.value)


def test_max_in_flight_below_the_workers_is_refused() -> None:
    """Workers that could never have a task are a mistake."""
    with pytest.raises(ValueError, match="max_in_flight=3 is less than worker_limit=4: some workers would never"):
        make(mode="thread", worker_limit=4, max_in_flight=3)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("max_retry", "max_retries"),
        ("show_progres", "show_progress"),
        ("retry_exception", "retry_exceptions"),
        ("timeout", "task_timeout"),
        ("log_directory", "log_dir"),
        ("max_workers", "worker_limit"),
        ("n_jobs", "worker_limit"),
        ("backend", "execution_mode"),
    ],
)
def test_misspelled_option_is_answered_with_the_right_one(given: str, meant: str) -> None:
    """No option is swallowed, and what it is called in other libraries is known."""
    with pytest.raises(TypeError, match=f"TaskManager has no option '{given}'. Did you mean '{meant}'"):
        make(**{given: 1})


def test_unknown_option_without_a_neighbour_is_refused_plainly() -> None:
    """Nothing is guessed where nothing is near."""
    with pytest.raises(TypeError) as raised:
        make(zzzzzz=1)
    assert str(raised.value) == "TaskManager has no option 'zzzzzz'."


@pytest.mark.parametrize("mode", ["serial", "thread", "process"])
@pytest.mark.parametrize("func", [double_soon, functools.partial(double_soon, 1)], ids=["function", "partial"])
def test_coroutine_function_is_refused_where_it_would_not_be_awaited(mode: str, func: Any) -> None:
    """With the mode that awaits it."""
    with pytest.raises(TypeError, match=f"func is a coroutine function, and execution_mode='{mode}' calls it without "):
        make(func, mode)


def test_coroutine_function_is_refused_for_a_pool_of_the_user() -> None:
    """A pool calls, too."""
    with ThreadPoolExecutor(1) as pool, pytest.raises(TypeError, match="Use execution_mode='async'"):
        make(double_soon, pool)


@pytest.mark.parametrize("func", [double, functools.partial(double, 1), len], ids=["function", "partial", "builtin"])
def test_function_is_refused_in_async_mode(func: Any) -> None:
    """With the mode that calls it."""
    with pytest.raises(TypeError, match="func is no coroutine function, and execution_mode='async' awaits it"):
        make(func, "async")


def test_async_generator_function_is_refused_everywhere() -> None:
    """It gives many results, or none."""

    async def many(x: int) -> Any:
        yield x

    for mode in ("serial", "async"):
        with pytest.raises(TypeError, match="async generator function; it must return one result"):
            make(many, mode)


def test_default_mode_follows_the_function() -> None:
    """Serial for a function, async for a coroutine function, also for an object whose call is one."""

    class Soon:
        async def __call__(self, x: int) -> int:
            return x

    assert "serial" in repr(make(double))
    assert "async" in repr(make(double_soon))
    assert "async" in repr(make(Soon()))
    assert "async" in repr(make(functools.partial(double_soon, 1)))


class Callable_:  # noqa: N801  # a class whose objects can be called
    """An object that can be called."""

    def __call__(self, x: int) -> int:
        return x

    def method(self, x: int) -> int:
        """A method."""
        return x


@pytest.mark.parametrize(
    ("func", "name"),
    [
        (double, "double"),
        (functools.partial(double, 1), "double"),
        (Callable_(), "Callable_"),
        (Callable_().method, "method"),
        (len, "len"),
        (str, "str"),
        (str.upper, "upper"),
        (lambda x: x, "<lambda>"),
    ],
)
def test_a_name_is_found_for_each_kind_of_function(func: Any, name: str) -> None:
    """Functions, partials, objects, methods, builtins, classes."""
    assert make(func).name == name
    assert make(func, name="mine").name == "mine"
    assert repr(make(func)) == f"<TaskManager({name}, serial) idle>"


@pytest.mark.parametrize("tasks", [3, None, object()], ids=repr)
def test_tasks_that_are_not_iterable_are_refused(tasks: Any) -> None:
    """By start and by stream, at once, with how to pass one task."""
    for run in (make().start, make().stream, make(double_soon).stream_async):
        with pytest.raises(TypeError, match="tasks must be an iterable of tasks, got .* To run one task, put it in"):
            run(tasks)


def test_function_that_would_give_the_tasks_is_refused() -> None:
    """A generator function that was not called: the message calls it."""
    with pytest.raises(TypeError, match=r"tasks must be an iterable of tasks, got function. Call it: double\(\)."):
        make().start(double)  # type: ignore[arg-type]  # a function is no iterable: that is the mistake


@pytest.mark.parametrize(("total", "kind"), [("3", TypeError), (2.5, TypeError), (-1, ValueError)])
def test_total_that_is_no_number_of_tasks_is_refused(total: Any, kind: type[Exception]) -> None:
    """At once, and not when a bar first needs it."""
    for run in (make().start, make().stream, make(double_soon).stream_async):
        with pytest.raises(kind, match="total must be an int of at least 0, or None where nobody knows, got "):
            run([1], total)


@pytest.mark.parametrize("tasks", ["abc", b"abc", bytearray(b"abc")])
def test_a_str_is_refused_as_tasks(tasks: Any) -> None:
    """It would be run letter by letter; the message shows the list that was meant."""
    with pytest.raises(TypeError) as raised:
        make().start(tasks)
    assert f"got one {type(tasks).__name__}" in str(raised.value)
    assert f"[{tasks!r}]" in str(raised.value)


def test_async_iterable_is_refused_by_start() -> None:
    """It names the methods that take it, and the generator is not begun."""
    begun = []

    async def tasks() -> Any:
        begun.append(1)
        yield 1

    for run in (make().start, make().stream):
        with pytest.raises(TypeError, match="async iterable, which start and stream cannot pull. Use start_async or"):
            run(tasks())
    assert begun == []


def test_manager_that_refused_its_tasks_can_be_used() -> None:
    """A refused start leaves nothing claimed."""
    manager = make(log_dir=None)

    async def tasks() -> Any:
        yield 1

    for wrong in (3, "abc", tasks()):
        with pytest.raises(TypeError):
            manager.start(wrong)
    assert manager.start([1, 2]).succeeded == 2


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_tasks_per_worker": 0}, ValueError, "max_tasks_per_worker must be a positive int or None, got 0"),
        ({"max_worker_memory": "1 GB"}, TypeError, "max_worker_memory must be a positive int or None, got '1 GB'"),
        ({"env": {"A": 1}}, TypeError, "env"),
    ],
)
def test_values_of_executor_options_are_checked_by_the_constructor(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    """Where the executor is built in; long before a run would have found out."""
    with pytest.raises(error, match=message):
        make(mode="process", executor_options=options)


def test_factory_of_a_plugin_checks_its_options_early() -> None:
    """A plugin's factory may carry ``check``, and is not called before the run for that."""
    made: list[object] = []

    def factory(worker_limit: int | None, **options: object) -> ScriptedExecutor:
        made.append(options)
        return ScriptedExecutor()

    def check(worker_limit: int | None, **options: object) -> None:
        if options != {"address": "here"}:
            raise ValueError(f"address must be 'here', got {options!r}.")

    factory.options = frozenset({"address"})  # type: ignore[attr-defined]  # what a factory may carry
    factory.check = check  # type: ignore[attr-defined]  # the same

    class Plugin:
        @hookimpl
        def executor_factories(self) -> dict[str, object]:
            return {"scripted": factory}

    with pytest.raises(ValueError, match="address must be 'here'"):
        make(mode="scripted", executor_options={"address": 7}, plugins=[Plugin()])
    with pytest.raises(TypeError, match="Did you mean 'address'"):
        make(mode="scripted", executor_options={"adress": "here"}, plugins=[Plugin()])
    manager = make(mode="scripted", executor_options={"address": "here"}, plugins=[Plugin()])
    assert made == []
    assert manager.start([1]).succeeded == 1


def test_executor_options_that_nobody_takes_are_refused() -> None:
    """By name, with those that there are; an executor that is made already takes none at all."""
    with pytest.raises(TypeError, match="execution_mode='thread' has no executor option 'colour'. It takes: none"):
        make(mode="thread", executor_options={"colour": "red"})
    with pytest.raises(TypeError, match="It takes: .*max_tasks_per_worker"):
        make(mode="process", executor_options={"colour": "red"})
    with pytest.raises(ValueError, match="executor_options are for an executor that is named"):
        make(mode=ScriptedExecutor(), executor_options={"colour": "red"})


def test_factory_that_makes_no_executor_is_refused_before_a_task_is_taken() -> None:
    """The message names what it made, and what an executor needs."""
    tasks = iter([1, 2])
    with pytest.raises(TypeError, match="made int, which is no executor: it needs start, submit, stop"):
        make(mode=lambda: 3, log_dir=None).start(tasks)
    assert next(tasks) == 1


def test_super_init_that_was_forgotten_is_named() -> None:
    """A subclass whose constructor does not call ours says so when it is used."""

    class Forgetful(TaskManager[Any, Any]):
        def __init__(self) -> None:
            pass

    with pytest.raises(TypeError, match=r"Forgetful.__init__ must call super\(\).__init__\(func, ...\) first"):
        Forgetful().start([1])
    assert repr(Forgetful()) == "<Forgetful, not initialised>"


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("get_args", "task"),
        ("process_result", "task, result"),
        ("process_result_dict", ""),
        ("handle_error_dict", ""),
    ],
)
def test_override_without_self_is_refused_with_the_line_that_is_right(name: str, arguments: str) -> None:
    """The mistake of the seed document, at construction."""
    namespace: dict[str, Any] = {}
    exec(f"def {name}({arguments}): return ()", namespace)
    kind = type("Mine", (TaskManager,), {name: namespace[name]})
    right = f"def {name}({', '.join(filter(None, ['self', arguments]))}):"
    with pytest.raises(TypeError) as raised:
        kind(double)
    assert str(raised.value) == f"{name} of Mine cannot be called: it has no 'self'. Write: {right}"


def test_override_of_other_shapes() -> None:
    """What fits is taken however it is written; what does not is refused with the number of its arguments."""

    class Static(TaskManager[Any, Any]):
        @staticmethod
        def get_args(task: Any) -> Any:
            return (task + 1,)

    class Greedy(TaskManager[Any, Any]):
        def get_args(self, *anything: Any) -> Any:
            return anything

    class TooMany(TaskManager[Any, Any]):
        def get_args(self, task: Any, more: Any) -> Any:  # type: ignore[override]  # the mistake under test
            return (task, more)

    class Soon(TaskManager[Any, Any]):
        async def process_result(self, task: Any, result: Any) -> Any:
            return result

    class NoMethod(TaskManager[Any, Any]):
        get_args = 3  # type: ignore[assignment]  # the mistake under test

    static = Static(double, enable_success_cache=True, log_dir=None)
    static.start([1])
    assert static.success_dict == {1: 4}
    assert Greedy(double, log_dir=None).start([1]).succeeded == 1
    with pytest.raises(TypeError, match="get_args of .*TooMany cannot be called: it must take 1 arguments"):
        TooMany(double)
    with pytest.raises(TypeError, match="process_result of .*Soon is a coroutine function, but it is called"):
        Soon(double)
    with pytest.raises(TypeError, match="get_args of .*NoMethod must be a method, got 3"):
        NoMethod(double)


def test_override_set_on_the_instance_is_checked_by_start() -> None:
    """An attribute that is set after construction is an override too, and is refused before a task is taken."""
    manager = make(log_dir=None, enable_success_cache=True)
    manager.get_args = lambda task: (task * 10,)  # type: ignore[method-assign]  # what users do to an instance
    manager.start([1])
    assert manager.success_dict == {1: 20}
    manager.get_args = lambda: ()  # type: ignore[method-assign,assignment,misc]  # the mistake
    tasks = iter([1])
    with pytest.raises(TypeError, match="get_args of TaskManager cannot be called"):
        manager.start(tasks)
    assert next(tasks) == 1


def test_good_values_at_the_edges_are_taken() -> None:
    """The smallest and the odd ones that are right."""
    manager = make(
        max_retries=0,
        max_info=0,
        worker_limit=1,
        max_in_flight=1,
        grace=0,
        task_timeout=None,
        stop=Stop(errors=1),
        backoff=Backoff(initial=0, jitter=0),
        retry_exceptions=ValueError,
        executor_options=None,
        plugins=(),
        log_dir=None,
    )
    assert manager.retry_exceptions == (ValueError,)
    assert manager.start([1, 2, 3]).succeeded == 3
