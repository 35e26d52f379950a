"""That whole runs survive ``kill -9`` with a store, as tests: subclass `KillContract` in a test file and give the URL.

    class TestMyStoreKilled(KillContract):
        url = "mine:{folder}/results"

`SinkContract` kills a process that writes batches; here it is a run, of a manager and of a graph with a cycle and a
gather, on threads and on processes, that is killed and goes on until it is done.

For a long proof, once in a while, subclass it again with more:

    @pytest.mark.soak
    class TestMyStoreKilledOften(TestMyStoreKilled):
        kills, seeds = 5, range(2, 12)
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

import pytest

from celestialflow_core.testing._contract.killing import Life, kill_and_resume
from celestialflow_core.testing._contract.sink_suite import SinkSuite

__all__ = ["KillContract"]


class KillContract(SinkSuite):
    """Tests for a store that can be read (it has ``restore`` and ``reader``). Override `url` or `make_url`.

    Attributes:
        url: The store's URL, in which ``{folder}`` stands for a folder that each store has anew.
        patience: Seconds to wait for what must come.
        kills: How often a run is killed before it may come to its end.
        seeds: For each, a store of its own lives through all that; the seed says when it is killed.
        tasks: How many there are for a run; more of them make it longer.
    """

    kills: int = 3
    seeds: Iterable[int] = (1,)
    tasks: int = 300

    def check_store(self, url: str) -> None:
        """Called when all is done: override it to look at the store in ways that others will."""

    @pytest.mark.parametrize("mode", ["thread", "process"])
    @pytest.mark.parametrize("kind", ["manager", "graph"])
    @pytest.mark.filterwarnings("ignore:.*last line was incomplete")
    def test_killed_run_goes_on_where_it_stopped(self, tmp_path: Path, kind: str, mode: str) -> None:
        """Each task is in the store exactly once, nothing runs again after its row was there, and nothing is missing.

        The run is killed with SIGKILL while it opens its store, in the midst of its calls, and when rows have come.
        """
        for seed in self.seeds:
            folder = tmp_path / f"life-{seed}"
            folder.mkdir()
            url = self.make_url(folder)
            life = Life(kind, mode, url, self.make_sink, folder, self.tasks, self.patience)
            try:
                kill_and_resume(life, kind, self.tasks, self.kills, random.Random(seed))
                self.check_store(url)
            except AssertionError as error:
                error.add_note(f"This was with the seed {seed}.")
                raise
