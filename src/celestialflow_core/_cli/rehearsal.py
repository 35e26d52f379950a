"""``--dry-run``: what would be run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from celestialflow_core._cli.ending import say
from celestialflow_core._cli.output import Results, as_json
from celestialflow_core._driver.storage import Stored
from celestialflow_core._keys import key_of
from celestialflow_core._manager.launch import in_flight_limit
from celestialflow_core._manager.manager import inside
from celestialflow_core._manager.shards import shard_of

if TYPE_CHECKING:
    from celestialflow_core._cli.running import Job

__all__ = ["rehearse"]

ORDER: tuple[str, ...] = ("tasks", "duplicates", "skipped", "done", "failed_before", "to_run")


def rehearse(job: Job, tasks: Iterable[Any]) -> None:
    """Read *tasks*, and say on standard output what running *job* over them would do.

    The tasks are counted as a run would: equal ones once, those of other shards not, and those that the store has
    according to how the run goes on.
    """
    core = inside(job.manager)
    counts = _count(job, tasks)
    executor: Any = core.mode.executor(job.manager.func, core.options)
    workers = getattr(executor, "worker_limit", None) or core.options.worker_limit or 1
    if job.how.as_json:
        plan = {"target": job.target, "mode": core.mode.name, "workers": workers, **counts}
        with Results() as results:
            results.line(as_json(plan))
        return
    parts = [f"{counts['tasks']} task{'s' if counts['tasks'] != 1 else ''}"]
    for name in ORDER[1:-1]:
        if counts[name]:
            said = "duplicate" if name == "duplicates" and counts[name] == 1 else name.replace("_", " ")
            parts.append(f"{counts[name]} {said}")
    with Results() as results:
        results.line(f"{job.target}: {', '.join(parts)}.")
        where = f"in {core.mode.name} mode, {workers} at a time, {in_flight_limit(workers)} read ahead at most"
        results.line(f"To run: {counts['to_run']}, {where}.")


def _count(job: Job, tasks: Iterable[Any]) -> dict[str, int]:
    options = inside(job.manager).options
    succeeded, failed = _stored(options.sinks)
    shard = None if options.shard is None else shard_of(options.shard)
    stored = Stored(cast(Any, None), "", options.resume, shard)
    with_digests = bool(options.sinks)
    counts = dict.fromkeys(ORDER, 0)
    seen: set[Any] = set()
    for task in tasks:
        counts["tasks"] += 1
        key = stored.key_of(task) if with_digests else key_of(task)
        if with_digests and not stored.is_of_shard(key):
            counts["skipped"] += 1
            continue
        if key in seen:
            counts["duplicates"] += 1
            continue
        seen.add(key)
        counts["done"] += key in succeeded
        counts["failed_before"] += key in failed
        counts["to_run"] += _runs(options.resume, key in succeeded, key in failed)
    return counts


def _runs(resume: bool | str, done: bool, failed: bool) -> bool:
    """Whether a task of which the store knows this is run."""
    if resume == "failed":
        return failed
    if resume == "unfinished":
        return not done and not failed
    return not done if resume else True


def _stored(sinks: tuple[object, ...]) -> tuple[set[str], set[str]]:
    """The keys of the tasks that the first store has, those that succeeded and those that failed."""
    from celestialflow_core._cli.stores import readable
    from celestialflow_core.errors import SinkError

    succeeded: set[str] = set()
    failed: set[str] = set()
    for sink in sinks[:1]:
        try:
            with readable(str(sink)).reader() as reader:
                for row in reader.rows():
                    (succeeded if row.status == "success" else failed).add(row.key)
        except SinkError as error:  # mostly that there is none yet
            say(f"Note: {error}")
    return succeeded, failed
