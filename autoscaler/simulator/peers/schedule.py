"""What path of replicas serves work that is known beforehand?

    replicas = ceil(work / utilisation)     of each interval of the lower bound,

asked for a start-up before they are needed and kept one interval longer. The utilisation is chosen per role and per segment of
300 s, from a ladder: the higher, the cheaper and the later. Below its last rung is the best fixed fleet, for bursts that an
interval's work does not tell of. Work of 2.1 replicas at a utilisation of 0.7 is 3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autoscaler.core.fleet import Role
from autoscaler.core.observation import Observation
from autoscaler.core.policy import Policy
from autoscaler.simulator.peers import Wishes
from autoscaler.simulator.peers.affordable import affordable
from autoscaler.simulator.peers.behavior import ROUNDING
from autoscaler.simulator.peers.lower_bound import LowerBound

LADDER = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5, 0.45, 0.4, 0.35, 0.3, 0.2)
FLAT = len(LADDER)  # the rung below the ladder: the best fixed fleet's counts
SEGMENT_S = 300.0

Rungs = Mapping[Role, Sequence[int]]
"""Of each role, the place on the ladder by segment."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A peer that knows its whole path beforehand: replicas by interval. The last interval's stay."""

    interval_s: float
    replicas: Mapping[Role, tuple[int, ...]]

    @property
    def begins(self) -> Mapping[Role, int]:
        """The replicas of the first interval, with which its run begins."""
        return {role: path[0] for role, path in self.replicas.items()}

    def begin(self) -> None:
        """Nothing is remembered."""

    def step(self, observation: Observation, memory: None) -> tuple[Wishes, None]:
        """What the path says for the interval that begins now."""
        interval = int(observation.now / self.interval_s + ROUNDING)
        return Wishes({role: path[min(interval, len(path) - 1)] for role, path in self.replicas.items()}), None

    def less(self, role: Role, begin: int, end: int, least: int) -> Schedule:
        """One replica less from one interval to another, but never fewer than `least`."""
        path = self.replicas[role]
        thinner = (*path[:begin], *(max(min(least, count), count - 1) for count in path[begin:end]), *path[end:])
        return Schedule(self.interval_s, {**self.replicas, role: thinner})


@dataclass(frozen=True, slots=True)
class Drafts:
    """Makes schedules for one bound, within the policy's limits and budget. `gpus`: of one replica. `sure_s`: how long before
    it is needed a replica is asked for. `flat`: the best fixed fleet.
    """

    bound: LowerBound
    policy: Policy
    gpus: Mapping[Role, int]
    sure_s: float
    flat: Mapping[Role, int]

    @property
    def segment(self) -> int:
        """Intervals in a segment."""
        return max(1, round(SEGMENT_S / self.bound.interval_s))

    @property
    def segments(self) -> int:
        """Segments in the whole."""
        return math.ceil(len(next(iter(self.bound.work.values()))) / self.segment)

    def schedule(self, rungs: Rungs) -> Schedule:
        """The path for these utilisations. Where it would not fit the GPU budget, whoever has most beyond its work gives."""
        paths = {role: self._path(role, places) for role, places in rungs.items()}
        rows = [self._fitted(at, paths) for at in range(len(next(iter(paths.values()))))]
        return Schedule(self.bound.interval_s, {role: tuple(row[role] for row in rows) for role in paths})

    def _fitted(self, at: int, paths: Mapping[Role, Sequence[int]]) -> dict[Role, int]:
        work = {role: self.bound.work[role][at] for role in paths}
        return affordable({role: path[at] for role, path in paths.items()}, self.policy, self.gpus, work)

    def _path(self, role: Role, places: Sequence[int]) -> tuple[int, ...]:
        ahead = math.ceil(self.sure_s / self.bound.interval_s)
        needs = []
        for at, work in enumerate(self.bound.work[role]):
            place = places[at // self.segment]
            needs.append(self.flat[role] if place == FLAT else math.ceil(work / LADDER[place] - ROUNDING))
        return tuple(max(needs[max(0, at - 1) : at + ahead + 1]) for at in range(len(needs)))
