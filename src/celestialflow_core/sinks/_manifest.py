"""What a store remembers of the run that filled it, and whether another run may go on with it."""

from __future__ import annotations

import json
from typing import Any

import attrs

from celestialflow_core.errors import SinkError
from celestialflow_core.sinks.interface import Manifest

__all__ = ["check", "from_json", "joined", "to_json"]


def to_json(run: Manifest) -> str:
    """*run* as JSON, without whether it was resumed, which is a thing of each run."""
    kept: dict[str, Any] = attrs.asdict(run, filter=lambda field, _: field.name != "resume")
    return json.dumps(kept, separators=(",", ":"))


def from_json(text: str) -> Manifest:
    """The manifest that `manifest_to_json` wrote; what a later version may have added is left aside.

    Raises:
        ValueError: It is none.
    """
    stored = json.loads(text)
    if not isinstance(stored, dict) or not isinstance(stored.get("name"), str):
        raise ValueError("it is no manifest")
    names = {field.name for field in attrs.fields(Manifest)}
    known = {name: value for name, value in stored.items() if name in names}
    known["stages"] = tuple(known.get("stages") or ())
    return Manifest(**known)


def check(label: str, stored: Manifest, run: Manifest) -> None:
    """Whether the results of *stored* mean anything to *run*.

    Stages may differ, since one may be added to a graph, and so may the target, since a function may be moved: the
    user's word that the work has changed is the version.

    Raises:
        SinkError: They do not.
    """
    if stored.keys != run.keys:
        raise SinkError(
            label,
            f"Its tasks have keys of the scheme {stored.keys!r}, those of this run are of {run.keys!r}, so neither "
            f"knows the other's. Give a new store, or use the version of celestialflow-core that wrote this one.",
        )
    if stored.name != run.name:
        raise SinkError(
            label,
            f"It holds the results of {stored.name!r}, and this run is {run.name!r}: equal tasks of the two would "
            f"replace each other. Give a store of its own, or name={stored.name!r} if it is the same work.",
        )
    if stored.version != run.version:
        raise SinkError(
            label,
            f"It holds results of version {stored.version!r}, and this run is of version {run.version!r}. Give a new "
            f"store, delete this one, or give version={stored.version!r} if its results are still good.",
        )


def joined(stored: Manifest, run: Manifest) -> Manifest:
    """What a store of *stored* remembers once *run* has written to it too."""
    stages = stored.stages + tuple(stage for stage in run.stages if stage not in stored.stages)
    return attrs.evolve(
        stored,
        stages=stages,
        target=run.target if run.target is not None else stored.target,
        shard=stored.shard if stored.shard == run.shard else None,
        resume=run.resume,
    )
