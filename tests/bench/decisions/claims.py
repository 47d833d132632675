"""What is promised of a scenario, and what of it is kept?

    forecastable     ours within 2 points of the oracle's attainment for at most 1.25 times its GPU-hours; for more, within 1
                     point for 1.15 times (`stretch`, told and not demanded)
    stationary       within 0.5 points of the best fixed fleet's attainment for at most 3 % more GPU-hours, and no move undone
    unforecastable   our line above every baseline's: at each attainment that either of the two was played at, from our lowest
                     on, ours costs no more. What is below our lowest is no offer of ours and not compared
    every one        cheaper than every baseline at equal attainment: at what is required, or, where our line never gets there,
                     at the most that it reaches (frontiers.py)
    of a day         at most one move of ten undone

Ours is meant at its published headroom where one run is compared, and at all five where its line is. Who is missing, because it
was left out or cannot be played, is not compared with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from autoscaler.simulator.contenders import BEST_STATIC, ORACLE, OURS, REFERENCES
from autoscaler.simulator.frontiers import costs
from autoscaler.simulator.result import Result
from autoscaler.simulator.scenario_file import Mark
from autoscaler.simulator.scenarios import Case
from tests.bench.trials.finding import Check, Rule

STRETCH = "_stretch"
POINTS, HOURS = 0.02, 1.25
STRETCH_POINTS, STRETCH_HOURS = 0.01, 1.15
STILL_POINTS, STILL_HOURS = 0.005, 1.03
UNDONE, LONG_S = 0.1, 86_400.0
NAMED = 3  # exceptions that a claim tells


@dataclass(frozen=True, slots=True)
class Played:
    """One case as everybody played it, and the attainment that was required."""

    case: Case
    results: Sequence[Result]
    attainment: float

    def of(self, name: str) -> Result | None:
        """This contender at its published point, None where it did not play."""
        return next((one for one in self.results if one.contender.name == name and one.contender.published and one.score), None)

    def line(self, name: str) -> list[Result]:
        """All points of this contender."""
        return [one for one in self.results if one.contender.name == name and one.score]

    @property
    def baselines(self) -> list[str]:
        """Everybody else who plays for real."""
        names = dict.fromkeys(one.contender.name for one in self.results if one.score)
        return [name for name in names if name not in {OURS, *REFERENCES}]

    def cost(self, name: str, attainment: float) -> float | None:
        """GPU-hours of this contender's line at an attainment; None if it never reaches it."""
        return next((one.gpu_hours for one in costs(self.line(name), attainment)), None)


def claims(played: Played) -> Iterator[Check]:
    """All that is promised of this case."""
    ours = played.of(OURS)
    if ours is None:
        return
    yield from _MARKED[played.case.mark](played, ours)
    yield from _cheapest(played)
    if played.case.duration_s >= LONG_S:
        yield _undone(played, ours, UNDONE)


def _beside(played: Played, ours: Result, name: str, points: float, hours: float, more: str = "") -> Iterator[Check]:
    """Ours within so many points of this reference, for so many times its GPU-hours."""
    theirs, case = played.of(name), played.case.name
    if theirs is None or theirs.attainment is None or theirs.gpu_hours is None:
        return
    least = f"attainment, against the {name}'s less {points:g}"
    yield Check(f"{case}_attainment{more}", least, ours.attainment or 0.0, theirs.attainment - points, rule=Rule.AT_LEAST)
    most = f"GPU-hours, against {hours:g} times the {name}'s {theirs.gpu_hours:.4g}"
    yield Check(f"{case}_gpu_hours{more}", most, ours.gpu_hours or 0.0, hours * theirs.gpu_hours, rule=Rule.AT_MOST)


def _forecastable(played: Played, ours: Result) -> Iterator[Check]:
    yield from _beside(played, ours, ORACLE, POINTS, HOURS)
    yield from _beside(played, ours, ORACLE, STRETCH_POINTS, STRETCH_HOURS, STRETCH)


def _stationary(played: Played, ours: Result) -> Iterator[Check]:
    yield from _beside(played, ours, BEST_STATIC, STILL_POINTS, STILL_HOURS)
    yield _undone(played, ours, 0.0)


def _unforecastable(played: Played, _: Result) -> Iterator[Check]:
    if len(played.line(OURS)) > 1:
        for name in played.baselines:
            dearer = list(outdone(played, name))
            claim = f"attainments at which {name}'s line is cheaper than ours" + _told(dearer)
            yield Check(f"{played.case.name}_line_{name}", claim, len(dearer), 0)


_MARKED: Mapping[Mark, Callable[[Played, Result], Iterator[Check]]] = {
    Mark.FORECASTABLE: _forecastable,
    Mark.STATIONARY: _stationary,
    Mark.UNFORECASTABLE: _unforecastable,
}


def outdone(played: Played, name: str) -> Iterator[str]:
    """Where a baseline's line is cheaper than ours, in words. 95 % for 20 GPU-hours outdoes ours of 22 there, or none."""
    lines = [*played.line(OURS), *played.line(name)]
    lowest = min(one.attainment or 0.0 for one in played.line(OURS))
    for level in sorted({one.attainment for one in lines if one.attainment is not None and one.attainment >= lowest}):
        ours, theirs = played.cost(OURS, level), played.cost(name, level)
        if theirs is not None and (ours is None or ours > theirs):
            own = "ours never reaches it" if ours is None else f"ours {ours:.4g}"
            yield f"{level:.2%} for {theirs:.4g}, {own}"


def _cheapest(played: Played) -> Iterator[Check]:
    reached = max(one.attainment or 0.0 for one in played.line(OURS))
    level = min(played.attainment, reached)
    ours = played.cost(OURS, level)
    found = {name: cost for name in played.baselines if (cost := played.cost(name, level)) is not None}
    if ours is None or not found:
        return
    cheapest = min(found, key=found.__getitem__)
    dearer = [f"{name} {cost:.4g}" for name, cost in sorted(found.items(), key=lambda item: item[1]) if cost < ours]
    claim = f"GPU-hours at {level:.2%}, against the cheapest baseline's ({cheapest})" + _told(dearer)
    yield Check(f"{played.case.name}_cheapest", claim, ours, found[cheapest], rule=Rule.AT_MOST)


def _undone(played: Played, ours: Result, share: float) -> Check:
    """Reversals as a share of all moves: scalings, and replicas that were flipped."""
    score = ours.score
    moves, undone = (score.actions + score.flips, score.reversals) if score else (0, 0)
    claim = f"moves undone, of {moves}"
    return Check(f"{played.case.name}_reversals", claim, undone, share * moves, rule=Rule.AT_MOST)


def _told(exceptions: Sequence[str]) -> str:
    more = f" and {len(exceptions) - NAMED} more" if len(exceptions) > NAMED else ""
    return f": {'; '.join(exceptions[:NAMED])}{more}" if exceptions else ""
