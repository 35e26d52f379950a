"""What is the user's is never closed; what is ours is ended with the run, however that ends."""

from __future__ import annotations

import glob
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from celestialflow_core import TaskManager
from celestialflow_core.testing import Resources, wait_until

SCRIPT = """
import os, sys, time
from celestialflow_core import TaskManager

FOLDER = sys.argv[1]

def nap(x):
    open(FOLDER + "/" + str(os.getpid()), "w").close()
    time.sleep(x)
    return x

manager = TaskManager(nap, "dask", 2, grace=0.5, log_dir=None)
try:
    print(manager.start([float(text) for text in sys.argv[2:]]).succeeded)
except KeyboardInterrupt:
    print("interrupted", manager.summary.cancelled)
"""


def left_in_tmp() -> set[str]:
    """The folders of clusters of our own."""
    return set(glob.glob(os.path.join(tempfile.gettempdir(), "celestialflow-dask-*")))


def test_cluster_of_our_own_leaves_nothing_behind() -> None:
    """No process, thread, descriptor or folder."""
    before, folders = Resources(), left_in_tmp()

    summary = TaskManager(int, "dask", 2, log_dir=None).start(map(str, range(100)))

    assert summary.succeeded == 100
    before.expect_no_leaks(lambda leak: leak == "thread 'Dask-Offload_0'")
    assert left_in_tmp() <= folders


@pytest.mark.parametrize("given", ["address", "client"])
def test_cluster_of_the_user_stays_as_it_was(given: str, client: Any, address: str) -> None:
    """Its client works on, its workers are the same, and nothing of the run is left in their memory."""
    before = set(client.scheduler_info()["workers"])
    options = {"address": address} if given == "address" else {"client": client}

    summary = TaskManager(int, "dask", log_dir=None, executor_options=options).start(map(str, range(100)))

    assert summary.succeeded == 100
    assert client.submit(int, "7", pure=False).result() == 7
    assert set(client.scheduler_info()["workers"]) == before
    wait_until(lambda: not any(client.has_what().values()), 30)


def test_script_needs_no_guard(tmp_path: Path) -> None:
    """Neither the cluster nor its workers import the script that starts them; here it has no file at all."""
    done = subprocess.run(
        [sys.executable, "-", str(tmp_path), "0", "0.1"], input=SCRIPT, capture_output=True, text=True, check=False
    )
    assert done.stdout == "2\n", done.stderr


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_script_that_is_ended_leaves_no_process(how: signal.Signals, tmp_path: Path) -> None:
    """By Ctrl-C and by SIGKILL, with a call that does not end: its worker goes, and so does the cluster."""
    folders = left_in_tmp()
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path), "600", "601", "602"], stdout=subprocess.PIPE, text=True
    )
    wait_until(lambda: sum(path.name.isdigit() for path in tmp_path.iterdir()) == 2, 60)
    workers = [int(path.name) for path in tmp_path.iterdir() if path.name.isdigit()]

    process.send_signal(how)
    said, _ = process.communicate(timeout=60)

    assert said == ("interrupted 3\n" if how == signal.SIGINT else "")
    wait_until(lambda: not any(os.path.exists(f"/proc/{worker}") for worker in workers), 30)
    wait_until(lambda: left_in_tmp() <= folders, 30)
