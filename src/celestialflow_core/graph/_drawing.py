"""A graph as a Mermaid flowchart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from celestialflow_core._outcome import Counts
from celestialflow_core.graph._edge import Edge

__all__ = ["mermaid"]

NOTHING: Mapping[str, Counts] = {}


def mermaid(
    names: Sequence[str],
    edges: Sequence[Edge],
    counts: Mapping[str, Counts] = NOTHING,
    passed: Sequence[Sequence[int]] = (),
) -> str:
    """The text of a flowchart.

    Args:
        names: The managers.
        edges: How they are connected.
        counts: Where the tasks of each are, of those that were in the run.
        passed: How many tasks have gone along each of the edges that were in the run, to each of its targets.
    """
    number = {name: at for at, name in enumerate(names)}
    lines = ["flowchart LR"]
    for name in names:
        lines.append(f'    s{number[name]}["{_escape(name)}{_account(counts[name]) if name in counts else ""}"]')
    for at, edge in enumerate(edges):
        arrow = "-.->" if edge.on == "error" else "==>" if edge.gather else "-->"
        for lane, target in enumerate(edge.targets):
            words = [edge.kind] if edge.kind else []
            if at < len(passed):
                words.append(str(passed[at][lane]))
            label = f'|"{_escape(": ".join(words))}"|' if words else ""
            lines.append(f"    s{number[edge.source.name]} {arrow}{label} s{number[target.name]}")
    return "\n".join(lines) + "\n"


def _account(counts: Counts) -> str:
    words = [f"{counts.succeeded} ok"]
    names = ("failed", "restored", "running", "pending")
    words += [f"{number} {name}" for name in names if (number := getattr(counts, name))]
    return f"<br/>{', '.join(words)}"


def _escape(text: str) -> str:
    """*text* inside the double quotes of Mermaid, in which a number sign begins a character's code."""
    for character, code in (("#", "#35;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;"), ("\n", " ")):
        text = text.replace(character, code)
    return text
