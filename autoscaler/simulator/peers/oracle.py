"""What is the cheapest that anybody who knew the future could have done, through the same delays?

A schedule of replicas per role and interval, searched by simulation; the guard, cold starts and drains are everybody's. It
scales and does not flip. Three steps, each simulation counted, at most `most_runs` in all:

    seed     replicas = ceil(work / utilisation) of the lower bound's intervals, asked for a start-up before they are needed
             and kept one interval longer. The highest utilisation of both roles that keeps the attainment, by bisection
    by role  each role's own highest utilisation, the other's kept, by bisection
    shave    one replica less over blocks of 8, 4, 2 and 1 intervals, kept off wherever the attainment still holds; blocks
             with the most replicas beyond the work come first, those that would fall below the work are not tried

What is found is a schedule that works, so the true least lies between the lower bound and it: the gap is told.
Work of 2.1 replicas at a utilisation of 0.7 is 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from autoscaler.core.fleet import Role
from autoscaler.core.observation import Observation
from autoscaler.simulator.peers import Wishes
from autoscaler.simulator.peers.behavior import ROUNDING
from autoscaler.simulator.peers.lower_bound import LowerBound, lower_bound
from autoscaler.simulator.peers.trial import Trial, gpu_hours, keeps
from autoscaler.simulator.score import Score

UTILISATIONS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5, 0.45, 0.4, 0.35, 0.3, 0.2)
BLOCKS = (8, 4, 2, 1)
SURE = 2.0  # standard deviations of the cold start to ask ahead by: 98 % are there in time


@dataclass(frozen=True, slots=True)
class Schedule:
    """A peer that knows its whole path beforehand: replicas by interval. The last interval's stay."""

    interval_s: float
    replicas: Mapping[Role, tuple[int, ...]]

    def begin(self) -> None:
        """Nothing is remembered."""

    def step(self, observation: Observation, memory: None) -> tuple[Wishes, None]:
        """What the path says for the interval that begins now."""
        interval = int(observation.now / self.interval_s + ROUNDING)
        return Wishes({role: path[min(interval, len(path) - 1)] for role, path in self.replicas.items()}), None


@dataclass(frozen=True, slots=True)
class Oracle:
    """The best schedule found, its score, whether it keeps the attainment, and at what cost it was found.

    `gap`: how many GPU-hours above the lower bound it lies, as a share of the bound.
    """

    schedule: Schedule
    score: Score
    feasible: bool
    bound: LowerBound
    gap: float
    runs: int


def oracle(trial: Trial, attainment: float = 0.99, interval_s: float = 30.0, most_runs: int = 60) -> Oracle:
    """The cheapest schedule found that meets this share of the offered requests. Deterministic.

    Where even the widest seed does not, that one, with `feasible=False`.
    """
    gpus = {role: pool.gpus_per_replica for role, pool in trial.scenario.fleet.pools.items()}
    bound = lower_bound(
        trial.requests, trial.managed.policy, gpus, interval_s=interval_s, until_s=trial.until_s, share=attainment
    )
    begun = trial.runs
    search = _Search(trial, bound, attainment, begun + most_runs)
    schedule, score = search.shave(search.seed(search.tighten()))
    return Oracle(schedule, score, keeps(score, attainment), bound, gpu_hours(score) / bound.gpu_hours - 1, trial.runs - begun)


class _Search:
    """The three steps over one trial; `last_run` is the number of the last run that may be made."""

    def __init__(self, trial: Trial, bound: LowerBound, attainment: float, last_run: int) -> None:
        self._trial, self._bound, self._attainment, self._last_run = trial, bound, attainment, last_run
        start_up = trial.scenario.fleet.start_up
        sure_s = start_up.median_s * math.exp(SURE * start_up.sigma)
        self._gpus = {role: pool.gpus_per_replica for role, pool in trial.scenario.fleet.pools.items()}
        self._ahead = math.ceil(sure_s / bound.interval_s)

    def seed(self, levels: Mapping[Role, int]) -> Schedule:
        """The path for one utilisation per role, by index into UTILISATIONS."""
        return Schedule(self._bound.interval_s, {role: self._path(role, UTILISATIONS[at]) for role, at in levels.items()})

    def tighten(self) -> Mapping[Role, int]:
        """The highest utilisations that hold: first of all roles alike, then of each."""
        last = len(UTILISATIONS) - 1
        roles = list(self._bound.work)
        common = _first(0, last, lambda at: self._holds(self.seed(dict.fromkeys(roles, at))))
        levels = dict.fromkeys(roles, common)
        for role in roles:
            levels[role] = _first(0, levels[role], self._own(levels, role))
        return levels

    def shave(self, schedule: Schedule) -> tuple[Schedule, Score]:
        """One replica less wherever it is not missed, while runs are left."""
        best, score = schedule, self._trial.of(schedule)
        if not keeps(score, self._attainment):
            return best, score
        for size in BLOCKS:
            for role, begin in self._spare(best, size):
                if self._trial.runs >= self._last_run:
                    return best, score
                thinner = self._less(best, role, begin, begin + size)
                result = self._trial.of(thinner)
                if keeps(result, self._attainment) and gpu_hours(result) < gpu_hours(score):
                    best, score = thinner, result
        return best, score

    def _path(self, role: Role, utilisation: float) -> tuple[int, ...]:
        limits, work = self._trial.managed.policy.pools[role], self._bound.work[role]
        needs = [min(limits.max_replicas, max(limits.min_replicas, math.ceil(one / utilisation - ROUNDING))) for one in work]
        return tuple(max(needs[max(0, at - 1) : at + self._ahead + 1]) for at in range(len(needs)))

    def _holds(self, schedule: Schedule) -> bool:
        return keeps(self._trial.of(schedule), self._attainment)

    def _own(self, levels: Mapping[Role, int], role: Role) -> Callable[[int], bool]:
        fixed = dict(levels)
        return lambda at: self._holds(self.seed({**fixed, role: at}))

    def _spare(self, schedule: Schedule, size: int) -> list[tuple[Role, int]]:
        """Blocks that can do with one less, by role and begin, the most idle first. Interval 0 is what the run begins with."""
        found = []
        for role, path in schedule.replicas.items():
            least, gpus = self._trial.managed.policy.pools[role].min_replicas, self._gpus[role]
            for begin in range(1, len(path), size):
                block = slice(begin, begin + size)
                work, count = self._bound.work[role][block], path[block]
                idle = sum(count) - sum(work)
                if max(count) > least and idle >= len(count):
                    found.append((-idle / len(count) * gpus, begin, role))
        return [(role, begin) for _, begin, role in sorted(found, key=lambda row: row[:2])]

    def _less(self, schedule: Schedule, role: Role, begin: int, end: int) -> Schedule:
        least = self._trial.managed.policy.pools[role].min_replicas
        path = schedule.replicas[role]
        thinner = (*path[:begin], *(max(least, count - 1) for count in path[begin:end]), *path[end:])
        return Schedule(schedule.interval_s, {**schedule.replicas, role: thinner})


def _first(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The first index from which on it holds, taken to hold at `high`; log2(high - low) + 1 questions."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return high
