"""What does the same attainment cost each policy?

A policy is a line, not a point: one run for each setting of its headroom knob (contenders.py). At a required attainment it
costs what its line costs there:

    between two neighbouring settings of which one reaches it and the other does not, by linear interpolation: 97 % for 10
    GPU-hours and 99.5 % for 15 make 99 % for 14
    at a setting that reaches it, what that run cost; the line is not taken further than it was played

whichever is least. A line that never reaches it has no cost; the nearest it came is told. One point alone is a line too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from autoscaler.simulator.result import Result


class Kind(StrEnum):
    """How a cost is known."""

    INTERPOLATED = "interpolated"
    PLAYED = "played"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Cost:
    """What a policy's line costs at the attainment. `gpu_hours` None: it never reaches it, and `nearest` is the most it does."""

    contender: str
    kind: Kind
    gpu_hours: float | None
    nearest: float | None


def costs(results: Sequence[Result], attainment: float) -> list[Cost]:
    """One for each contender of these results of one scenario, the cheapest first; whoever never reaches it by how near."""
    names = dict.fromkeys(one.contender.name for one in results if one.gpu_hours is not None)
    found = [_cost(name, [one for one in results if one.contender.name == name], attainment) for name in names]
    return sorted(found, key=lambda one: (one.gpu_hours is None, one.gpu_hours or 0.0, -(one.nearest or 0.0)))


def _cost(name: str, results: Sequence[Result], attainment: float) -> Cost:
    line = sorted((one for one in results if one.gpu_hours is not None), key=lambda one: one.contender.point or 0.0)
    nearest = max((one.attainment for one in line if one.attainment is not None), default=None)
    reached = [(one.gpu_hours or 0.0, Kind.PLAYED) for one in line if one.reaches(attainment)]
    offers = [*reached, *((hours, Kind.INTERPOLATED) for hours in _crossings(line, attainment))]
    if not offers:
        return Cost(name, Kind.NEVER, None, nearest)
    hours, kind = min(offers)
    return Cost(name, kind, hours, nearest)


def _crossings(line: Sequence[Result], attainment: float) -> Iterator[float]:
    """GPU-hours where the line passes the attainment between two settings."""
    for one, other in pairwise(line):
        low, high = sorted((one, other), key=lambda result: result.attainment or 0.0)
        below, above = low.attainment or 0.0, high.attainment or 0.0
        if below < attainment <= above and low.gpu_hours is not None and high.gpu_hours is not None:
            yield low.gpu_hours + (high.gpu_hours - low.gpu_hours) * (attainment - below) / (above - below)
