"""Who gets which calls next: every call is sent once, suspects go alone, and indexes are taken over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celestialflow_core._call import Calls
from celestialflow_core.executors._crew import Batch, Crew, Post

pytestmark = pytest.mark.pure


def calls(*ids: int) -> Calls:
    """Calls with these *ids*."""
    return Calls(list(ids), [(id,) for id in ids])


def sent(crew: Crew, size: int = 1, deep: int = 2) -> list[tuple[Post, Batch]]:
    """What is sent now."""
    return list(crew.batches(size, deep))


def back(post: Post, batch: Batch) -> None:
    """The batch came back."""
    post.out.remove(batch)
    post.heard = 1.0


def test_new_worker_takes_the_lowest_free_index() -> None:
    """Indexes of workers that are gone are passed on."""
    crew = Crew()
    crew.update({"a": 1, "b": 2, "c": 1})
    assert [post.index for post in crew.posts.values()] == [0, 1, 3]
    new, gone = crew.update({"a": 1, "c": 1, "d": 1, "e": 2})
    assert [post.worker for post in gone] == ["b"]
    assert [(post.worker, post.index) for post in new] == [("d", 1), ("e", 4)]


def test_few_calls_are_spread_over_the_workers() -> None:
    """Four calls for two workers go two batches each, however large a batch may be."""
    crew = Crew()
    crew.update({"a": 1, "b": 1})
    crew.add(calls(0, 1, 2, 3))
    assert sorted(post.worker for post, _ in sent(crew, 100)) == ["a", "a", "b", "b"]


def test_calls_submitted_one_by_one_travel_together() -> None:
    """A batch is filled from as many submissions as it takes."""
    crew = Crew()
    crew.update({"a": 1})
    for id in range(10):
        crew.add(calls(id))
    assert [list(batch.calls.ids) for _, batch in sent(crew, 5)] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]


def test_suspect_has_a_worker_to_itself() -> None:
    """It waits until the dock is empty, and nothing is sent there while it runs; the other worker goes on."""
    crew = Crew()
    crew.update({"a": 1, "b": 1})
    crew.add(calls(*range(4)))
    out = sent(crew)
    crew.suspect(calls(90, 91), 1)
    crew.add(calls(*range(10, 20)))
    assert sent(crew) == []
    dock = next(post for post in crew.posts.values() if post.dock)
    for post, batch in out:
        back(post, batch)
    after = sent(crew)
    assert [(batch.alone, batch.reruns, list(batch.calls.ids)) for post, batch in after if post is dock] == [
        (True, 1, [90])
    ]
    assert [batch.alone for post, batch in after if post is not dock] == [False] * 2


def test_suspect_is_sent_to_a_worker_that_has_been_heard_of() -> None:
    """A new one is asked first, with a batch of no calls."""
    crew = Crew()
    crew.update({"a": 1})
    crew.suspect(calls(7), 1)
    ((post, probe),) = sent(crew)
    assert len(probe.calls) == 0
    assert sent(crew) == []
    back(post, probe)
    ((_, batch),) = sent(crew)
    assert list(batch.calls.ids) == [7]


def test_dock_is_not_where_a_slow_call_runs() -> None:
    """Suspects would wait for it; and nothing else is sent behind a slow call."""
    crew = Crew()
    crew.update({"a": 1, "b": 1})
    slow = Batch(calls(1), collects=True)
    crew.posts["a"].out.append(slow)
    crew.suspect(calls(7), 1)
    crew.add(calls(2, 3))
    crew.posts["b"].heard = 1.0
    assert [(post.worker, batch.alone) for post, batch in sent(crew)] == [("b", True)]
    back(crew.posts["b"], crew.posts["b"].out[0])
    assert {post.worker for post, _ in sent(crew)} == {"b"}


def test_worker_that_is_being_ended_gets_nothing() -> None:
    """Neither calls nor suspects."""
    crew = Crew()
    crew.update({"a": 1})
    crew.posts["a"].ending = True
    crew.add(calls(1))
    crew.suspect(calls(2), 1)
    assert sent(crew) == []
    assert crew.waiting == 2


@given(
    workers=st.dictionaries(st.integers(0, 5), st.integers(1, 3), min_size=1),
    submissions=st.lists(st.integers(1, 40), max_size=8),
    size=st.integers(1, 50),
    deep=st.integers(1, 2),
    losses=st.sets(st.integers(0, 20)),
)
def test_each_call_is_sent_until_it_comes_back(
    workers: dict[int, int], submissions: list[int], size: int, deep: int, losses: set[int]
) -> None:
    """Whatever batches are lost, each call comes back exactly once, and no worker ever has more than its share."""
    crew = Crew()
    crew.update(dict(workers))
    total = 0
    for number in submissions:
        crew.add(calls(*range(total, total + number)))
        total += number
    done: list[int] = []
    rounds = 0
    while len(done) < total:
        sent(crew, size, deep)
        out = [(post, batch) for post in crew.posts.values() for batch in post.out]
        assert out, "Calls wait, and none is on its way."
        for post in crew.posts.values():
            assert len(post.out) <= post.places * deep
            if any(batch.alone for batch in post.out):
                assert len(post.out) == 1
        post, batch = out[0]
        back(post, batch)
        if rounds in losses and not batch.alone:
            crew.suspect(batch.calls, batch.reruns + 1)
        else:
            done += batch.calls.ids
        rounds += 1
    assert sorted(done) == list(range(total))
    assert crew.waiting == 0
    assert not crew.busy
