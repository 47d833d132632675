"""How much more does a fleet carry whose split follows the load?

A load whose ratio of prefill to decode moves, on a fixed fleet (fixed_fleet.py) that flips by label:

    crowds   two crowds, one with long prompts and short answers and one with short prompts and long answers, come and go in
             turn: a sinusoid of 40 minutes each, half a period apart, from nobody to all of them. Twelve replicas, 6P6D to
             begin with, when both crowds are equal and the first is on the rise
    walk     Narwhal's walk on six engines (six_engines.py): one kind of request after the other, for 20 minutes each

    carried  the highest rate, as a multiple of the load's own, at which 90 % of the requests are met: found by halving the span
             between a rate that is carried and one that is not until they are 1 % apart (0 where not even FLOOR is)

A split for all times must carry either crowd at its highest, one that moves their sum, which hardly changes: with needs from 0 to
1 in turn, a fixed split has a need of 1 + 1 and a moving one of 1. Half of the rate is all that it carries; a little more with
one request in ten missed, and since a role never loses its last replica.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from heapq import merge
from random import Random
from statistics import fmean
from typing import Any

from autoscaler.core.fleet import SloKind
from autoscaler.policy.profiles import replica_profile
from autoscaler.simulator.contenders import FLIPPER, OURS, Job
from autoscaler.simulator.flips import DriverKind, FlipSpec
from autoscaler.simulator.result import Result
from autoscaler.simulator.shapes import Wave, shaped, walk
from autoscaler.simulator.workload import Between, Kind, Request
from tests.bench.decisions import six_engines
from tests.bench.decisions.fixed_fleet import FixedFleet, as_it_is, flipper
from tests.bench.trials.finding import Check, Rule
from tests.bench.trials.ratio_walk import LENGTH_S as WALK_S
from tests.bench.trials.ratio_walk import PHASES

TWELVE = FixedFleet(12, replica_profile("splitwise-2024-llama-2-70b-h100-tp8"), {SloKind.TTFT: 15.0, SloKind.TPOT: 0.06})
READERS = Kind(Between(12_000, 16_000), Between(1, 4)), 7.5
WRITERS = Kind(Between(100, 300), Between(700, 900)), 15.0
PERIOD_S, PERIODS = 2_400.0, 2
SHARE, NEAR = 0.9, 1.01
FLOOR, STRIDE = 0.1, 1.5  # what is tried at least; how far from 1 the first tries go
LEAST = 0.9  # of what the flipper carries
FIXED = "best fixed split"
SEEDS = (1, 2)

Play = Callable[[Sequence[Job]], Sequence[Result]]


def crowds(scale: float, rng: Random) -> Iterator[Request]:
    """Both crowds, at so many times their rates."""
    both = [list(_crowd(rng, *READERS, scale, PERIOD_S / 4)), list(_crowd(rng, *WRITERS, scale, PERIOD_S * 3 / 4))]
    for number, request in enumerate(merge(*both, key=lambda request: request.arrival_s)):
        yield replace(request, id=number)


def _crowd(rng: Random, kind: Kind, high_rps: float, scale: float, since_s: float) -> Iterator[Request]:
    """A wave as it goes on so long after its trough."""
    wave = Wave(0.0, high_rps, PERIOD_S)
    for request in shaped(rng, wave, kind, since_s + PERIODS * PERIOD_S, scale):
        if request.arrival_s >= since_s:
            yield replace(request, arrival_s=request.arrival_s - since_s)


def _walk(scale: float, rng: Random) -> Iterator[Request]:
    return walk(rng, PHASES, WALK_S, scale)


@dataclass(frozen=True, slots=True)
class Load:
    """Requests at a multiple of their rate, the fleet they are for, and the split that it begins with."""

    name: str
    fleet: FixedFleet
    begins: int
    traffic: Callable[[float, Random], Iterator[Request]]
    length_s: float

    def searches(self) -> list[Search]:
        """Everybody's, before the first run."""
        fixed = [Search(FIXED, partial(_fixed, self, prefill=prefill), note=f"{prefill}p") for prefill in self.fleet.splits]
        return [Search(OURS, partial(_ours, self)), Search(FLIPPER, partial(_flipper, self)), *fixed]

    def job(self, scale: float, prefill: int, make: Callable[[Any], Job]) -> Job:
        """Somebody at this scale. Its name tells the scale before the "@", for each is a load of its own."""
        flips = FlipSpec(DriverKind.LABEL, max_in_flight=self.fleet.replicas)
        traffic = partial(self.traffic, scale)
        return make(self.fleet.case(f"{self.name}-x{scale:.6g}", prefill, traffic, self.length_s, flips))


def _ours(load: Load, scale: float) -> Job:
    return load.job(scale, load.begins, load.fleet.ours)


def _flipper(load: Load, scale: float) -> Job:
    return load.job(scale, load.begins, flipper)


def _fixed(load: Load, scale: float, prefill: int) -> Job:
    return load.job(scale, prefill, as_it_is)


LOADS = (
    Load("crowds", TWELVE, TWELVE.replicas // 2, crowds, PERIODS * PERIOD_S),
    Load("walk", six_engines.FLEET, six_engines.BEGINS, _walk, WALK_S),
)


@dataclass(frozen=True, slots=True)
class Search:
    """Somebody's search for the rate he carries, in a group of whom the best counts. `low` is carried, `high` is not: 0 and
    infinity while none is known.
    """

    group: str
    job: Callable[[float], Job]
    low: float = 0.0
    high: float = math.inf
    note: str = ""

    @property
    def middle(self) -> float:
        """The rate to try next: 1 first, then further on its side until both ends are known, then between them."""
        if math.isinf(self.high):
            return STRIDE * self.low or 1.0
        return math.sqrt(self.low * self.high) if self.low else self.high / STRIDE

    @property
    def over(self) -> bool:
        """Whether it is known closely enough."""
        return self.high <= max(NEAR * self.low, FLOOR)

    def after(self, met: float) -> Search:
        """With this share met at the middle."""
        return replace(self, low=self.middle) if met >= SHARE else replace(self, high=self.middle)


def carried(searches: Sequence[Search], met: Callable[[Sequence[Job]], Sequence[float]]) -> dict[str, Search]:
    """The best search of each group when all are over. `met` tells the shares of the requests that were met in these jobs.

    Whoever cannot become the best of his group any more is not searched for.
    """
    while True:
        best = {one.group: one for one in sorted(searches, key=lambda one: one.low)}
        going = [one for one in searches if not one.over and one.high > best[one.group].low]
        if not going:
            return best
        shares = dict(zip(map(id, going), met([one.job(one.middle) for one in going]), strict=True))
        searches = [one.after(shares[id(one)]) if id(one) in shares else one for one in searches]


def met_by(play: Play, seeds: Sequence[int] = SEEDS) -> Callable[[Sequence[Job]], list[float]]:
    """Shares of requests met, means over the seeds."""

    def met(jobs: Sequence[Job]) -> list[float]:
        results = iter(play([replace(job, seed=seed) for job in jobs for seed in seeds]))
        return [fmean(next(results).attainment or 0.0 for _ in seeds) for _ in jobs]

    return met


def findings(load: Load, play: Play) -> tuple[dict[str, Any], list[Check]]:
    """What everybody carries, and what is promised."""
    best = carried(load.searches(), met_by(play))
    rates = {name: round(one.low, 4) for name, one in best.items()}
    of = best[FLIPPER].low or math.inf  # nothing is a share of nothing
    share = best[OURS].low / of
    told = f"(ours {rates[OURS]:g}, {FIXED} {rates[FIXED]:g})"
    claim = f"rate carried as a share of the clairvoyant flipper's {rates[FLIPPER]:g} {told}"
    check = Check(f"moving_ratio_{load.name}", claim, share, LEAST, rule=Rule.AT_LEAST)
    return {
        **rates,
        "split": best[FIXED].note,
        "ours_share": round(share, 4),
        "fixed_share": round(best[FIXED].low / of, 4),
    }, [check]
