"""How does the rate of made-up traffic move, and how do requests follow it?

    Steady      one rate
    Wave        a sinusoid between two rates, from its trough; a day is a wave whose period is a day
    Diurnal     a day with a quiet night, a long plateau and an evening peak
    Spike       one rate, and once (or again and again) another for a while
    OnOff       two rates in turn, switched at once
    Ramp        from one rate to another, and there it stays
    walk        one kind of request after the other, each at a rate of its own

Arrivals are a Poisson process whose rate follows the shape, made by thinning (Lewis and Shedler 1979): candidates come
at the highest rate the shape ever has, and a candidate at time t is kept with probability rate(t) / highest. That is
exact for any shape, and asks for highest / mean candidates per request. `scale` multiplies the rate, not the time: more
users, the same movement. Same shape, kind and `random.Random`: same requests.

The topology walk asks for another split of the same fleet every 20 minutes. The request lengths and rates are those
published for Narwhal's walk over six engines (reference/papers.md D.7); so is that it begins at 4P2D, goes on to 5P1D
and passes 1P5D among its eight phases. The order of the others was not published: here each is one step from the next.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from random import Random

from autoscaler.simulator.workload import Between, Kind, Request


@dataclass(frozen=True, slots=True)
class Steady:
    """`rps` requests per second, always."""

    rps: float

    @property
    def highest_rps(self) -> float:
        """The highest rate it ever has."""
        return self.rps

    def rate_rps(self, at_s: float) -> float:
        """Requests per second at `at_s`, as in every shape."""
        return self.rps


@dataclass(frozen=True, slots=True)
class Wave:
    """A sinusoid: `low_rps` at time 0, `high_rps` half a period later."""

    low_rps: float
    high_rps: float
    period_s: float

    @property
    def highest_rps(self) -> float:
        """The highest rate it ever has."""
        return self.high_rps

    def rate_rps(self, at_s: float) -> float:
        """At t: low + (high - low) (1 - cos(2 pi t / period)) / 2."""
        return self.low_rps + (self.high_rps - self.low_rps) * (1 - math.cos(math.tau * at_s / self.period_s)) / 2


@dataclass(frozen=True, slots=True)
class Diurnal:
    """A day: `low_rps` at night, three quarters of the way to `high_rps` from 9 to 18 h, `high_rps` at 20 h, linear between.
    The day lasts `day_s`, and time 0 is midnight.
    """

    low_rps: float
    high_rps: float
    day_s: float = 86_400.0

    HOURS = ((0.0, 0.15), (2.0, 0.0), (6.0, 0.0), (9.0, 0.75), (18.0, 0.75), (20.0, 1.0), (24.0, 0.15))

    @property
    def highest_rps(self) -> float:
        """The highest rate it ever has."""
        return self.high_rps

    def rate_rps(self, at_s: float) -> float:
        """Interpolated between the hours above."""
        hour = at_s % self.day_s * 24 / self.day_s
        later = next(place for place in range(1, len(self.HOURS)) if hour < self.HOURS[place][0])
        (from_h, from_share), (to_h, to_share) = self.HOURS[later - 1], self.HOURS[later]
        share = from_share + (to_share - from_share) * (hour - from_h) / (to_h - from_h)
        return self.low_rps + (self.high_rps - self.low_rps) * share


@dataclass(frozen=True, slots=True)
class Spike:
    """`base_rps`, but `peak_rps` for `length_s` from `start_s` on, and again every `every_s` (never, if 0)."""

    base_rps: float
    peak_rps: float
    start_s: float
    length_s: float
    every_s: float = 0.0

    @property
    def highest_rps(self) -> float:
        """The highest rate it ever has."""
        return max(self.base_rps, self.peak_rps)

    def rate_rps(self, at_s: float) -> float:
        """One of the two rates; before the first spike the base."""
        since_s = at_s - self.start_s
        if self.every_s and since_s >= 0:
            since_s %= self.every_s
        return self.peak_rps if 0 <= since_s < self.length_s else self.base_rps


@dataclass(frozen=True, slots=True)
class OnOff:
    """`on_rps` for `on_s`, then `off_rps` for `off_s`, and so on."""

    on_rps: float
    off_rps: float
    on_s: float
    off_s: float

    @property
    def highest_rps(self) -> float:
        """The highest rate it ever has."""
        return max(self.on_rps, self.off_rps)

    def rate_rps(self, at_s: float) -> float:
        """One of the two rates."""
        return self.on_rps if at_s % (self.on_s + self.off_s) < self.on_s else self.off_rps


@dataclass(frozen=True, slots=True)
class Ramp:
    """`from_rps` until `start_s`, then in a straight line to `to_rps` within `length_s`, where it stays."""

    from_rps: float
    to_rps: float
    start_s: float
    length_s: float

    @property
    def highest_rps(self) -> float:
        """The highest rate it ever has."""
        return max(self.from_rps, self.to_rps)

    def rate_rps(self, at_s: float) -> float:
        """Between the two."""
        share = min(1.0, max(0.0, (at_s - self.start_s) / self.length_s))
        return self.from_rps + (self.to_rps - self.from_rps) * share


Shape = Steady | Wave | Diurnal | Spike | OnOff | Ramp


def shaped(rng: Random, shape: Shape, kind: Kind, duration_s: float, scale: float = 1.0) -> Iterator[Request]:
    """Requests of one kind that follow `scale` times the shape, from 0 to `duration_s`. None at all if its rate is 0."""
    ids = count()
    for at_s in _thinned(rng, shape.rate_rps, shape.highest_rps, duration_s, scale):
        yield kind.draw(next(ids), at_s, rng)


def _thinned(
    rng: Random, rate_rps: Callable[[float], float], highest_rps: float, duration_s: float, scale: float
) -> Iterator[float]:
    if highest_rps * scale <= 0:
        return
    at_s = rng.expovariate(highest_rps * scale)
    while at_s < duration_s:
        if rng.random() * highest_rps < rate_rps(at_s):
            yield at_s
        at_s += rng.expovariate(highest_rps * scale)


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a walk: `rps` requests of one kind per second for `length_s`."""

    kind: Kind
    rps: float
    length_s: float


def walk(rng: Random, phases: Sequence[Phase], duration_s: float, scale: float = 1.0) -> Iterator[Request]:
    """One phase after the other from 0 to `duration_s`, from the first again after the last. Nothing, if all are empty."""
    ids = count()
    begin_s = 0.0
    lap = [phase for phase in phases if phase.length_s > 0]
    while lap and begin_s < duration_s:
        for phase in lap:
            length_s = min(phase.length_s, duration_s - begin_s)
            for at_s in _thinned(rng, Steady(phase.rps).rate_rps, phase.rps, length_s, scale):
                yield phase.kind.draw(next(ids), begin_s + at_s, rng)
            begin_s += phase.length_s


def topology_walk(phase_s: float = 1_200.0) -> tuple[Phase, ...]:
    """The eight phases of the moving-ratio walk for six engines. Three lengths of answer come twice."""
    prompt = Between(12_000, 16_000)
    answers = [  # tokens, requests per second
        (Between(20, 40), 3.0),  # 4P2D
        (Between(1, 4), 3.8),  # 5P1D
        (Between(20, 40), 3.0),
        (Between(60, 100), 2.0),
        (Between(120, 180), 1.2),
        (Between(350, 450), 0.6),  # 1P5D
        (Between(120, 180), 1.2),
        (Between(60, 100), 2.0),
    ]
    return tuple(Phase(Kind(prompt, output), rps, phase_s) for output, rps in answers)
