"""Leaks are seen and named: threads, children, descriptors."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from celestialflow_core.testing import Resources
from celestialflow_core.testing.leaks import Resources as Same


def test_thread_is_seen_until_it_ends() -> None:
    """By its name."""
    before, release = Resources(), threading.Event()
    thread = threading.Thread(target=release.wait, args=(60,), name="lingering")
    thread.start()
    try:
        assert before.leaks() == ["thread 'lingering'"]
        with pytest.raises(AssertionError, match="Left behind: thread 'lingering'"):
            before.expect_no_leaks(seconds=0.0)
        before.expect_no_leaks(lambda leak: "lingering" in leak)
    finally:
        release.set()
        thread.join()
    before.expect_no_leaks()


def test_child_is_seen_until_it_is_reaped() -> None:
    """By its command."""
    before = Resources()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        leaks = before.leaks()
        assert any(leak.startswith(f"child {child.pid}: ") and "input()" in leak for leak in leaks)
        assert child.stdin is not None
        child.stdin.close()
    before.expect_no_leaks()


def test_descriptor_is_seen_until_it_is_closed() -> None:
    """Also where a closed one's number was used again."""
    number = os.open(os.devnull, os.O_RDONLY)
    before = Resources()
    os.close(number)
    other = os.open("/proc/self/stat", os.O_RDONLY)
    assert other == number
    try:
        (leak,) = before.leaks()
        assert leak.startswith(f"descriptor {number}: /proc/")
    finally:
        os.close(other)
    before.expect_no_leaks()


def test_package_exports_the_class_itself() -> None:
    """The lazy name is the class."""
    assert Resources is Same
