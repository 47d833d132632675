"""What is the cheapest that anybody who knew the future could have done, through the same delays?

A schedule of replicas per role and interval (schedule.py), searched by simulation; the guard, cold starts and drains are
everybody's. It scales and does not flip. As the best fixed fleet does, it stands from the first second on with what its
schedule begins with: who knows what comes had asked for it before. So it is never dearer than that fleet, which is one of
its schedules. Misses are local in time, so one run tries every segment of 300 s at once:

    seed     one utilisation for all, the first of a few that keeps the attainment; runs that fail end early (trial.py)
    carve    one role after the other goes up the ladder in every segment, by 4, 2 and 1 rungs. Of one such run those
             segments stay up whose replicas cost the fewest new misses each, as long as all misses stay within what may
             be missed; the others come back and try shorter steps later
    mend     what was kept is played as a whole; if it misses too much, the segments that miss most come down two rungs
    fixed    where all that is still dearer than the best fixed fleet, the same again from there
    shave    one replica less over blocks of 8, 4, 2 and 1 intervals, the most idle first, while runs are left

A search may take `most_runs` runs: by default as many as make a million requests, at least 7, at most 40. What is found is a
schedule that works, so the true least lies between the lower bound and it: the gap is told.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product

from autoscaler.core.fleet import Role
from autoscaler.simulator.peers.lower_bound import LowerBound, lower_bound
from autoscaler.simulator.peers.played import Played
from autoscaler.simulator.peers.schedule import FLAT, Drafts, Schedule
from autoscaler.simulator.peers.trial import Trial, gpu_hours, keeps
from autoscaler.simulator.recovery import WINDOW_S
from autoscaler.simulator.score import Score

SEEDS = (6, 9, 12, FLAT)  # rungs, from where to look for one that holds
STEPS = (4, 2, 1)
BLOCKS = (8, 4, 2, 1)
MENDS, RESCUES = 2, 8  # runs to mend what was carved, and to make a seed hold
SURE = 2.0  # standard deviations of the cold start to ask ahead by: 98 % are there in time
REQUESTS, FEWEST_RUNS, MOST_RUNS = 1_000_000, 7, 40

Places = dict[Role, list[int]]


@dataclass(frozen=True, slots=True)
class Oracle:
    """The best schedule found, its run, whether it keeps the attainment, and at what cost it was found.

    `gap`: how many GPU-hours above the lower bound it lies, as a share of the bound.
    """

    schedule: Schedule
    played: Played
    feasible: bool
    bound: LowerBound
    gap: float
    runs: int

    @property
    def score(self) -> Score:
        """How its run went."""
        return self.played.score()


def oracle(
    trial: Trial, fixed: Mapping[Role, int], attainment: float = 0.99, interval_s: float = 30.0, most_runs: int | None = None
) -> Oracle:
    """The cheapest schedule found that meets this share of the offered requests; `fixed`: the best fixed fleet. Deterministic.

    Where no seed does, the one that came nearest, with `feasible=False`. Raises ValueError if the TPOT SLO is below what a
    decode step takes at least.
    """
    gpus = {role: pool.gpus_per_replica for role, pool in trial.scenario.fleet.pools.items()}
    bound = lower_bound(
        trial.requests, trial.managed.policy, gpus, interval_s=interval_s, until_s=trial.until_s, share=attainment
    )
    begun = trial.runs
    runs = most_runs or min(MOST_RUNS, max(FEWEST_RUNS, REQUESTS // len(trial.requests)))
    found = _Search(trial, bound, fixed, attainment, begun + runs).found()
    gap = gpu_hours(found.score) / bound.gpu_hours - 1
    return Oracle(found.schedule, found.played, found.holds, bound, gap, trial.runs - begun)


@dataclass(frozen=True, slots=True)
class _Tried:
    """A schedule that was played to its end: its rungs, its run and score, and the requests missed by segment."""

    places: Places
    schedule: Schedule
    played: Played
    score: Score
    missed: tuple[float, ...]
    holds: bool


class _Search:
    """The steps over one trial; `last_run` is the number of the last run that may be made."""

    def __init__(self, trial: Trial, bound: LowerBound, fixed: Mapping[Role, int], attainment: float, last_run: int) -> None:
        self._trial, self._bound, self._attainment, self._last_run = trial, bound, attainment, last_run
        self._may_miss = (1 - attainment) * len(trial.requests)
        self._limits = trial.managed.policy.pools
        start_up = trial.scenario.fleet.start_up
        self._gpus = {role: pool.gpus_per_replica for role, pool in trial.scenario.fleet.pools.items()}
        sure_s = start_up.median_s * math.exp(SURE * start_up.sigma)
        held_gpus = sum(count * self._gpus[role] for role, count in fixed.items())
        self._fixed_gpu_hours = held_gpus * trial.until_s / 3600
        self._drafts = Drafts(bound, trial.managed.policy, self._gpus, sure_s, fixed)
        self._offered = Counter(int(request.arrival_s // WINDOW_S) for request in trial.requests)

    def found(self) -> _Tried:
        """The cheapest that holds; what came nearest if none does."""
        seed = self._seed()
        if not seed.holds:
            seed = self._mended(seed, RESCUES)
        if not seed.holds:
            return seed
        best = self._thinned(seed)
        if gpu_hours(best.score) > self._fixed_gpu_hours:
            fixed = self._held(self._level(FLAT))
            best = best if fixed is None else self._thinned(fixed)
        return self._shaved(best)

    def _thinned(self, seed: _Tried) -> _Tried:
        """What is carved from a seed that holds, if that holds too and is cheaper."""
        carved = self._mended(self._carved(seed), MENDS)
        return min((one for one in (seed, carved) if one.holds), key=lambda one: gpu_hours(one.score))

    def _seed(self) -> _Tried:
        """The first rung downwards that holds, or the one that comes nearest: a budget can make the lowest ones worse again."""
        tried = (self._held(self._level(at)) for at in SEEDS)
        seed = next((one for one in tried if one is not None), None)
        return seed or max((self._play(self._level(at)) for at in SEEDS), key=lambda one: one.score.attainment or 0.0)

    def _held(self, places: Places) -> _Tried | None:
        """Played to its end if it holds."""
        run = self._holds(self._drafts.schedule(places))
        return self._told(places, run) if run is not None else None

    def _holds(self, schedule: Schedule) -> Played | None:
        return self._trial.holds(schedule, self._attainment, schedule.begins)

    def _carved(self, seed: _Tried) -> Places:
        """Up the ladder, as far as the misses allow."""
        places, known = seed.places, list(seed.missed)
        turns = list(product(STEPS, places))[: max(0, self._last_run - MENDS - self._trial.runs)]
        for turn, (step, role) in enumerate(turns, start=1):
            up = {**places, role: [max(0, place - step) for place in places[role]]}
            may_miss = self._may_miss * turn / len(turns)
            known, kept = self._kept(known, places, up, role, may_miss)
            places = {**places, role: [up[role][at] if at in kept else place for at, place in enumerate(places[role])]}
        return places

    def _kept(
        self, known: list[float], old: Places, new: Places, role: Role, may_miss: float
    ) -> tuple[list[float], frozenset[int]]:
        """Which segments stay as in `new`, and the misses by segment then: the fewest new misses for a GPU first."""
        before, tried = self._drafts.schedule(old), self._play(new)
        saved = [self._saved(before, tried.schedule, role, at) for at in range(len(known))]
        more = [after - sofar for after, sofar in zip(tried.missed, known, strict=True)]
        left, kept, after = may_miss - sum(known), set[int](), list(known)
        for at in sorted(range(len(known)), key=lambda at: max(0.0, more[at]) / max(saved[at], 0.1)):
            if saved[at] >= 0 and (more[at] <= 0 or (saved[at] > 0 and more[at] <= left)):
                kept.add(at)
                left -= max(0.0, more[at])
                after[at] = tried.missed[at]
        return after, frozenset(kept)

    def _mended(self, begun: _Tried | Places, tries: int) -> _Tried:
        """The segments that miss most come down two rungs, half of their misses taken to go, until it holds."""
        tried = begun if isinstance(begun, _Tried) else self._play(begun)
        best = tried
        for _ in range(tries):
            if tried.holds or self._trial.runs >= self._last_run:
                break
            excess, places = sum(tried.missed) - self._may_miss, {role: list(row) for role, row in tried.places.items()}
            for at in sorted(range(len(tried.missed)), key=lambda at: -tried.missed[at]):
                if excess <= 0 or not tried.missed[at]:
                    break
                excess -= tried.missed[at] / 2
                for row in places.values():
                    row[at] = min(FLAT, row[at] + 2)
            tried = self._play(places)
            best = max(tried, best, key=lambda one: one.score.attainment or 0.0)
        return tried if tried.holds else best

    def _shaved(self, best: _Tried) -> _Tried:
        """One replica less wherever it is not missed, while runs are left."""
        for size in BLOCKS:
            for role, begin in self._spare(best.schedule, size):
                if self._trial.runs >= self._last_run:
                    return best
                thinner = best.schedule.less(role, begin, begin + size, self._limits[role].min_replicas)
                run = self._holds(thinner)
                if run is not None and gpu_hours(score := run.score()) < gpu_hours(best.score):
                    best = replace(best, schedule=thinner, played=run, score=score)
        return best

    def _spare(self, schedule: Schedule, size: int) -> list[tuple[Role, int]]:
        """Blocks that can do with one less, by role and begin, the most idle first."""
        found = []
        for role, path in schedule.replicas.items():
            least, gpus = self._limits[role].min_replicas, self._gpus[role]
            for begin in range(0, len(path), size):
                block = slice(begin, begin + size)
                work, count = self._bound.work[role][block], path[block]
                idle = sum(count) - sum(work)
                if max(count) > least and idle >= len(count):
                    found.append((-idle / len(count) * gpus, begin, role))
        return [(role, begin) for _, begin, role in sorted(found, key=lambda row: row[:2])]

    def _saved(self, before: Schedule, after: Schedule, role: Role, at: int) -> float:
        part = slice(at * self._drafts.segment, (at + 1) * self._drafts.segment)
        return (sum(before.replicas[role][part]) - sum(after.replicas[role][part])) * self._gpus[role]

    def _level(self, place: int) -> Places:
        return {role: [place] * self._drafts.segments for role in self._bound.work}

    def _play(self, places: Places) -> _Tried:
        schedule = self._drafts.schedule(places)
        return self._told(places, self._trial.foreseen(schedule, schedule.begins))

    def _told(self, places: Places, played: Played) -> _Tried:
        """What is decided later than the run lasts counts as missed here."""
        score, shares, missed = played.score(), played.run.keeper.windows.attainment(), [0.0] * self._drafts.segments
        for window, count in self._offered.items():
            segment = min(len(missed) - 1, int(window * WINDOW_S / (self._drafts.segment * self._bound.interval_s)))
            missed[segment] += count * (1 - shares.get(window * WINDOW_S, 0.0))
        return _Tried(places, self._drafts.schedule(places), played, score, tuple(missed), keeps(score, self._attainment))
