"""A cluster of our own on this machine, for whoever names none.

It lives in a child process and its children: a script needs no ``if __name__ == "__main__"`` guard for it, the
scheduler does not share the interpreter with the run, and when the process group is ended nothing of it is left.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from celestialflow_core.errors import WorkerSetupError

__all__ = ["LocalDask"]

MAIN = Path(__file__).with_name("_local_main.py")
START = 60.0
"""Seconds that it may take to start."""
CLOSE = 5.0
"""Seconds that it is given to close by itself."""


class LocalDask:
    """Scheduler and workers on this machine; starts with it, ends with `close`.

    Args:
        workers: How many processes, of one thread each.
        resources: What each worker has, or None.

    Attributes:
        address: Where the scheduler is.

    Raises:
        WorkerSetupError: It does not start.
    """

    def __init__(self, workers: int, resources: Mapping[str, float] | None = None) -> None:
        self._directory = tempfile.mkdtemp(prefix="celestialflow-dask-")
        self._link, far = socket.socketpair()
        with far:
            self._process = subprocess.Popen(
                [sys.executable, str(MAIN), str(far.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[far.fileno()],
                start_new_session=True,  # a Ctrl-C in the terminal is for the run, which closes the cluster
            )
        order = {
            "path": sys.path,
            "workers": workers,
            "resources": None if resources is None else dict(resources),
            "directory": self._directory,
            "silence": logging.CRITICAL,
            "patience": CLOSE / 2,
        }
        try:
            self.address = self._start(order)
        except BaseException:
            self.close(0)
            raise

    def _start(self, order: dict[str, Any]) -> str:
        self._link.settimeout(START)
        with self._link.makefile("rw") as lines:
            try:
                lines.write(json.dumps(order) + "\n")
                lines.flush()
                line = lines.readline()
            except OSError as error:
                raise WorkerSetupError(f"The Dask cluster on this machine did not start: {error}.") from error
        if not line:
            code = self._process.wait()
            raise WorkerSetupError(f"The Dask cluster on this machine did not start: its process ended with {code}.")
        answer: dict[str, str] = json.loads(line)
        if "error" in answer:
            raise WorkerSetupError("The Dask cluster on this machine did not start.", answer["error"])
        return answer["address"]

    def close(self, grace: float = CLOSE) -> None:
        """End it, within *grace* seconds if it listens, else at once."""
        self._link.close()
        try:
            self._process.wait(min(grace, CLOSE))
        except subprocess.TimeoutExpired:
            pass
        finally:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:  # it has ended, and so have its workers
                pass
            self._process.wait()
            shutil.rmtree(self._directory, ignore_errors=True)
