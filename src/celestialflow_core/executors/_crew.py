"""Which calls go to which worker of a cluster next. No clock, no thread, no cluster: `cluster` has these.

Every worker that is there has a post. Its places are kept busy with one or two batches each, of the size that `Pace`
works out. A batch that is lost as a whole names no culprit: its calls become suspects. For suspects a few posts are
docks: a dock gets no more batches, and when it has none left, it gets one suspect at a time. Who is lost there is
charged.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator, Mapping

from celestialflow_core._call import Call, Calls

__all__ = ["Batch", "Crew", "Post", "WorkerLeft"]


class WorkerLeft(ConnectionError):
    """What a cluster says of a batch whose worker has left in good order: none of its calls is to blame for that."""


class Batch:
    """Calls that travel together.

    Attributes:
        calls: The calls; none in a probe, which only shows that the worker can run any.
        reruns: How often they had been started before.
        alone: Whether it is a suspect, with a worker to itself.
        collects: Whether it is a call that an earlier batch left running, and only waited for.
        sent: When, by the executor's clock.
        overdue: Whether it has taken longer than any batch may, so that its worker was ended.
    """

    __slots__ = ("alone", "calls", "collects", "overdue", "reruns", "sent")

    def __init__(self, calls: Calls, reruns: int = 0, alone: bool = False, collects: bool = False) -> None:
        self.calls = calls
        self.reruns = reruns
        self.alone = alone
        self.collects = collects
        self.sent = 0.0
        self.overdue = False


class Post:
    """One worker that is there.

    Attributes:
        worker: What the cluster calls it.
        index: Its index; the lowest that was free when it came.
        places: How many calls it runs at a time.
        out: The batches that it has, in the order in which they were sent.
        heard: When its last batch came back, or None.
        dock: Whether it is kept for suspects.
        ending: Whether it is being ended, because a call is stuck there.
    """

    __slots__ = ("dock", "ending", "heard", "index", "out", "places", "worker")

    def __init__(self, worker: Hashable, index: int, places: int) -> None:
        self.worker = worker
        self.index = index
        self.places = places
        self.out: list[Batch] = []
        self.heard: float | None = None
        self.dock = False
        self.ending = False


class Crew:
    """The posts, and the calls that wait for one."""

    def __init__(self) -> None:
        self.posts: dict[Hashable, Post] = {}
        self.waiting = 0
        """How many calls have not been sent."""
        self._queue: deque[tuple[Calls, int]] = deque()
        self._suspects: deque[tuple[Call, int]] = deque()
        self._docked = False

    @property
    def places(self) -> int:
        """How many calls run at a time now, at most."""
        return sum(post.places for post in self.posts.values())

    @property
    def busy(self) -> bool:
        """Whether anything has been sent and not come back."""
        return any(post.out for post in self.posts.values())

    # -- workers -----------------------------------------------------------------------------------------------------

    def update(self, workers: Mapping[Hashable, int]) -> tuple[list[Post], list[Post]]:
        """Take note of the workers that are there now; gives the posts that are new, and those that are gone."""
        gone = [self.posts.pop(worker) for worker in list(self.posts) if worker not in workers]
        taken = {index for post in self.posts.values() for index in range(post.index, post.index + post.places)}
        new = []
        for worker, number in workers.items():
            if worker in self.posts:
                continue
            index, places = 0, max(1, number)
            while not taken.isdisjoint(range(index, index + places)):
                index += 1
            taken.update(range(index, index + places))
            self.posts[worker] = post = Post(worker, index, places)
            new.append(post)
        return new, gone

    # -- calls -------------------------------------------------------------------------------------------------------

    def add(self, calls: Calls, reruns: int = 0, *, first: bool = False) -> None:
        """Queue *calls*; *first*, before all others, where they had been sent already."""
        if len(calls):
            self.waiting += len(calls)
            (self._queue.appendleft if first else self._queue.append)((calls, reruns))

    def suspect(self, calls: Calls, reruns: int) -> None:
        """Queue *calls* to run alone; they had been started *reruns* times before."""
        self.waiting += len(calls)
        self._suspects.extend((call, reruns) for call in calls)

    def clear(self) -> None:
        """Forget all that waits."""
        self._queue.clear()
        self._suspects.clear()
        self.waiting = 0

    def batches(self, size: int, deep: int) -> Iterator[tuple[Post, Batch]]:
        """What to send now; each is counted as sent when it is given.

        Args:
            size: How many calls a batch should have.
            deep: How many batches a place may have: one behind another saves the time of a trip, and costs a slow
                call's neighbour the wait for it.
        """
        if self._suspects or self._docked:
            self._appoint_docks()
        for post in self.posts.values():
            if not self._suspects or not post.dock or post.out or post.ending:
                continue
            if post.heard is None:
                # A worker that dies while it starts is no proof against the first call that was sent there.
                yield post, self._sent(post, Batch(Calls([], [])))
            else:
                call, reruns = self._suspects.popleft()
                yield post, self._sent(post, Batch(Calls([call.id], [call.args]), reruns, alone=True))
        while self._queue:
            free = [post for post in self.posts.values() if self._room(post, deep) > 0]
            if not free:
                return
            room = sum(self._room(post, deep) for post in free)
            post = min(free, key=lambda post: len(post.out) / post.places)
            # Few calls are spread over all that could take one, rather than given to the first.
            calls, reruns = self._take(max(1, min(size, -(-self.waiting // room))))
            yield post, self._sent(post, Batch(calls, reruns))

    def _appoint_docks(self) -> None:
        """As many as there are suspects, but no more than half of the posts, so that the others go on.

        Those that will be empty soonest: not where a slow call runs, if that can be avoided.
        """
        wanted = min(len(self._suspects), max(1, len(self.posts) // 2))
        self._docked = wanted > 0

        def wait(post: Post) -> tuple[bool, bool, int]:
            slow = any(batch.collects and not batch.alone for batch in post.out)
            return slow, not post.dock, len(post.out)

        for number, post in enumerate(sorted(self.posts.values(), key=wait)):
            post.dock = number < wanted

    def _room(self, post: Post, deep: int) -> int:
        """How many more batches *post* may have. A place with a slow call has nothing behind that."""
        if post.dock or post.ending or any(batch.alone for batch in post.out):
            return 0
        slow = sum(batch.collects for batch in post.out)
        return (post.places - slow) * deep - (len(post.out) - slow)

    def _take(self, size: int) -> tuple[Calls, int]:
        calls, reruns = self._queue.popleft()
        if len(calls) > size:
            self._queue.appendleft((calls[size:], reruns))
            return calls[:size], reruns
        # Calls that were submitted a few at a time travel together.
        if len(calls) < size and self._queue and self._queue[0][1] == reruns:
            ids, args = list(calls.ids), list(calls.args)
            while len(ids) < size and self._queue and self._queue[0][1] == reruns:
                more, _ = self._queue.popleft()
                wanted = size - len(ids)
                if len(more) > wanted:
                    self._queue.appendleft((more[wanted:], reruns))
                    more = more[:wanted]
                ids += more.ids
                args += more.args
            calls = Calls(ids, args)
        return calls, reruns

    def _sent(self, post: Post, batch: Batch) -> Batch:
        self.waiting -= len(batch.calls)
        post.out.append(batch)
        return batch
