"""Whether a version is one that a requirement asks for, by the rules of Python packaging (PEP 440).

The few that the core needs to tell its own users why a plugin does not work: ``packaging`` is not among what the core
requires, and a check that depends on what else is installed would be none. What cannot be read here is no reason to
complain of: the answer is None then.
"""

from __future__ import annotations

import re
from typing import Any

__all__ = ["meets"]

_VERSION = re.compile(
    r"""
    v? (?: (?P<epoch>\d+) ! )? (?P<release> \d+ (?:\.\d+)* )
    (?: [-_.]? (?P<pre> alpha | beta | preview | pre | rc | a | b | c ) [-_.]? (?P<pre_number>\d*) )?
    (?: - (?P<bare_post>\d+) | [-_.]? (?P<post> post | rev | r ) [-_.]? (?P<post_number>\d*) )?
    (?: [-_.]? (?P<dev> dev ) [-_.]? (?P<dev_number>\d*) )?
    (?: \+ (?P<local> [a-z0-9]+ (?: [-_.] [a-z0-9]+ )* ) )?
    """,
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)
_CLAUSE = re.compile(r"\s*(===|~=|==|!=|<=|>=|<|>)\s*(\S+?)\s*", re.ASCII)
_PRE = {"alpha": "a", "beta": "b", "c": "rc", "pre": "rc", "preview": "rc"}
_FINAL = "z"  # behind every pre-release


def meets(version: str, specifier: str) -> bool | None:
    """Whether *version* is one of *specifier* (">=1.2,<2"); "" asks for nothing. None where one of them is unreadable.

    Pre-releases count as what they are, as for a distribution that is installed already.
    """
    verdicts = [_meets(version, clause) for clause in specifier.split(",") if clause.strip()]
    if False in verdicts:
        return False
    return None if None in verdicts else True


def _meets(version: str, clause: str) -> bool | None:
    match = _CLAUSE.fullmatch(clause)
    have = _VERSION.fullmatch(version.strip())
    if match is None or have is None:
        return None
    operator, wanted = match.groups()
    if operator == "===":
        return version.strip().lower() == wanted.lower()
    if wanted.endswith(".*"):
        prefix = _VERSION.fullmatch(wanted[:-2])
        if prefix is None or _is_early(prefix) or _is_late(prefix) or operator not in ("==", "!="):
            return None
        return _begins_with(have, prefix) is (operator == "==")
    want = _VERSION.fullmatch(wanted)
    if want is None:
        return None
    return _compare(operator, have, want)


def _compare(operator: str, have: re.Match[str], want: re.Match[str]) -> bool | None:
    left, right = _key(have), _key(want)
    same_release = left[:2] == right[:2]
    if operator in ("==", "!="):
        same = left == right and (want["local"] is None or _local(have) == _local(want))
        return same is (operator == "==")
    if operator == ">=":
        return left >= right
    if operator == "<=":
        return left <= right
    if operator == "<":  # not the pre-releases of what it must be below
        return left < right and not (same_release and _is_early(have) and not _is_early(want))
    if operator == ">":  # not the post-releases of what it must be above
        return left > right and not (left[:3] == right[:3] and _is_late(have) and not (_is_late(want) or want["dev"]))
    release = want["release"].split(".")
    if len(release) < 2:
        return None  # "~=1" is not allowed
    prefix = _VERSION.fullmatch(f"{want['epoch'] or 0}!{'.'.join(release[:-1])}")
    return prefix and left >= right and _begins_with(have, prefix)


def _key(version: re.Match[str]) -> tuple[Any, ...]:
    """What sorts as versions do; the local part aside."""
    release = [int(number) for number in version["release"].split(".")]
    while release and not release[-1]:
        release.pop()
    late, dev = _is_late(version), version["dev"]
    word = version["pre"] and version["pre"].lower()
    pre = _PRE.get(word, word) if word else ("" if dev and not late else _FINAL)
    return (
        int(version["epoch"] or 0),
        release,
        (pre, int(version["pre_number"] or 0)),
        int(version["bare_post"] or version["post_number"] or 0) if late else -1,
        (0, int(version["dev_number"] or 0)) if dev else (1, 0),
    )


def _begins_with(version: re.Match[str], prefix: re.Match[str]) -> bool:
    wanted = [int(number) for number in prefix["release"].split(".")]
    release = [int(number) for number in version["release"].split(".")]
    release += [0] * (len(wanted) - len(release))
    return int(version["epoch"] or 0) == int(prefix["epoch"] or 0) and release[: len(wanted)] == wanted


def _is_early(version: re.Match[str]) -> bool:
    return bool(version["pre"] or version["dev"])


def _is_late(version: re.Match[str]) -> bool:
    return bool(version["bare_post"] or version["post"])


def _local(version: re.Match[str]) -> list[str]:
    return re.split(r"[-_.]", (version["local"] or "").lower())
