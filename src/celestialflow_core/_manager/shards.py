"""Which part of a list of tasks this machine takes, when many work on the same list."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

__all__ = ["shard_of"]

_ARRAYS = (
    # The variables of this machine's number, of how many there are, and of the first number where that may vary.
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN", None),
    ("JOB_COMPLETION_INDEX", "JOB_COMPLETIONS", None, 0),
    ("AWS_BATCH_JOB_ARRAY_INDEX", "AWS_BATCH_JOB_ARRAY_SIZE", None, 0),
)


def shard_of(text: str, environ: Mapping[str, str] | None = None) -> tuple[int, int]:
    """What "3/16" says: number 3 of 16; "auto" asks the variables of SLURM, Kubernetes or AWS Batch.

    Kubernetes tells a pod of an indexed Job its index alone: give it the Job's completions as JOB_COMPLETIONS.

    Raises:
        ValueError: It is neither, or there are no such variables.
    """
    if text == "auto":
        return _from_environment(os.environ if environ is None else environ)
    match = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", text)
    if match is None:
        raise ValueError(f'shard must be like "3/16" (part 3 of 16) or "auto", got {text!r}.')
    return _checked(int(match[1]), int(match[2]), repr(text))


def _from_environment(environ: Mapping[str, str]) -> tuple[int, int]:
    for index, count, minimum, first in _ARRAYS:
        if index not in environ:
            continue
        if count not in environ:
            raise ValueError(f'shard="auto" found {index}, but not {count}, which says of how many. Set it.')
        if first is None:
            first = int(environ.get(minimum, "1")) if minimum is not None else 1
        return _checked(int(environ[index]) - first + 1, int(environ[count]), f"{index} and {count}")
    names = ", ".join(index for index, *_ in _ARRAYS)
    raise ValueError(f'shard="auto" needs the variables of an array job, but none of {names} is set.')


def _checked(number: int, count: int, where: str) -> tuple[int, int]:
    if not 1 <= number <= count:
        raise ValueError(f"There is no shard {number} of {count} (from {where}): shards are numbered from 1.")
    return number, count
