"""Which peers are there, and how is each made for a scenario?

Every peer has one headroom knob with five points, from the least headroom to the most, so that policies are compared by
their frontiers: what attainment costs, and not how happily a constant was chosen. The point as published is among them.

What is no part of a peer's rule is not held against it. A fleet that is never scaled stands from the first second on, and
the one that flips is not begun smaller than the mean load asks for. Whoever reads the engines themselves in its own project
is not made to wait for Prometheus' scrapes, but looks no more often than every 5 s: at 1 s Arrow meets 99.8 % of the moving
ratio with flips in place, at 5 s 99.7 %, and takes four times as long to simulate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from autoscaler.core.capacity import Capacity, Shape, capacity
from autoscaler.core.fleet import ROLE_FACTS, Role, Sizing, SloKind
from autoscaler.core.policy import Policy
from autoscaler.simulator.peers import Peer
from autoscaler.simulator.peers.affordable import affordable
from autoscaler.simulator.peers.arrow import Arrow
from autoscaler.simulator.peers.behavior import ROUNDING
from autoscaler.simulator.peers.dynamo_load import DynamoLoad
from autoscaler.simulator.peers.dynamo_throughput import DynamoThroughput
from autoscaler.simulator.peers.heteroscale import Heteroscale
from autoscaler.simulator.peers.hpa_queue import HpaQueue
from autoscaler.simulator.peers.llmd_token_pd import LlmdTokenPd
from autoscaler.simulator.peers.static import Static
from autoscaler.simulator.run import Scenario


@dataclass(frozen=True, slots=True)
class Setting:
    """What a peer is tuned to beforehand: SLOs and profile, the workload's mean request, the counts of today, the mean rate,
    and the GPUs of a replica (one, where nothing is said).
    """

    policy: Policy
    shape: Shape
    replicas: Mapping[Role, int]
    rps: float = 0.0
    gpus: Mapping[Role, int] = field(default_factory=dict)

    @property
    def slos_s(self) -> Mapping[SloKind, float]:
        """Seconds promised."""
        return {kind: slo.threshold_s for kind, slo in self.policy.slos.items()}

    def law(self, sizing: Sizing) -> Capacity:
        """What one replica of this kind carries of the mean request: what a pressure test would tell."""
        kinds = {facts.sizing: facts.binding_slo for facts in ROLE_FACTS.values()}
        return capacity(sizing, self.policy.profile, self.policy.slos[kinds[sizing]], self.shape)

    def fleet_of(self, share: float) -> Mapping[Role, int]:
        """The counts of today, `share` times, within bounds and budget."""
        return self._lawful(self.replicas, share)

    def carrying(self, share: float) -> Mapping[Role, int]:
        """The same, but of what the mean load asks for where that is more GPUs than today's, and the budget has room for more."""
        if self.policy.gpu_budget is not None and self._cost(self.replicas) >= self.policy.gpu_budget:
            return self.fleet_of(share)
        laws = {role: self.law(ROLE_FACTS[role].sizing) for role in self.replicas}
        needs = {role: self._tokens_per_s(role) / law.tokens_per_s if law.feasible else 0.0 for role, law in laws.items()}
        return self._lawful(max(self.replicas, needs, key=self._cost), share)

    def _tokens_per_s(self, role: Role) -> float:
        tokens: float = getattr(self.shape, ROLE_FACTS[role].work.value)
        return self.rps * tokens

    def _cost(self, counts: Mapping[Role, float]) -> float:
        return sum(count * self.gpus.get(role, 1) for role, count in counts.items())

    def _lawful(self, counts: Mapping[Role, float], share: float) -> Mapping[Role, int]:
        wanted = {role: math.ceil(count * share - ROUNDING) for role, count in counts.items()}
        return affordable(wanted, self.policy, self.gpus, counts)


@dataclass(frozen=True, slots=True)
class Entry:
    """`knob`: what the headroom knob means; `points`: its five values, least headroom first; `published`: the one to begin
    with. `fleet`: what stands from the first second on, None: what the case begins with. `direct`: in its project it reads
    the engines themselves.
    """

    knob: str
    points: tuple[float, float, float, float, float]
    published: float
    make: Callable[[Setting, float], Peer[Any]]
    fleet: Callable[[Setting, float], Mapping[Role, int]] | None = None
    direct: bool = False

    def begins(self, setting: Setting, point: float) -> Mapping[Role, int]:
        """The counts that its run begins with."""
        return setting.replicas if self.fleet is None else self.fleet(setting, point)

    def watched(self, peer: Peer[Any], scenario: Scenario) -> Scenario:
        """The scenario as it sees it, looking no more often than there is something new to see."""
        if self.direct:
            scrape_s = min(scenario.scrape_s, max(peer.interval_s, SIGHT_S))
            scenario = replace(scenario, scrape_s=scrape_s, scrape_delay_s=0.0)
        return replace(scenario, interval_s=max(peer.interval_s, scenario.scrape_s))


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


def _arrow(setting: Setting, _: float) -> Arrow:
    return Arrow(setting.policy.profile, setting.slos_s)


SIGHT_S = 5.0
FLEET = (0.5, 0.75, 1.0, 1.5, 2.0)
SHARE = (1.2, 1.0, 0.8, 0.6, 0.4)

PEERS: Mapping[str, Entry] = {
    "static": Entry(
        "the counts of today, times", FLEET, 1.0, lambda setting, share: Static(setting.fleet_of(share)), Setting.fleet_of
    ),
    "hpa-queue": Entry("waiting requests per pod", (20.0, 10.0, 5.0, 2.0, 1.0), 5.0, lambda _, waiting: HpaQueue(waiting)),
    "llmd-token-pd": Entry("share of both thresholds", SHARE, 1.0, _llmd),
    "heteroscale": Entry("share of a decode replica's tokens/s", SHARE, 1.0, _heteroscale),
    "dynamo-throughput": Entry("share of the interpolated rates", SHARE, 1.0, _dynamo_throughput),
    "dynamo-load": Entry(
        "share of the latency targets above an idle engine, and of the rates", SHARE, 1.0, _dynamo_load, direct=True
    ),
    "arrow": Entry("the fleet that flips, times the counts of today", FLEET, 1.0, _arrow, Setting.carrying, direct=True),
}
