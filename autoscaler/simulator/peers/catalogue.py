"""Which peers are there, and how is each made for a scenario?

Every peer has one headroom knob with five points, from the least headroom to the most, so that policies are compared by
their frontiers: what attainment costs, and not how happily a constant was chosen. The point as published is among them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from autoscaler.core.capacity import Capacity, Shape, capacity
from autoscaler.core.fleet import ROLE_FACTS, Role, Sizing, SloKind
from autoscaler.core.policy import Policy
from autoscaler.simulator.peers import Peer
from autoscaler.simulator.peers.arrow import Arrow
from autoscaler.simulator.peers.behavior import ROUNDING
from autoscaler.simulator.peers.dynamo_load import DynamoLoad
from autoscaler.simulator.peers.dynamo_throughput import DynamoThroughput
from autoscaler.simulator.peers.heteroscale import Heteroscale
from autoscaler.simulator.peers.hpa_queue import HpaQueue
from autoscaler.simulator.peers.llmd_token_pd import LlmdTokenPd
from autoscaler.simulator.peers.static import Static


@dataclass(frozen=True, slots=True)
class Setting:
    """What a peer is tuned to beforehand: SLOs and profile, the workload's mean request, the counts of today."""

    policy: Policy
    shape: Shape
    replicas: Mapping[Role, int]

    @property
    def slos_s(self) -> Mapping[SloKind, float]:
        """Seconds promised."""
        return {kind: slo.threshold_s for kind, slo in self.policy.slos.items()}

    def law(self, sizing: Sizing) -> Capacity:
        """What one replica of this kind carries of the mean request: what a pressure test would tell."""
        kinds = {facts.sizing: facts.binding_slo for facts in ROLE_FACTS.values()}
        return capacity(sizing, self.policy.profile, self.policy.slos[kinds[sizing]], self.shape)

    def fleet_of(self, share: float) -> Mapping[Role, int]:
        """The counts of today, `share` times."""
        return {role: max(1, math.ceil(count * share - ROUNDING)) for role, count in self.replicas.items()}


@dataclass(frozen=True, slots=True)
class Entry:
    """`knob`: what the headroom knob means; `points`: its five values, least headroom first; `published`: the one to begin
    with.
    """

    knob: str
    points: tuple[float, float, float, float, float]
    published: float
    make: Callable[[Setting, float], Peer[Any]]


def _llmd(setting: Setting, fill: float) -> LlmdTokenPd:
    prompt, profile = setting.shape.uncached_tokens, setting.policy.profile
    own_s = profile.prefill_time_s(prompt)
    return LlmdTokenPd(prompt / own_s, max(own_s, setting.slos_s[SloKind.TTFT] - own_s), fill=fill)


def _heteroscale(setting: Setting, utilisation: float) -> Heteroscale:
    prefill, decode = setting.law(Sizing.QUEUE).tokens_per_s, setting.law(Sizing.BATCH).tokens_per_s
    shape = setting.shape
    ratio = (shape.uncached_tokens / prefill) / (shape.output_tokens / decode)
    return Heteroscale(decode, ratio, setting.slos_s[SloKind.TPOT], utilisation)


def _dynamo_throughput(setting: Setting, fill: float) -> DynamoThroughput:
    return DynamoThroughput(setting.policy.profile, setting.slos_s[SloKind.TPOT], fill)


def _dynamo_load(setting: Setting, share: float) -> DynamoLoad:
    return DynamoLoad(setting.policy.profile, setting.slos_s, _dynamo_throughput(setting, share), share)


def _arrow(setting: Setting, share: float) -> Arrow:
    return Arrow(setting.fleet_of(share), setting.policy.profile, setting.slos_s)


FLEET = (0.5, 0.75, 1.0, 1.5, 2.0)
SHARE = (1.2, 1.0, 0.8, 0.6, 0.4)

PEERS: Mapping[str, Entry] = {
    "static": Entry("the counts of today, times", FLEET, 1.0, lambda setting, share: Static(setting.fleet_of(share))),
    "hpa-queue": Entry("waiting requests per pod", (20.0, 10.0, 5.0, 2.0, 1.0), 5.0, lambda _, waiting: HpaQueue(waiting)),
    "llmd-token-pd": Entry("share of both thresholds", SHARE, 1.0, _llmd),
    "heteroscale": Entry("share of a decode replica's tokens/s", SHARE, 1.0, _heteroscale),
    "dynamo-throughput": Entry("share of the interpolated rates", SHARE, 1.0, _dynamo_throughput),
    "dynamo-load": Entry("share of the latency targets above an idle engine, and of the rates", SHARE, 1.0, _dynamo_load),
    "arrow": Entry("the counts of today, times, as the fleet that flips", FLEET, 1.0, _arrow),
}
