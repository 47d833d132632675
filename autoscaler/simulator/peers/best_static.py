"""Which fixed fleet is the cheapest that keeps a required attainment?

What a careful operator would find who could replay the traffic beforehand; a scaler that does not beat it has earned
nothing. Searched by simulation over N_p x N_d, with one belief: more replicas of a role never hurt. So each run says
something of many fleets, and none is asked whose answer is known:

    climb     from the counts that the busiest intervals' work asks for, both roles by an eighth more, until it holds; if the
              budget ends that, replicas are moved from one role to the other as long as that helps
    descend   one replica less of one role after the other, until neither can be spared
    exclude   fleets that are cheaper and not ruled out yet have fewer of one role and more of the other. One run with that
              one at its count and the others at their most rules out all of them, mostly within its first minutes; if it
              holds, they are tried, the dearest first, since a failure rules out whatever is smaller

For bounds of 1..24 that is about ten runs, of which half end early (trial.py). Never more than `most_runs`: by default as many
as make two million requests, at least 12, at most 40. Where none that was tried holds, the one that came nearest is told.

The fleet stands from the first second on, so it pays no cold start: kind to this reference.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np

from autoscaler.core.fleet import Role
from autoscaler.simulator.peers.affordable import affordable
from autoscaler.simulator.peers.lower_bound import lower_bound
from autoscaler.simulator.peers.played import Played
from autoscaler.simulator.peers.static import Static
from autoscaler.simulator.peers.trial import Trial
from autoscaler.simulator.score import Score

BUSIEST = 0.99  # quantile of the intervals' work
INTERVAL_S = 60.0
LEANS = (4, 1)  # replicas moved at once
FULL = 0.9  # how busy a replica may be in such an interval, to begin with
REQUESTS, FEWEST_RUNS, MOST_RUNS = 2_000_000, 12, 40

Counts = Mapping[Role, int]


@dataclass(frozen=True, slots=True)
class BestStatic:
    """The fleet, its run, whether it keeps the attainment (if not, it is the one that came nearest), and the runs it took."""

    replicas: Counts
    played: Played
    feasible: bool
    runs: int

    @property
    def score(self) -> Score:
        """How its run went."""
        return self.played.score()


def best_static(trial: Trial, attainment: float = 0.99, most_runs: int | None = None) -> BestStatic:
    """The cheapest fixed fleet within the policy's bounds and GPU budget. Deterministic.

    Raises ValueError if the TPOT SLO is below what a decode step takes at least.
    """
    begun = trial.runs
    runs = most_runs or min(MOST_RUNS, max(FEWEST_RUNS, REQUESTS // len(trial.requests)))
    search = _Search(trial, attainment, begun + runs - 1)
    best, feasible = search.climb()
    if feasible:
        best = search.exclude(search.descend(best))
    played = search.played.get(tuple(best.values())) or trial.foreseen(Static(best), best)
    return BestStatic(best, played, feasible, trial.runs - begun)


class _Search:
    """What is known of which fleets; `last_run` is the number of the last run that may be made."""

    def __init__(self, trial: Trial, attainment: float, last_run: int) -> None:
        self.played: dict[tuple[int, ...], Played] = {}  # whole runs
        self._trial, self._attainment, self._last_run = trial, attainment, last_run
        self._hold: list[tuple[int, ...]] = []
        self._fail: list[tuple[int, ...]] = []
        self._limits = trial.managed.policy.pools
        self._gpus = {role: pool.gpus_per_replica for role, pool in trial.scenario.fleet.pools.items()}
        bound = lower_bound(
            trial.requests, trial.managed.policy, self._gpus, interval_s=INTERVAL_S, until_s=trial.until_s, share=attainment
        )
        self._needs = {role: float(np.quantile(work, BUSIEST)) / FULL for role, work in bound.work.items()}

    def climb(self) -> tuple[Counts, bool]:
        """The first fleet on the way up that holds, or the last that is allowed."""
        fleets = list(self._upwards())
        for counts in fleets:
            if self._holds(counts):
                return counts, True
        return self._leaning(fleets[-1])

    def _leaning(self, widest: Counts) -> tuple[Counts, bool]:
        """All that the budget allows is too little as it is split: the split that reaches most, whole runs all of them."""
        best, reached = widest, self._reached(widest)
        for size, (giver, taker) in product(LEANS, permutations(widest, 2)):
            moved = {**best, giver: max(1, best[giver] - size), taker: best[taker] + size}
            split = self._affordable(moved)
            while reached < self._attainment and self._trial.runs < self._last_run and split != best:
                share = self._reached(split)
                if share <= reached:
                    break
                best, reached = split, share
                split = self._affordable({**best, giver: max(1, best[giver] - size), taker: best[taker] + size})
        return best, reached >= self._attainment

    def _reached(self, counts: Counts) -> float:
        """The attainment of a whole run."""
        played = self._trial.foreseen(Static(counts), counts)
        self.played[tuple(counts.values())] = played
        return played.score().attainment or 0.0

    def descend(self, best: Counts) -> Counts:
        """No role can spare one more."""
        tried = [{**best, role: best[role] - 1} for role in best if best[role] > self._limits[role].min_replicas]
        spared = next((counts for counts in sorted(tried, key=self._cost) if self._holds(counts)), None)
        return best if spared is None else self.descend(spared)

    def exclude(self, best: Counts) -> Counts:
        """Nothing that is cheaper is left, as far as the runs reach."""
        while (rest := self._cheaper(best)) and self._trial.runs < self._last_run:
            probes = [self._widened(best, role, rest) for role in best if any(one[role] < best[role] for one in rest)]
            unknown = [probe for probe in probes if self._known(probe) is None]
            asked = unknown[0] if unknown else max(rest, key=lambda one: (self._cost(one), -sum(map(abs, _apart(one, best)))))
            if self._holds(asked) and asked in rest:
                best = asked
        return best

    def _upwards(self) -> Iterator[dict[Role, int]]:
        before: dict[Role, int] = {}
        for step in range(32):
            counts = self._affordable({role: math.ceil(need * (1 + step / 8)) for role, need in self._needs.items()})
            if counts != before:
                yield counts
            before = counts

    def _affordable(self, wanted: Counts) -> dict[Role, int]:
        policy = self._trial.managed.policy
        return affordable({role: max(1, count) for role, count in wanted.items()}, policy, self._gpus, self._needs)

    def _widened(self, best: Counts, role: Role, rest: list[dict[Role, int]]) -> dict[Role, int]:
        """The most of this role that a cheaper fleet has below the best, with the others at their most."""
        count = max(one[role] for one in rest if one[role] < best[role])
        return {other: count if other is role else limits.max_replicas for other, limits in self._limits.items()}

    def _cheaper(self, best: Counts) -> list[dict[Role, int]]:
        """Every cheaper fleet that is not ruled out."""
        ranges = [range(limits.min_replicas, limits.max_replicas + 1) for limits in self._limits.values()]
        boxes = (dict(zip(self._limits, counts, strict=True)) for counts in product(*ranges))
        return [box for box in boxes if self._cost(box) < self._cost(best) and self._known(box) is not False]

    def _holds(self, counts: Counts) -> bool:
        known = self._known(counts)
        if known is not None:
            return known
        key = tuple(counts.values())
        run = self._trial.holds(Static(counts), self._attainment, counts) if self._trial.runs <= self._last_run else None
        if run is None:
            self._fail.append(key)
        else:
            self._hold.append(key)
            self.played[key] = run
        return run is not None

    def _known(self, counts: Counts) -> bool | None:
        key = tuple(counts.values())
        if any(all(have >= held for have, held in zip(key, other, strict=True)) for other in self._hold):
            return True
        below = any(all(have <= failed for have, failed in zip(key, other, strict=True)) for other in self._fail)
        return False if below else None

    def _cost(self, counts: Counts) -> int:
        return sum(count * self._gpus[role] for role, count in counts.items())


def _apart(one: Counts, other: Counts) -> list[int]:
    return [one[role] - other[role] for role in one]
