"""Who did best in a scenario? The tables for people, for `simulate` and `compare` alike.

In order: whoever reached the required attainment, the cheapest first; then the others, the best attainment first; then what
could not be found. After a sweep a second table tells what each policy's whole line costs at that attainment (frontiers.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from autoscaler.simulator.contenders import REFERENCES
from autoscaler.simulator.frontiers import Cost, Kind, costs
from autoscaler.simulator.reach import percent
from autoscaler.simulator.result import Result
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
    shown.caption, shown.caption_justify = "\n".join((*notes, *out_of_reach(results, attainment))) or None, "left"
    return shown


def out_of_reach(results: Sequence[Result], attainment: float) -> list[str]:
    """That no size can keep the promises of this scenario, or reach the attainment; that nobody did, and who came nearest."""
    said = [f"infeasible: {one.infeasible}" for one in results if one.infeasible][:1]
    most = next((one.reachable for one in results if one.reachable is not None), 1.0)
    if not said and most < attainment:
        said.append(f"no size reaches {attainment:.1%}: alone on an idle fleet {percent(most)} of the requests are in time")
    played = [one for one in results if one.attainment is not None]
    if played and not any(one.reaches(attainment) for one in played):
        best = max(played, key=lambda one: one.attainment or 0.0)
        hours = f" for {best.gpu_hours:.2f} GPU-hours" if best.gpu_hours is not None else ""
        said.append(f"nobody reaches {attainment:.1%}; the most is {best.attainment:.2%}, by {best.contender.name}{hours}")
    return said


def swept(results: Sequence[Result]) -> bool:
    """Whether some policy was played at more than one setting, so that there are lines to compare."""
    policies = [one.contender.name for one in results if one.contender.name not in REFERENCES]
    return len(policies) > len(set(policies))


def cost_table(results: Sequence[Result], attainment: float) -> Table:
    """What each policy's line costs at the attainment, the cheapest first; those that never reach it are dim."""
    shown = Table(title=f"GPU-hours at {attainment:.1%}, along each policy's line", title_justify="left")
    for at, heading in enumerate(("policy", "GPU-hours", "how it is known")):
        shown.add_column(heading, justify="right" if at == 1 else "left", no_wrap=True)
    for one in costs(results, attainment):
        shown.add_row(*cost_cells(one), style="dim" if one.gpu_hours is None else "")
    return shown


def cost_cells(cost: Cost) -> tuple[str, str, str]:
    """Policy, GPU-hours, and how they are known, in words."""
    if cost.gpu_hours is None:
        nearest = "" if cost.nearest is None else f"; at most {cost.nearest:.2%}"
        return cost.contender, "-", f"never reaches it{nearest}"
    if cost.contender in REFERENCES:
        return cost.contender, f"{cost.gpu_hours:.2f}", "a reference, played once"
    words = {Kind.INTERPOLATED: "between two settings", Kind.PLAYED: "at one setting, as played"}
    return cost.contender, f"{cost.gpu_hours:.2f}", words.get(cost.kind, "")
