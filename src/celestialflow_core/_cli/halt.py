"""``--halt``: when a run gives up, as people write it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from celestialflow_core._policies import Stop

__all__ = ["stop_of"]

RULES: dict[str, tuple[str, Callable[[str], Any]]] = {
    r"(\d+)": ("errors", int),
    r"(\d+(?:\.\d+)?)%": ("fraction", lambda text: float(text) / 100),
    r"(\d+)-in-a-row": ("consecutive", int),
    r"(\d+)-ok": ("successes", int),
}


def stop_of(texts: Sequence[str], now: bool) -> Stop | None:
    """The rule that *texts* describe together.

    Args:
        texts: Each one of "100", "10%", "20-in-a-row" and "1-ok".
        now: Whether what runs is ended at once.

    Raises:
        click.BadParameter: One is none of these, or out of its range.
    """
    from celestialflow_core._policies import Stop

    rules: dict[str, Any] = {}
    for text in texts:
        for pattern, (name, kind) in RULES.items():
            match = re.fullmatch(pattern, text.strip())
            if match is not None:
                rules[name] = kind(match[1])
                break
        else:
            raise click.BadParameter(
                f"{text!r} is no rule. It is like 100 (failed tasks), 10% (of the tasks), 20-in-a-row, or 1-ok "
                f"(successes).",
                param_hint="--halt",
            )
    if not rules:
        return None
    try:
        return Stop(**rules, when="now" if now else "soon")
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--halt") from None
