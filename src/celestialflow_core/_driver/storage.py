"""The sinks of a run: what settles waits until all of them have accepted it, and only then goes on.

stage --flush--> Storage --write--> every sink --accepted--> consumer, hooks, next stage
                    ^
admit <--restore----'  the store among them says what is known of a task already
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from celestialflow_core._digest import digest
from celestialflow_core._driver.user_code import call
from celestialflow_core._outcome import Outcome
from celestialflow_core._text import error_text
from celestialflow_core.errors import SinkError
from celestialflow_core.sinks.interface import Manifest, Record, Sink, Store

__all__ = ["Storage", "Stored"]

BATCH = (1000, 0.05)  # outcomes, and seconds after the first of them

HandOn = Callable[[], None]


class Storage:
    """Writes what settles in a run to its sinks.

    Args:
        sinks: Each with the name by which messages call it.
        manifest: What they are told of the run.
    """

    def __init__(self, sinks: Sequence[tuple[str, Sink]], manifest: Manifest) -> None:
        self._sinks = sinks
        self._manifest = manifest
        self._opened: list[tuple[str, Sink]] = []
        self._pending: list[tuple[HandOn, Sequence[Outcome[Any, Any]]]] = []
        self._count = 0
        self._since: float | None = None
        self._unwritten: list[Outcome[Any, Any]] = []
        self._error: SinkError | None = None
        batches = [getattr(sink, "batch", BATCH) for _, sink in sinks] or [BATCH]
        self._rows = min(rows for rows, _ in batches)
        self._seconds = min(seconds for _, seconds in batches)
        self._store = next((named for named in sinks if isinstance(named[1], Store)), None)

    def open(self) -> None:
        """Open all sinks, or none.

        Raises:
            SinkError: One refuses the run.
        """
        try:
            for name, sink in self._sinks:
                self._call(name, sink.open, self._manifest)
                self._opened.append((name, sink))
        except BaseException as error:
            self._close_opened(error)
            raise

    def restore(self, keys: Sequence[str]) -> Mapping[str, Record]:
        """What the store knows of the tasks with these keys."""
        if self._store is None:
            return {}
        name, store = self._store
        found: Mapping[str, Record] = self._call(name, cast(Store, store).restore, keys)
        return found

    def add(self, outcomes: Sequence[Outcome[Any, Any]], hand_on: HandOn, now: float) -> None:
        """Write *outcomes* with the next batch, and then call *hand_on*."""
        self._pending.append((hand_on, outcomes))
        self._count += len(outcomes)
        if self._since is None:
            self._since = now

    def due(self, now: float) -> bool:
        """True when it is time to write what has been added."""
        return self._since is not None and (self._count >= self._rows or now - self._since >= self._seconds)

    @property
    def waiting(self) -> bool:
        """True while something has been added and not been written."""
        return self._since is not None

    def flush(self) -> None:
        """Write all that has been added, and hand it on.

        Raises:
            SinkError: A sink failed: what was not written is kept for `error`, and goes nowhere.
        """
        if self._error is not None:
            self._give_up()
            return
        if self._since is None:
            return
        outcomes = [outcome for _, several in self._pending for outcome in several]
        written = 0
        try:
            while written < len(outcomes):
                batch = outcomes[written : written + self._rows]
                for name, sink in self._opened:
                    self._call(name, sink.write, batch)
                written += len(batch)
        except SinkError as error:
            self._error = error
            self._unwritten += outcomes[written:]
            self._pending.clear()
            self._since = None
            self._count = 0
            raise
        pending, self._pending = self._pending, []
        self._since = None
        self._count = 0
        for at, (hand_on, _) in enumerate(pending):
            try:
                hand_on()
            except BaseException:
                # What has been accepted is handed on all the same, with the next flush.
                self._pending = [(hand_on, ()) for hand_on, _ in pending[at + 1 :]] + self._pending
                self._since = 0.0 if self._pending else None
                raise

    def _give_up(self) -> None:
        for _, outcomes in self._pending:
            self._unwritten += outcomes
        self._pending.clear()
        self._since = None
        self._count = 0

    @property
    def error(self) -> SinkError | None:
        """What a sink failed with, with all outcomes that were not written; or None."""
        if self._error is None:
            return None
        error = SinkError(self._error.sink, self._error.reason, tuple(self._unwritten))
        error.__cause__ = self._error.__cause__
        return error

    def close(self, error: BaseException | None) -> BaseException | None:
        """Close all sinks; gives the first error."""
        return self._close_opened(error)

    def _close_opened(self, error: BaseException | None) -> BaseException | None:
        first: BaseException | None = None
        while self._opened:
            name, sink = self._opened.pop()
            try:
                self._call(name, sink.close, error)
            except BaseException as raised:
                first = first or raised
        return first

    @staticmethod
    def _call(name: str, method: Callable[..., Any], *args: Any) -> Any:
        try:
            return call(method, *args)
        except SinkError:
            raise
        except Exception as error:
            raise SinkError(name, f"It raised {error_text(error, 500)}.") from error


class Stored:
    """What is stored of the tasks of one stage.

    Args:
        storage: The run's.
        suffix: What tells apart the keys of this stage from those of others: "@name", or "".
        resume: False, True, "unfinished" or "failed".
        shard: Which part of the tasks the run takes, as (3, 16), or None.
        is_stale: Says of a task that something in it was computed anew, so that what is stored of it does not hold.
    """

    def __init__(
        self,
        storage: Storage,
        suffix: str,
        resume: bool | str,
        shard: tuple[int, int] | None = None,
        is_stale: Callable[[Any], bool] | None = None,
    ) -> None:
        self.storage = storage
        self.resume = resume
        self.shard = shard
        self.is_stale = is_stale or _never
        self._suffix = suffix

    def key_of(self, task: Any) -> str:
        """The stable key of *task*, or of what the hook says that identifies it.

        Raises:
            NoDigest: It has none; the message names the hook.
        """
        return digest(task) + self._suffix

    def is_of_shard(self, key: str) -> bool:
        """True if the task with this key is for this run: number *n* of *count* takes the digests that are n - 1 modulo
        *count*."""
        if self.shard is None:
            return True
        number, count = self.shard
        digits = key.removesuffix(self._suffix).rpartition(":")[2]
        return int(digits, 16) % count + 1 == number

    def known(self, keys: Sequence[str]) -> Mapping[str, Record]:
        """Those of the tasks that are not to be run again."""
        if not self.resume:
            return {}
        found = self.storage.restore(keys)
        if self.resume == "unfinished":
            return found
        return {key: record for key, record in found.items() if record.status == "success"}

    def failed(self, keys: Sequence[str]) -> set[str]:
        """Those whose last outcome was an error."""
        return {key for key, record in self.storage.restore(keys).items() if record.status == "error"}


def _never(task: Any) -> bool:
    return False
