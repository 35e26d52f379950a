"""Clusters that are somewhere else: not there, there, growing, shrinking, and gone in the middle of a run."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from celestialflow_core.testing import wait_until

Script = Callable[..., "subprocess.Popen[str]"]


@pytest.mark.parametrize("address", ["{unused}", "nowhere.invalid:6379", "ray://127.0.0.1:10001", "localhost"])
def test_cluster_that_is_not_there_is_said_at_once(script: Script, address: str) -> None:
    """Within seconds, with what to do; Ray itself would try for two minutes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        unused = f"127.0.0.1:{free.getsockname()[1]}"
    source = """
        import os, time
        from celestialflow_core import TaskManager
        from celestialflow_core.errors import WorkerSetupError
        import ray

        manager = TaskManager(abs, "ray", log_dir=None, executor_options={"address": os.environ["WHERE"]})
        begin = time.monotonic()
        try:
            manager.start([1])
        except WorkerSetupError as error:
            print(error)
        assert time.monotonic() - begin < 20
        assert not ray.is_initialized()
        """
    output, errors = script(source, WHERE=address.format(unused=unused)).communicate(timeout=60)

    assert address.format(unused=unused) in output, errors
    assert output.startswith(("No Ray cluster answers at", "ray://", "'localhost' is no address")), output


WORK = """
    import os, pathlib, time
    from celestialflow_core import TaskManager

    SEEN = os.environ["SEEN"]

    def work(number):
        import ray
        pathlib.Path(SEEN, ray.get_runtime_context().get_node_id()).touch()
        time.sleep(0.02)
        return number

    options = {"address": os.environ["WHERE"], "wait_for_workers": 20}
    options |= {"init": {"log_to_driver": False}}
    """


def test_node_that_joins_is_used_and_one_that_leaves_is_forgotten(script: Script, head: Any, tmp_path: Path) -> None:
    """The run goes on with those that are there, and the cluster is there after it."""
    seen = tmp_path / "seen"
    seen.mkdir()
    process = script(
        WORK
        + """
    summary = TaskManager(work, "ray", log_dir=None, executor_options=options).start(
        iter(lambda: None if pathlib.Path("enough").exists() else time.monotonic_ns(), None)
    )
    print(summary.succeeded == summary.total > 0, summary.failed)
    """,
        WHERE=head.address, SEEN=str(seen), RAY_AUTH_MODE="disabled",
    )  # fmt: skip
    try:
        wait_until(lambda: len(list(seen.iterdir())) == 1, 60)
        joined = head.join()
        wait_until(lambda: len(list(seen.iterdir())) == 2, 60)
        head.kill(joined)
        for path in seen.iterdir():
            path.unlink()
        wait_until(lambda: len(list(seen.iterdir())) == 1, 60)
    finally:
        (tmp_path / "enough").touch()
    output, errors = process.communicate(timeout=120)

    # Ray itself may tell of the node that died on the standard output, before that.
    assert output.splitlines()[-1] == "True 0", errors
    again = script(
        WORK + "manager = TaskManager(work, 'ray', log_dir=None, executor_options=options)"
        "\n    print(manager.start([1]).succeeded)",
        WHERE=head.address, SEEN=str(seen), RAY_AUTH_MODE="disabled",
    )  # fmt: skip
    assert again.communicate(timeout=60)[0] == "1\n"


@pytest.mark.soak
@pytest.mark.parametrize("afterwards", [0, 60])
def test_cluster_that_goes_away_ends_the_run_which_can_go_on_later(
    script: Script, head: Any, tmp_path: Path, afterwards: int
) -> None:
    """Not in silence, and Ray does not take the process along: every task is accounted for, and stored ones stay.

    Nor does Ray later, when the minute is over after which it ends the processes that have lost their cluster.
    """
    source = (
        WORK
        + """
    manager = TaskManager(work, "ray", log_dir=None, sinks=["sqlite:results.db"], resume=True, executor_options=options)
    try:
        manager.start(range(3000))
    except Exception as error:
        print(type(error).__name__, error)
        summary = manager.summary
        accounted = summary.succeeded + summary.failed + summary.cancelled
        print(summary.succeeded > 0, summary.failed, summary.total == accounted)
        time.sleep(float(os.environ["AFTERWARDS"]))
        print("alive")
    """
    )
    process = script(
        source, WHERE=head.address, SEEN=str(tmp_path), RAY_AUTH_MODE="disabled", AFTERWARDS=str(afterwards)
    )
    wait_until(lambda: (tmp_path / "results.db").exists() and _rows(tmp_path / "results.db") > 50, 60)
    begin = time.monotonic()
    head.kill()
    output, errors = process.communicate(timeout=180)

    assert process.returncode == 0, errors
    said, account, alive = output.splitlines()
    assert "has not answered for 20 seconds" in said or "no worker for" in said
    assert account == "True 0 True"
    assert alive == "alive"
    assert time.monotonic() - begin < 60 + afterwards

    later = script(
        WORK
        + """
    again = TaskManager(work, "thread", log_dir=None, sinks=["sqlite:results.db"], resume=True).start(range(3000))
    print(again.restored > 50, again.restored + again.succeeded)
    """,
        WHERE="", SEEN=str(tmp_path),
    )  # fmt: skip
    assert later.communicate(timeout=60)[0] == "True 3000\n"


@pytest.mark.soak
def test_process_that_ray_ends_with_its_store_goes_on_later(script: Script, head: Any, tmp_path: Path) -> None:
    """Where results are so large that they go through the object store, Ray ends the caller together with that."""
    process = script(
        WORK
        + """
    def large(number):
        return bytes(200_000)

    TaskManager(
        large, "ray", name="large", log_dir=None, sinks=["sqlite:results.db"], resume=True, executor_options=options
    ).start(range(1_000_000))
    """,
        WHERE=head.address, SEEN=str(tmp_path), RAY_AUTH_MODE="disabled",
    )  # fmt: skip
    wait_until(lambda: (tmp_path / "results.db").exists() and _rows(tmp_path / "results.db") > 50, 60)
    head.kill()
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0, errors

    later = script("""
    from celestialflow_core import TaskManager

    def large(number):
        return bytes(200_000)

    again = TaskManager(large, "thread", name="large", log_dir=None, sinks=["sqlite:results.db"], resume=True)
    summary = again.start(range(100))
    print(summary.restored > 20, summary.restored + summary.succeeded)
    """)
    output, errors = later.communicate(timeout=60)
    assert output == "True 100\n", errors


def _rows(path: Path) -> int:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as store:
        try:
            return int(store.execute("SELECT count(*) FROM results").fetchone()[0])
        except sqlite3.OperationalError:  # it is being made
            return 0


def test_ray_that_is_shut_down_in_the_middle_ends_the_run(script: Script) -> None:
    """By the program itself, in another thread: with a sentence, and no hang."""
    process = script(
        """
        import pathlib, threading, time
        import ray
        from celestialflow_core import TaskManager

        ray.init(address="local", num_cpus=2, **SMALL)

        def work(number):
            pathlib.Path("started").touch()
            time.sleep(0.05)
            return number

        def shut_down():
            while not pathlib.Path("started").exists():
                time.sleep(0.05)
            ray.shutdown()

        threading.Thread(target=shut_down).start()
        manager = TaskManager(work, "ray", log_dir=None)
        try:
            manager.start(range(100_000))
        except Exception as error:
            print(error)
        summary = manager.summary
        print(summary.total == summary.succeeded + summary.failed + summary.cancelled, summary.failed)
        print(ray.is_initialized())
        """
    )
    output, errors = process.communicate(timeout=60)

    assert output.splitlines() == ["Ray was shut down in this process while the run used it.", "True 0", "False"], (
        errors
    )
