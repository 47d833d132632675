"""Who did best in a scenario? The table for people and the document for machines, for `simulate` and `compare` alike.

In order: whoever reached the required attainment, the cheapest first; then the others, the best attainment first; then what
could not be found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table

from autoscaler.simulator.comparison import Result
from autoscaler.simulator.shifts import Recovery

HEADINGS = (
    "policy",
    "headroom",
    "attainment",
    "GPU-hours",
    "goodput/s",
    "rejected",
    "failed",
    "wasted",
    "actions",
    "flips",
    "reversals",
    "recovery",
)


def by_scenario(results: Sequence[Result], attainment: float) -> dict[str, list[Result]]:
    """The results of each scenario, in its order of merit."""
    names = dict.fromkeys(result.scenario for result in results)
    return {name: ranked([result for result in results if result.scenario == name], attainment) for name in names}


def ranked(results: Sequence[Result], attainment: float) -> list[Result]:
    """In order of merit at this attainment."""
    return sorted(results, key=lambda result: _merit(result, attainment))


def _merit(result: Result, attainment: float) -> tuple[int, float, float]:
    hours = float("inf") if result.gpu_hours is None else result.gpu_hours
    if result.reaches(attainment):
        return 0, hours, 0.0
    share = result.score.attainment if result.score else None
    return (2, 0.0, 0.0) if share is None else (1, -share, hours)


def cells(result: Result) -> tuple[str, ...]:
    """One row, a cell for each of HEADINGS; a dash for what does not apply."""
    score, point = result.score, result.contender.point
    hours = "-" if result.gpu_hours is None else f"{result.gpu_hours:.2f}"
    knob = "-" if point is None else f"{point:g}"
    if score is None:
        return (result.contender.name, knob, "-", hours, *["-"] * 8)
    share = "-" if score.attainment is None else f"{score.attainment:.2%}"
    counts = (score.rejected, score.failed, score.wasted_prefills, score.actions, score.flips, score.reversals)
    told = (f"{count:,}" for count in counts)
    return (result.contender.name, knob, share, hours, f"{score.goodput_rps:.2f}", *told, recovered(result.recovery))


def recovered(recovery: Recovery | None) -> str:
    """`90 s`, the longest; `90 s, 2 of 3` if one shift was not got over; a dash where nothing shifted."""
    if recovery is None:
        return "-"
    longest = "never" if recovery.worst_s is None else f"{recovery.worst_s:.0f} s"
    return longest if recovery.recovered == recovery.shifts else f"{longest}, {recovery.recovered} of {recovery.shifts}"


def table(scenario: str, results: Sequence[Result], attainment: float) -> Table:
    """One scenario's standings; those below the attainment are dim."""
    shown = Table(title=f"{scenario} (required: {attainment:.1%})", title_justify="left")
    for at, heading in enumerate(HEADINGS):
        shown.add_column(heading, justify="right" if at else "left", no_wrap=True)
    for result in results:
        shown.add_row(*cells(result), style="" if result.reaches(attainment) else "dim")
    notes = [f"{result.contender.name}: {result.note}" for result in results if result.note]
    shown.caption, shown.caption_justify = "\n".join(notes) or None, "left"
    return shown


def document(results: Sequence[Result], attainment: float) -> list[dict[str, Any]]:
    """For machines, in the same order; no timelines."""
    return [_entry(result, attainment) for ranking in by_scenario(results, attainment).values() for result in ranking]


def _entry(result: Result, attainment: float) -> dict[str, Any]:
    score: Mapping[str, Any] | None = asdict(result.score) if result.score else None
    return {
        "scenario": result.scenario,
        "policy": result.contender.name,
        "headroom": result.contender.point,
        "published_point": result.contender.published,
        "reaches": result.reaches(attainment),
        "gpu_hours": result.gpu_hours,
        "score": score,
        "recovery": asdict(result.recovery) if result.recovery else None,
        "note": result.note,
    }
