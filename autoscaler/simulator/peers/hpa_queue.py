"""What does the stock Kubernetes autoscaler make of the queues?

HPA with one Pods metric, the waiting requests of a role's pods, as kube-controller-manager computes it (reference/peers.md
3.1), every 15 s and for each role by itself:

    u = mean waiting over the pods that report / target        |u - 1| <= 0.1 keeps the count
    pods without a figure count as the target when u < 1, as 0 when u > 1; pods that start count as 0 when u > 1
    if that turned the direction, or brought u into the tolerance, the count is kept; so it is where the count would turn it,
    for pods that a quota refuses are not counted
    desired = ceil(u * pods counted), then `behavior` (behavior.py)

Waiting is the engine's own gauge, which counts whoever waits, for whatever reason.

10 waiting on 2 pods with a target of 5 are u = 1: 2 stay. 24 are u = 2.4: 5. With a third pod starting u = 24/3/5 = 1.6:
again 5, so what is on its way is credited. A target of 5 waiting per pod is the one the projects share (3.9, WVA's and the
vLLM chart's trigger). A decode pod queues only when its sequences or its KV are full, which is long after its tokens
became late: on this role the signal comes too late by nature, not by its constants.

Headroom knob: `target_waiting` per pod; fewer is more headroom.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from autoscaler.core.fleet import Phase, Pool, Role
from autoscaler.core.observation import Freshness, Observation
from autoscaler.simulator.peers import Wishes
from autoscaler.simulator.peers.behavior import ROUNDING, Behavior, Past, each_by_itself

TOLERANCE = 0.1


@dataclass(frozen=True, slots=True)
class HpaQueue:
    """One HPA per role on waiting requests."""

    target_waiting: float = 5.0
    behavior: Behavior = field(default=Behavior())
    freshness: Freshness = field(default=Freshness())
    interval_s: float = 15.0

    def begin(self) -> Mapping[Role, Past]:
        """No recommendation yet."""
        return {}

    def step(self, observation: Observation, memory: Mapping[Role, Past]) -> tuple[Wishes, Mapping[Role, Past]]:
        """Each role by itself; without a metric an HPA keeps the count."""

        def recommend(role: Role, pool: Pool) -> int:
            seen = observation.coverage(role, self.freshness)
            return self._recommend(pool, seen.waiting + seen.deferred, seen.reporting)

        return each_by_itself(observation, memory, self.behavior, recommend)

    def _recommend(self, pool: Pool, waiting: float, reporting: int) -> int:
        """ceil(u * pods counted), with what is missing or starting held against the move."""
        if not reporting:
            return pool.desired
        starting, silent = len(pool.in_phase(Phase.STARTING)), pool.serving - reporting
        ratio = waiting / reporting / self.target_waiting
        counted, total = reporting, waiting
        if ratio > 1:
            counted += starting + silent
        elif ratio < 1:
            counted, total = counted + silent, total + silent * self.target_waiting
        corrected = total / counted / self.target_waiting
        if abs(corrected - 1) <= TOLERANCE or (corrected > 1) != (ratio > 1):
            return pool.desired
        wanted = math.ceil(corrected * counted - ROUNDING)
        return max(pool.desired, wanted) if corrected > 1 else min(pool.desired, wanted)
