"""What may be done with replicas whose number is given? Only their roles can follow the load.

A fleet that is full: the GPU budget is what its replicas hold, so nothing can be added, and our controller is told never to
take one away, as an operator does whose machines are paid for. What is left to decide is the split, and when to change it.

    ours            this product's controller, from a cold start without history
    a fixed split   one for all the time; the best of all splits is what a careful operator would have found
    the flipper     knows all requests beforehand and always has the best split (clairvoyant-flipper)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from autoscaler.core.action import Mode
from autoscaler.core.capacity import Slo
from autoscaler.core.fleet import Role, SloKind
from autoscaler.core.flip import FlipLimits
from autoscaler.core.hysteresis import Damping, Step
from autoscaler.core.policy import Policy, PoolLimits
from autoscaler.core.profile import ReplicaProfile
from autoscaler.ports import Managed
from autoscaler.simulator.contenders import FLIPPER, OURS, Contender, Job
from autoscaler.simulator.engine import FleetSpec, PoolSpec
from autoscaler.simulator.flips import FlipSpec
from autoscaler.simulator.pools import StartUp
from autoscaler.simulator.run import Scenario
from autoscaler.simulator.scenario_file import Mark, Traffic
from autoscaler.simulator.scenarios import Bounds, Case

STAYS = Damping(down=replace(Damping().down, step=Step(0, 0.0, 60.0)))


@dataclass(frozen=True, slots=True)
class FixedFleet:
    """So many replicas of one GPU each and the promises they are judged by; `start_up_s` of one that is replaced."""

    replicas: int
    profile: ReplicaProfile
    limits_s: Mapping[SloKind, float]
    start_up_s: float = 300.0
    quantile: float = 0.9

    @property
    def splits(self) -> range:
        """Prefill replicas of all splits that leave each role one."""
        return range(1, self.replicas)

    @property
    def slos(self) -> Mapping[SloKind, Slo]:
        """The promises by kind."""
        return {kind: Slo(kind, limit_s, self.quantile) for kind, limit_s in self.limits_s.items()}

    def case(self, name: str, prefill: int, traffic: Traffic, duration_s: float, flips: FlipSpec) -> Case:
        """This fleet under a load, with so many replicas for prefill to begin with."""
        pools = {Role.PREFILL: PoolSpec(prefill), Role.DECODE: PoolSpec(self.replicas - prefill)}
        fleet = FleetSpec(f"bench/{name}", self.profile, pools, StartUp(self.start_up_s), flips=flips)
        bounds = dict.fromkeys(Role, Bounds(1, self.replicas - 1))
        # What stands before "@" names a scenario of its own: whoever never starts a replica is played once for each.
        named = f"{name}-{prefill}p@{self.start_up_s:g}s"
        return Case(named, Mark.UNFORECASTABLE, False, duration_s, Scenario(fleet, self.slos), bounds, self.replicas, traffic)

    def ours(self, case: Case, *, shrinks: bool = False) -> Job:
        """Our controller, which may flip; whether it may take replicas away, too."""
        limits, damping = dict.fromkeys(Role, PoolLimits(1, self.replicas - 1)), Damping() if shrinks else STAYS
        policy = Policy(
            Mode.AUTO, self.slos, limits, self.profile, damping=dict.fromkeys(Role, damping), flip=FlipLimits(enabled=True)
        )
        return Job(case, Contender(OURS, policy.demand.headroom, tuning=Managed("bench/fixed", "bench", "bench", policy)))


def flipper(case: Case) -> Job:
    """Who knows what is coming."""
    return Job(case, Contender(FLIPPER))


def as_it_is(case: Case) -> Job:
    """Nobody: the split stays."""
    return Job(case, Contender("static", 1.0))
