"""What does llm-d's token path make of prompts in flight and KV in use?

One external metric per role, read by KEDA through an HPA (reference/peers.md 3.4, the guide's P/D sample):

    prefill   ceil((prompt tokens in flight / V_P) / wait)     V_P: prompt tokens/s of one replica, measured beforehand
    decode    ceil(sum of KV use / 0.8)
    HPA       +1 per 180 s up, -1 per 300 s down, down window 300 s, tolerance 0.1

`wait` is 1.5 s in the guide, and told as about TTFT SLO - prompt / V_P for others. Their V_P of 15,928 tokens/s is a 32B
model's; here it is the profile's at the workload's mean prompt. Tokens in flight are the requests in prefill, waiting or
running, times their mean cache-missed prompt: 12 requests of 1,000 tokens at V_P = 4,000 and a wait of 1.5 s are
12,000 / 4,000 / 1.5 = 2 replicas. Pods that use 0.7, 0.9 and 0.8 of their KV are 2.4 / 0.8 = 3.

Steps of one pod in three minutes are as published; with them a rise by several replicas takes longer than most bursts.

Headroom knob: `fill`, the share of both thresholds that is used; less is more headroom.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from autoscaler.core.fleet import ROLE_FACTS, Pool, Role, Sizing
from autoscaler.core.observation import NOT_ASKED, Coverage, Freshness, Observation, Unknown, believable
from autoscaler.simulator.peers import Wishes
from autoscaler.simulator.peers.behavior import ROUNDING, Behavior, Limit, Past, each_by_itself

TOLERANCE = 0.1
GUIDE = Behavior(up=Limit(0.0, 1, 0.0, 180.0), down=Limit(300.0, 1, 0.0, 300.0))


@dataclass(frozen=True, slots=True)
class LlmdTokenPd:
    """`prompt_tokens_per_s`: V_P of one prefill replica. `wait_s`: seconds of prompts one replica may have before it."""

    prompt_tokens_per_s: float
    wait_s: float = 1.5
    kv_usage: float = 0.8
    fill: float = 1.0
    behavior: Behavior = field(default=GUIDE)
    freshness: Freshness = field(default=Freshness())
    interval_s: float = 15.0

    def begin(self) -> Mapping[Role, Past]:
        """No recommendation yet."""
        return {}

    def step(self, observation: Observation, memory: Mapping[Role, Past]) -> tuple[Wishes, Mapping[Role, Past]]:
        """Each role by its own metric; a role whose metric is missing keeps its count."""

        def recommend(role: Role, pool: Pool) -> int:
            metric = self._metric(role, observation)
            return pool.desired if metric is None else _average_value(metric, pool)

        return each_by_itself(observation, memory, self.behavior, recommend)

    def _metric(self, role: Role, observation: Observation) -> float | None:
        """Replicas' worth of load, as a fraction; None where it is not known."""
        seen = observation.coverage(role, self.freshness)
        if not seen.reporting:
            return None
        if ROLE_FACTS[role].sizing is Sizing.BATCH:
            return seen.kv_usage * seen.reporting / (self.kv_usage * self.fill)
        prompt_s = self._prompt_seconds(seen, observation, role)
        return None if prompt_s is None else prompt_s / (self.wait_s * self.fill)

    def _prompt_seconds(self, seen: Coverage, observation: Observation, role: Role) -> float | None:
        in_flight, signals = seen.waiting + seen.deferred + seen.running, observation.signals.roles.get(role)
        if in_flight == 0:
            return 0.0
        tokens = believable(signals.tokens_per_request, self.freshness) if signals else NOT_ASKED
        return None if isinstance(tokens, Unknown) else in_flight * tokens.value / self.prompt_tokens_per_s


def _average_value(metric: float, pool: Pool) -> int:
    """HPA's AverageValue with a target of 1: the metric rounded up, unless it is within 10 % of the count."""
    if pool.desired and abs(metric / pool.desired - 1) <= TOLERANCE:
        return pool.desired
    return math.ceil(metric - ROUNDING)
