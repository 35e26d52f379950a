"""Options that make no sense are refused before anything starts, in a sentence."""

from __future__ import annotations

from typing import Any

import pytest

from celestialflow_core import TaskManager
from celestialflow_ray import make_executor
from celestialflow_ray._options import RayOptions
from celestialflow_ray._text import plain


@pytest.mark.parametrize(
    ("options", "kind", "says"),
    [
        ({"init": "auto"}, TypeError, "init must be a dict of arguments for ray.init"),
        ({"init": {1: 2}}, TypeError, "init must be a dict of arguments for ray.init"),
        ({"address": 6379}, TypeError, 'address must be the "host:port"'),
        ({"address": "a:1", "init": {"address": "b:1"}}, ValueError, "two addresses"),
        ({"num_cpus": -1}, TypeError, "num_cpus must be a number of at least 0"),
        ({"num_cpus": True}, TypeError, "num_cpus must be a number of at least 0"),
        ({"num_gpus": "one"}, TypeError, "num_gpus must be a number of at least 0"),
        ({"resources": ["stove"]}, TypeError, "resources must be a dict"),
        ({"resources": {"stove": "two"}}, TypeError, "resources must be a dict"),
        ({"resources": {"GPU": 1}}, ValueError, "say num_gpus=1"),
        ({"wait_for_workers": 0}, ValueError, "wait_for_workers must be a number"),
    ],
)
def test_option_that_makes_no_sense_is_refused(options: dict[str, Any], kind: type[Exception], says: str) -> None:
    """By the factory, which connects to nothing."""
    with pytest.raises(kind, match=says):
        make_executor(2, **options)


def test_option_that_makes_no_sense_is_refused_by_the_manager() -> None:
    """When it is made, and not when it runs."""
    with pytest.raises(TypeError, match="num_cpus must be a number"):
        TaskManager(abs, "ray", executor_options={"num_cpus": -1})


def test_unknown_option_is_refused_by_the_manager() -> None:
    """With the name that was probably meant."""
    with pytest.raises(TypeError, match="Did you mean 'num_cpus'"):
        TaskManager(abs, "ray", executor_options={"num_cpu": 1})


@pytest.mark.parametrize(
    ("options", "nodes", "room"),
    [
        ({}, [{"CPU": 4.0}, {"CPU": 2.0}], 6),
        ({"num_cpus": 3}, [{"CPU": 4.0}, {"CPU": 2.0}], 1),
        ({"num_cpus": 0.1}, [{"CPU": 0.3}], 3),
        ({"num_cpus": 0}, [{"CPU": 4.0}], 4),
        ({"num_gpus": 1}, [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 8.0}], 2),
        ({"num_gpus": 1, "num_cpus": 0}, [{"CPU": 1.0, "GPU": 2.0}], 2),
        ({"resources": {"stove": 2}}, [{"CPU": 8.0, "stove": 5.0}], 2),
        ({}, [], 0),
    ],
)
def test_room_is_what_fits_on_each_node(options: dict[str, Any], nodes: list[dict[str, float]], room: int) -> None:
    """Not what would fit if the nodes were one."""
    assert RayOptions(**options).room(nodes) == room


def test_ray_words_are_shown_without_colour() -> None:
    """On one line, and not without end."""
    assert plain(RuntimeError("\x1b[36mray::run()\x1b[39m (pid=1)\n  failed.")) == "ray::run() (pid=1) failed"
    assert len(plain(RuntimeError("x" * 5000))) == 600
