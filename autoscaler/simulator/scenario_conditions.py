"""Under which conditions does a scenario's fleet work?

    conditions:
      routing: prefix-affinity            # routing.py: round-robin, least-loaded, pending-tokens, prefix-affinity
      handover: push                      # fleet_spec.py: pull or push
      networkBytesPerSecond: 5.0e+10      # what all KV transfers share; null: each has its replica's link for itself
      cacheTokens: 2000000                # prefix cache of each prefill replica; 0: the requests say what is cached
      gatewayHoldsAbove: 16               # requests per replica of the first pool beyond which the gateway holds the others
      drainDeadlineSeconds: 600           # what is not finished by then fails; null: a drain takes what it takes
      startUpSigma: 0.5                   # of the lognormal cold start; 0: always the median
      scrapeSeconds: 30                   # how often Prometheus looks, and how late that shows
      scrapeDelaySeconds: 15
      retries: {most: 2}                  # clients.py: the retries of OpenAI's SDK; without it nobody tries again
      sidecars: {count: 4, strategy: predictive}    # sidecars.py: early rejection as this product does it; without it nobody does
      nodes: {ready: 2, most: 6, gpus: 8, delaySeconds: 120, quotaGpus: 40}    # provisioning.py; without it there is always room
      replicaLosses: [{atSeconds: 900, role: decode}]                          # losses.py
      nodeLosses: [{atSeconds: 1800}]

What is not written is as easy as it can be, which is what the built-in scenarios are judged under.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import inf
from typing import Annotated, Any, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from autoscaler.core.capacity import Slo
from autoscaler.core.fleet import Role, SloKind
from autoscaler.core.outlook import Strategy
from autoscaler.core.qos import Promise, QosClass
from autoscaler.core.rejection import RejectionMode, Rules
from autoscaler.policy.fields import Objection, Section, at_least, default_of, refuse
from autoscaler.policy.rejection import EVERYBODY
from autoscaler.simulator.clients import NEVER, Retries
from autoscaler.simulator.fleet_spec import FleetSpec, Handover
from autoscaler.simulator.losses import Loss, NodeLoss, ReplicaLoss
from autoscaler.simulator.pool_setting import StartUp
from autoscaler.simulator.provisioning import NodeSpec
from autoscaler.simulator.routing import Routing
from autoscaler.simulator.run import Scenario
from autoscaler.simulator.sidecars import SidecarSpec

MOST_LOSSES = 1_000
Sigma = Annotated[float, Field(ge=0.0, le=2.0)]
At = Annotated[float, Field(ge=0.0, le=2e6)]


class RetriesSpec(Section):
    """How users' clients try again."""

    most: int = Field(default_of(Retries, "most"), ge=0, le=20)
    first_wait_seconds: float = Field(default_of(Retries, "first_wait_s"), ge=0.0, le=600.0)
    longest_wait_seconds: float = Field(default_of(Retries, "longest_wait_s"), ge=0.0, le=3600.0)
    jitter: float = Field(default_of(Retries, "jitter"), ge=0.0, le=1.0)

    def core(self) -> Retries:
        """The same for a fleet."""
        return Retries(**self.for_core())


class NodesSpec(Section):
    """The nodes that the fleet may use."""

    ready: int = Field(ge=0, le=10_000)
    most: int = Field(ge=1, le=10_000)
    gpus: int = Field(default_of(NodeSpec, "gpus"), ge=1, le=64)
    delay_seconds: float = Field(default_of(NodeSpec, "delay").median_s, ge=0.0, le=36_000.0)
    delay_sigma: Sigma = default_of(NodeSpec, "delay").sigma
    idle_seconds: float = Field(default_of(NodeSpec, "idle_s"), ge=0.0, le=1e6)
    quota_gpus: int | None = Field(None, ge=1, le=1_000_000)

    @field_validator("most")
    @classmethod
    def _in_order(cls, most: int, info: ValidationInfo) -> int:
        ready = info.data.get("ready", 0)
        at_least(most, ready, f"ready {ready}", 10_000)
        return most

    def core(self) -> NodeSpec:
        """The same for a fleet."""
        told = self.for_core("ready", "most", "gpus", "idle_seconds", "quota_gpus")
        return NodeSpec(**told, delay=StartUp(self.delay_seconds, self.delay_sigma))


class SidecarsSpec(Section):
    """How many sidecars judge, and how; all requests are of one class, with the scenario's promises."""

    count: int = Field(default_of(SidecarSpec, "count"), ge=1, le=1_000)
    strategy: Annotated[Strategy, Field(strict=False)] = default_of(Rules, "strategy")
    margin: float = Field(default_of(Rules, "margin"), ge=-0.9, le=1.0)
    sureness: float = Field(default_of(Rules, "sureness"), ge=0.5, le=0.999)
    may_retry: bool = default_of(QosClass, "may_retry")

    def core(self, slos: Mapping[SloKind, Slo]) -> SidecarSpec:
        """The same for a fleet that has promised this."""
        seconds = {kind: slo.threshold_s for kind, slo in slos.items()}
        promises = {kind: Promise(each_s, each_s, each_s, slos[kind].quantile) for kind, each_s in seconds.items()}
        everybody = QosClass(EVERYBODY, promises, may_retry=self.may_retry)
        told = self.for_core("strategy", "margin", "sureness")
        return SidecarSpec(Rules({EVERYBODY: everybody}, EVERYBODY, RejectionMode.ENFORCE, **told), self.count)


class ReplicaLossSpec(Section):
    """A serving replica that dies."""

    at_seconds: At
    role: Annotated[Role, Field(strict=False)]


class NodeLossSpec(Section):
    """A node that dies with every replica on it."""

    at_seconds: At


class ConditionsSpec(Section):
    """What a scenario's fleet has to cope with, and how requests and KV go through it."""

    routing: Annotated[Routing, Field(strict=False)] = default_of(FleetSpec, "routing")
    handover: Annotated[Handover, Field(strict=False)] = default_of(FleetSpec, "handover")
    network_bytes_per_second: float | None = Field(None, ge=1e6, le=1e15)
    cache_tokens: int = Field(default_of(FleetSpec, "cache_tokens"), ge=0, le=10**10)
    gateway_holds_above: int | None = Field(None, ge=1, le=100_000)
    drain_deadline_seconds: float | None = Field(None, ge=0.0, le=36_000.0)
    start_up_sigma: Sigma = default_of(StartUp, "sigma")
    scrape_seconds: float = Field(default_of(Scenario, "scrape_s"), ge=1.0, le=300.0)
    scrape_delay_seconds: float = Field(default_of(Scenario, "scrape_delay_s"), ge=0.0, le=600.0)
    retries: RetriesSpec | None = None
    sidecars: SidecarsSpec | None = None
    nodes: NodesSpec | None = None
    replica_losses: list[ReplicaLossSpec] = Field(default_factory=list, max_length=MOST_LOSSES)
    node_losses: list[NodeLossSpec] = Field(default_factory=list, max_length=MOST_LOSSES)

    @model_validator(mode="after")
    def _on_nodes(self) -> Self:
        if self.node_losses and self.nodes is None:
            refuse([Objection(("nodeLosses",), "no node can die where none are told (allowed: only with nodes)")])
        return self

    def refuse_unfit(self, gpus: Mapping[Role, int], start: Mapping[Role, int]) -> None:
        """Refuse nodes that cannot carry the fleet as it begins, for a validator: GPUs per replica, and replicas, by role."""
        if self.nodes is None:
            return
        large = max(gpus.values())
        at_least(self.nodes.gpus, large, f"the {large} GPUs of one replica", 64, "nodes", "gpus")
        needed = sum(gpus[role] * start[role] for role in gpus)
        room = self.nodes.most * self.nodes.gpus
        if needed > min(room, self.nodes.quota_gpus or room):
            text = f"the pools start with {needed} GPUs, more than the nodes and the quota allow"
            refuse([Objection(("nodes",), f"{text} (allowed: most x gpus and quotaGpus of at least {needed})")])

    def applied(self, scenario: Scenario) -> Scenario:
        """The scenario under these conditions. One with a rejection of its own has no sidecars: scenario_file.py refuses both."""
        sidecars = None if self.sidecars is None else self.sidecars.core(scenario.slos)
        return replace(
            scenario,
            fleet=replace(scenario.fleet, **self._of_fleet(scenario.fleet), sidecars=sidecars),
            scrape_s=self.scrape_seconds,
            scrape_delay_s=self.scrape_delay_seconds,
        )

    def _of_fleet(self, fleet: FleetSpec) -> dict[str, Any]:
        losses: list[Loss] = [ReplicaLoss(loss.at_seconds, loss.role) for loss in self.replica_losses]
        losses += [NodeLoss(loss.at_seconds) for loss in self.node_losses]
        return {
            **self.for_core("routing", "handover", "cache_tokens", "gateway_holds_above"),
            "network_bytes_per_s": self.network_bytes_per_second,
            "drain_deadline_s": inf if self.drain_deadline_seconds is None else self.drain_deadline_seconds,
            "start_up": replace(fleet.start_up, sigma=self.start_up_sigma),
            "retries": NEVER if self.retries is None else self.retries.core(),
            "nodes": None if self.nodes is None else self.nodes.core(),
            "losses": tuple(losses),
        }
