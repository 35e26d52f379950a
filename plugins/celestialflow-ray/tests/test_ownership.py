"""Whose Ray it is: the user's is never shut down, and one of ours always, however the run ends."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from celestialflow_core import TaskManager
from celestialflow_core.testing import wait_until

Script = Callable[..., "subprocess.Popen[str]"]
Descendants = Callable[[int], list[int]]


def finished(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What a script has printed that ended well."""
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return output, errors


@pytest.mark.parametrize("option", ["init", "address"])
def test_init_is_refused_where_ray_is_initialised(local_ray: Any, option: str) -> None:
    """It would have no effect; the sentence says what to do."""
    given: Any = {"init": {"num_cpus": 1}} if option == "init" else {"address": "127.0.0.1:1"}
    manager = TaskManager(abs, "ray", log_dir=None, executor_options=given)

    with pytest.raises(ValueError, match="Leave them out to use that Ray"):
        manager.start([1])


def test_ray_of_our_own_is_gone_after_the_run(script: Script) -> None:
    """Processes, variables, the handler of SIGTERM and the logger are as before; and it says nothing on the way."""
    process = script(
        """
        import logging, os, signal
        import ray
        from celestialflow_core import TaskManager

        def known():
            logger = logging.getLogger("ray")
            return dict(os.environ), signal.getsignal(signal.SIGTERM), list(logger.handlers), logger.level

        before = known()
        manager = TaskManager(abs, "ray", worker_limit=2, log_dir=None, log_level="ERROR")
        for _ in range(2):  # a second Ray, after the first
            assert manager.start(range(-100, 0)).succeeded == 100
            assert not ray.is_initialized()
            assert known() == before
            children = open(f"/proc/self/task/{os.getpid()}/children").read()
            assert not children, children
        """,
        RAY_ENABLE_UV_RUN_RUNTIME_ENV="1",  # the tests may run under it
    )
    output, errors = finished(process)

    assert output == ""
    assert [line for line in errors.splitlines() if "celestialflow_core" not in line] == []


REFUSAL = (
    "Another run of this process has started Ray with other arguments for ray.init, and a process has one Ray. "
    "Give both the same, or initialise Ray before them and leave out init and address."
)


def test_init_goes_to_ray_and_that_ray_is_ours(script: Script) -> None:
    """The runs of a process that ask for the same share it; the last one ends it."""
    process = script(
        """
        import ray
        from celestialflow_core import TaskManager

        def has(_):
            import ray
            return ray.cluster_resources().get("pan")

        options = {"init": {"num_cpus": 2, "resources": {"pan": 3}, **SMALL}}
        with TaskManager(has, "ray", log_dir=None, enable_success_cache=True, executor_options=options) as first:
            first.start([1])
            print(first.get_success_dict())
            second = TaskManager(has, "ray", log_dir=None, enable_success_cache=True, executor_options=options)
            second.start([2])
            print(second.get_success_dict(), ray.is_initialized())
            third = TaskManager(has, "ray", log_dir=None, executor_options={"init": {"num_cpus": 1}})
            try:
                third.start([3])
            except ValueError as error:
                print(error)
        print(ray.is_initialized())
        """
    )
    output, _ = finished(process)

    assert output.splitlines() == [
        "{1: 3.0}",
        "{2: 3.0} True",
        REFUSAL,
        "False",
    ]


def test_ray_that_cannot_be_started_is_said(script: Script) -> None:
    """In Ray's words, without a Ray that is half there; the same where it starts, and no worker does."""
    process = script(
        """
        import ray
        from celestialflow_core import TaskManager
        from celestialflow_core.errors import WorkerSetupError

        nowhere = {"init": {"num_cpus": 2, "runtime_env": {"conda": "no-such-environment"}, **SMALL}}
        for options in ({"init": {"num_cpu": 1}}, {"resources": {"fpga": 1}}, nowhere):
            try:
                TaskManager(abs, "ray", log_dir=None, executor_options=options).start([1])
            except WorkerSetupError as error:
                print(error)
            assert not ray.is_initialized()
        """
    )
    first, second, third = finished(process)[0].splitlines()

    assert first.startswith("Ray could not be started. It said: RuntimeError: Unknown keyword argument(s): num_cpu")
    assert second.startswith(
        "A worker needs {'CPU': 1, 'fpga': 1}, and the Ray that was started for this run has CPU: "
    )
    assert third.startswith("No worker of the Ray cluster starts. Ray says of the last: Failed to set up runtime env")


@pytest.mark.parametrize("presses", [1, pytest.param(2, marks=pytest.mark.soak)])
def test_ctrl_c_leaves_nothing_behind(script: Script, descendants: Descendants, tmp_path: Path, presses: int) -> None:
    """A terminal sends it to every process of the group: the run ends, and Ray with it."""
    process = script(
        """
        import pathlib, time
        from celestialflow_core import TaskManager

        def work(number):
            pathlib.Path("started").touch()
            time.sleep(0.5 if number else 60)
            return number

        options = {"init": {"num_cpus": 2, **SMALL}}
        manager = TaskManager(work, "ray", worker_limit=2, log_dir=None, grace=3, executor_options=options)
        try:
            manager.start(range(1000))
        except KeyboardInterrupt:
            summary = manager.summary
            assert summary.total == summary.succeeded + summary.cancelled, summary
            print("interrupted", summary.failed)
            raise
        """
    )
    wait_until(lambda: (tmp_path / "started").exists(), 60)
    family = descendants(process.pid)
    assert family
    for _ in range(presses):
        os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=60)

    assert output == "interrupted 0\n", errors
    assert process.returncode in (-signal.SIGINT, 130, 1), errors
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in family), 30)


@pytest.mark.soak
def test_killed_script_takes_its_ray_along(script: Script, descendants: Descendants, tmp_path: Path) -> None:
    """With SIGKILL nobody can tidy up: the Ray of the run ends with the process that it was made for."""
    process = script(
        """
        import pathlib, time
        from celestialflow_core import TaskManager

        def work(number):
            pathlib.Path("started").touch()
            time.sleep(60)

        TaskManager(work, "ray", log_dir=None, executor_options={"init": {"num_cpus": 2, **SMALL}}).start(range(10))
        """
    )
    wait_until(lambda: (tmp_path / "started").exists(), 60)
    # Ray's agents notice after a minute, and then end too.
    family = [pid for pid in descendants(process.pid) if "Agent" not in _command(pid)]
    assert any("StationHolder" in _command(pid) for pid in family)
    process.kill()

    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in family), 60)


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")


BLIND = """
import sys
if any(part.endswith("default_worker.py") for part in sys.orig_argv):
    import importlib.abc
    class Blind(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] in ("celestialflow_core", "celestialflow_ray", "cloudpickle"):
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    sys.meta_path.insert(0, Blind())
"""


def test_workers_need_ray_alone(script: Script, tmp_path: Path) -> None:
    """Neither the core nor this package nor cloudpickle, of which Ray has a copy."""
    (tmp_path / "blind").mkdir()
    (tmp_path / "blind" / "sitecustomize.py").write_text(BLIND)
    process = script(
        """
        from celestialflow_core import TaskManager

        def look(number):
            missing = []
            for name in ("celestialflow_core", "celestialflow_ray"):
                try:
                    __import__(name)
                except ImportError:
                    missing.append(name)
            if number == 3:
                raise KeyError(number)
            return missing

        manager = TaskManager(
            look, "ray", log_dir=None, enable_success_cache=True, enable_error_cache=True, task_timeout=30,
            executor_options={"init": {"num_cpus": 2, **SMALL}},
        )
        manager.start(range(5))
        print(manager.get_success_dict()[0], len(manager.get_success_dict()), manager.get_error_dict())
        """,
        PYTHONPATH=os.pathsep.join([str(tmp_path / "blind"), *filter(None, [os.environ.get("PYTHONPATH")])]),
    )

    assert finished(process)[0] == "['celestialflow_core', 'celestialflow_ray'] 4 {3: KeyError(3)}\n"
