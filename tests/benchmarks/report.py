"""From figures to ratios, and to tables."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
from scenarios import Bound, Scenario

__all__ = ["Measured", "Row", "as_data", "as_markdown", "rows_of"]

HEADINGS = ("scenario", "ours", "peer", "median ratio", "must", "aim")
UNITS = {"time": "us", "memory": "MB", "launch": "ms"}


@attrs.define
class Measured:
    """What came out of a scenario.

    Attributes:
        scenario: Which.
        figures: Those of each entry, by the number of the round.
        failures: Why an entry has none from some round on.
        missing: The entries whose module is not installed.
    """

    scenario: Scenario
    figures: dict[str, dict[int, float]] = attrs.field(factory=dict)
    failures: dict[str, str] = attrs.field(factory=dict)
    missing: list[str] = attrs.field(factory=list)


@attrs.frozen
class Row:
    """One bound with what was measured; ``ratio`` is None where one side has no figure."""

    bound: Bound
    ours: float | None
    peer: float | None
    ratio: float | None


def rows_of(measured: Measured) -> list[Row]:
    """The scenario's bounds, with the medians of the rounds."""
    return [_row(measured.scenario, bound, measured.figures) for bound in measured.scenario.bounds]


def _row(scenario: Scenario, bound: Bound, figures: Mapping[str, Mapping[int, float]]) -> Row:
    ours = figures.get(bound.ours, {})
    if bound.peer is None:
        return Row(bound, _median(ours.values()), None, _median(ours.values()))
    peer = figures.get(bound.peer, {})
    both = ours.keys() & peer
    if scenario.kind == "memory":  # of nothing there is no ratio
        ratios = [ours[number] - peer[number] for number in both]
    else:
        ratios = [peer[number] / ours[number] if bound.faster else ours[number] / peer[number] for number in both]
    return Row(bound, _median(ours.values()), _median(peer.values()), _median(ratios))


def _median(values: Iterable[float]) -> float | None:
    known = list(values)
    return statistics.median(known) if known else None


def as_markdown(results: Sequence[Measured]) -> str:
    """One table of all bounds; what could not be measured is said below it."""
    lines = [HEADINGS, tuple("---" for _ in HEADINGS)]
    notes: list[str] = []
    for measured in results:
        scenario = measured.scenario
        lines += [_cells(scenario, row) for row in rows_of(measured)]
        notes += [f"{scenario.name}: {name} is not installed." for name in measured.missing]
        notes += [f"{scenario.name}: {name} failed. {why}" for name, why in measured.failures.items()]
    table = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
    return table + "".join(f"\n{note}\n" for note in notes)


def _cells(scenario: Scenario, row: Row) -> tuple[str, ...]:
    bound, unit = row.bound, UNITS[scenario.kind]
    measure = unit if bound.peer is None or scenario.kind == "memory" else "x faster" if bound.faster else "x"

    def side(name: str | None, figure: float | None) -> str:
        return "-" if name is None else name if figure is None else f"{name}: {_number(figure)} {unit}"

    return (
        scenario.name,
        side(bound.ours, row.ours),
        side(bound.peer, row.peer),
        "-" if row.ratio is None else f"{_number(row.ratio)} {measure}",
        f"{bound.must:g} {measure}",
        "-" if bound.aim is None else f"{bound.aim:g} {measure}",
    )


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def as_data(results: Sequence[Measured]) -> list[dict[str, Any]]:
    """All figures of all rounds, and the rows, for JSON."""
    return [
        {
            "scenario": measured.scenario.name,
            "title": measured.scenario.title,
            "unit": UNITS[measured.scenario.kind],
            "figures": {name: list(by_round.values()) for name, by_round in measured.figures.items()},
            "bounds": [
                {**attrs.asdict(row.bound), "our_median": row.ours, "peer_median": row.peer, "ratio": row.ratio}
                for row in rows_of(measured)
            ],
            "failures": measured.failures,
            "missing": measured.missing,
        }
        for measured in results
    ]
