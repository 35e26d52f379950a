"""The lock of a store: one holder, named to others; gone with it, however it ends."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from celestialflow_core.errors import SinkError
from celestialflow_core.sinks._lock import StoreLock

FORKS = """
import os, pathlib, sys, time
from celestialflow_core.sinks._lock import StoreLock
lock = StoreLock.acquire(pathlib.Path("store").absolute(), "store")
child = os.fork()
if not child:
    sys.stdin.read()
    os._exit(0)
print(child, flush=True)
time.sleep(600)
"""


@pytest.fixture
def store(own_folder: Path) -> Path:
    """Where a store would be."""
    return own_folder / "store"


def test_file_says_who_has_it_and_goes_with_it(store: Path) -> None:
    """While it is held, the file beside the store has the pid; afterwards there is none."""
    lock = StoreLock.acquire(store, "a:b")
    path = store.with_name("store.lock")
    assert path.read_text().split("\n")[0] == str(os.getpid())

    lock.release()
    lock.release()
    assert list(store.parent.iterdir()) == []


def test_second_in_one_process_is_refused_and_harms_nothing(store: Path) -> None:
    """By whatever path: the attempt does not drop the lock, as closing a descriptor of the file would."""
    lock = StoreLock.acquire(store, "a:b")
    store.with_name("link.lock").symlink_to(store.with_name("store.lock"))

    for other in (store, store.with_name("link"), store):
        with pytest.raises(SinkError) as caught:
            StoreLock.acquire(other, "a:b")
        assert str(caught.value) == (
            f"a:b: It is in use by this process (pid {os.getpid()}). Wait until that has ended, end it, or give "
            f"another store."
        )
    code = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(store.with_name("store.lock"))], capture_output=True, check=False
    )
    assert b"BlockingIOError" in done.stderr
    lock.release()


def test_text_of_a_dead_holder_blocks_nobody(store: Path) -> None:
    """What is left of one that was killed is a file without a lock, whatever it says."""
    store.with_name("store.lock").write_text("1\nelsewhere\n")

    StoreLock.acquire(store, "a:b").release()


def test_fork_of_a_dead_holder_blocks_nobody(store: Path) -> None:
    """A worker that was forked while the store was open, and outlives its parent, does not keep the lock."""
    holder = subprocess.Popen(
        [sys.executable, "-c", FORKS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert holder.stdout is not None
    orphan = int(holder.stdout.readline())
    try:
        with pytest.raises(SinkError, match=rf"pid {holder.pid}\b"):
            StoreLock.acquire(store, "a:b")
        holder.kill()
        holder.wait()
        os.kill(orphan, 0)

        StoreLock.acquire(store, "a:b").release()
    finally:
        holder.communicate()
        try:
            os.kill(orphan, 9)
        except ProcessLookupError:
            pass


def test_many_at_once_are_one_after_the_other(store: Path) -> None:
    """Threads that take, check and release: never two at a time, and nobody finds a file that is gone."""
    inside: list[int] = []
    most = []
    wrong: list[BaseException] = []

    def take() -> None:
        got = 0
        while got < 50:
            try:
                lock = StoreLock.acquire(store, "a:b")
            except SinkError:
                continue
            except BaseException as error:
                wrong.append(error)
                return
            inside.append(1)
            most.append(len(inside))
            inside.pop()
            got += 1
            lock.release()

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert wrong == []
    assert max(most) == 1
    assert len(most) == 200


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("missing/store", "The folder .*/missing does not exist. Make it, or give another path."),
        ("file/store", "The folder .*/file does not exist."),
        ("x" * 300, "cannot be written \\(File name too long\\). Give a path where this user may write"),
    ],
)
def test_lock_that_cannot_be_made_says_why(own_folder: Path, path: str, said: str) -> None:
    """A SinkError with what to do."""
    (own_folder / "file").touch()

    with pytest.raises(SinkError, match=said):
        StoreLock.acquire(own_folder / path, "a:b")
