"""How far does a fixed fleet get that is always split the best way?

It knows the work of each interval (lower_bound.py) and splits its N replicas so that the busier role is the least busy,
measured in what the capacity laws let a replica carry (core/capacity.py):

    n_p, n_d with n_p + n_d = N minimising max over roles of (work / utilisation / n)

At work 1.5 and 4.0 with utilisations 0.5 and 0.8, N = 10: needs of 3 and 5, so 4 + 6 (max 0.83) and not 3 + 7 (1.0). The flip
takes what the run's driver takes, from a serving replica at the interval's begin. It asks for all that it knows to be best;
between two splits that are equally good it stays.

Best is meant of what arrives in that interval, as the laws see it. What still waits or decodes from before is not in it, so it
is a yardstick and no bound: on the walk of the ratio with flips in place it meets 98.6 % where Arrow, which sees the queues,
meets 99.7 %.

Both roles' replicas must have as many GPUs. The fleet is what stands there today, or what the mean load asks for where that
is more (catalogue.py): below that no split helps. Headroom knob: its size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from autoscaler.core.capacity import Shape, capacity
from autoscaler.core.fleet import ROLE_FACTS, Fleet, Role
from autoscaler.core.observation import Observation
from autoscaler.core.policy import Policy
from autoscaler.simulator.peers import Flip, Wishes, hold
from autoscaler.simulator.peers.behavior import ROUNDING
from autoscaler.simulator.peers.lower_bound import LowerBound


@dataclass(frozen=True, slots=True)
class ClairvoyantFlipper:
    """`needs`: replicas of each role by interval, fractions, at the utilisation its capacity law allows."""

    interval_s: float
    needs: Mapping[Role, tuple[float, ...]]

    @classmethod
    def of(cls, bound: LowerBound, policy: Policy, shape: Shape) -> ClairvoyantFlipper:
        """For traffic with this bound and mean request."""
        return cls(bound.interval_s, {role: _needs(role, work, policy, shape) for role, work in bound.work.items()})

    def begin(self) -> None:
        """Nothing is remembered."""

    def step(self, observation: Observation, memory: None) -> tuple[Wishes, None]:
        """The fleet as it is, and the flips to the best split of this interval."""
        fleet, interval = observation.fleet, int(observation.now / self.interval_s + ROUNDING)
        needs = {role: path[min(interval, len(path) - 1)] for role, path in self.needs.items()}
        return Wishes(hold(fleet).replicas, _moves(fleet, needs)), None


def _needs(role: Role, work: tuple[float, ...], policy: Policy, shape: Shape) -> tuple[float, ...]:
    facts = ROLE_FACTS[role]
    law = capacity(facts.sizing, policy.profile, policy.slos[facts.binding_slo], shape)
    return tuple(one / law.utilisation for one in work)


def _moves(fleet: Fleet, needs: Mapping[Role, float]) -> tuple[Flip, ...]:
    first, second = fleet.pools
    now = fleet.pools[first].desired
    total = now + fleet.pools[second].desired
    splits = sorted(range(1, total), key=lambda count: (abs(count - now), count))
    best = min(splits, key=lambda count: max(needs[first] / count, needs[second] / (total - count)), default=now)
    if best == now:
        return ()
    return (Flip(second, first, best - now),) if best > now else (Flip(first, second, now - best),)
