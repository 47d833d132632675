"""What does the controller see of a simulated fleet? As much as Prometheus would show, and no more.

Every `scrape_s` of virtual time the gauges, counters and histograms of each replica that answers are copied. Between
scrapes nothing changes for the reader; a query at `now` sees the copies of the last `window_s` (left end excluded):

    gauges        from the newest scrape, with its age
    histograms    per pod newest - oldest copy in the window, summed over the role's pods
    service       the same, but only its count and sum: the edges that engines have for it tell nothing
    offered_rps   (newest - oldest) arrivals / the time between them at the gateway; without a gateway the requests
                  that the first role completed plus the change of its waiting + running, over the same time
    rejected_rps  what the sidecar turned away at a first try less what it let in at a later one, over the same time

A scrape shows `delay_s` after it was made (remote write, rule evaluation), with the age it has by then; between the two
the reader sees the one before, of gauges, rates and latencies alike. The fleet itself, which replicas there are and in
which phase, is not Prometheus' to tell and is read without delay (cluster.py).

Queries name the pods that the fleet has now, so what one did that is gone counts no longer, nor what one did that has had
another role within the window. One that came within it counts from its first copy on, as `increase` does without its
extrapolation: counts are smaller by the ends of the window (45 s of 60 are between its first scrape and its last), shares and
means are the same (tests/e2e/test_sampling_on_prometheus.py). Fewer than two copies give no rate: Unknown, not zero.

Faults to test with: `blind` (the query fails) and `freeze` (no scrapes, so everything ages).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import accumulate

from autoscaler.core.fleet import ROLE_FACTS, Role, Sizing, SloKind, Work
from autoscaler.core.observation import Gap, Gauges, Histogram, Known, Reading, RoleSignals, Signals, Traffic, Unknown
from autoscaler.ports import FleetScope
from autoscaler.simulator.engine import Engine
from autoscaler.simulator.metrics import Buckets, GatewayMetrics, Occupancy, ReplicaMetrics

LOOKBACK_S = 300.0  # Prometheus shows a vanished target's last sample this long, unless the target said goodbye
KEPT_S = 900.0

_LATENCY: Mapping[SloKind, Callable[[ReplicaMetrics], Buckets]] = {
    SloKind.TTFT: lambda metrics: metrics.ttft_s,
    SloKind.TPOT: lambda metrics: metrics.tpot_s,
}
_WORK: Mapping[Work, Callable[[ReplicaMetrics], Buckets]] = {
    Work.UNCACHED_PROMPT: lambda metrics: metrics.kv_computed,
    Work.OUTPUT: lambda metrics: metrics.generation,
}
_SERVICE: Mapping[Sizing, Callable[[ReplicaMetrics], Buckets]] = {
    Sizing.QUEUE: lambda metrics: metrics.prefill_s,
    Sizing.BATCH: lambda metrics: metrics.itl_s,
}


@dataclass(frozen=True, slots=True)
class _PodCopy:
    """One pod at one scrape."""

    role: Role
    gauges: Gauges
    metrics: ReplicaMetrics


@dataclass(frozen=True, slots=True)
class _Scrape:
    """Everything that answered at one instant."""

    at_s: float
    pods: Mapping[str, _PodCopy]
    gateway: GatewayMetrics


class SampledSignals:
    """A `SignalSource` over an engine. `scrape` must be called every `scrape_s` of the engine's time."""

    def __init__(self, engine: Engine, scrape_s: float = 15.0, delay_s: float = 0.0) -> None:
        self.scrape_s, self.delay_s = scrape_s, delay_s
        self._engine = engine
        self._scrapes: deque[_Scrape] = deque()
        self._blind_until_s = self._frozen_until_s = -math.inf

    def scrape(self) -> None:
        """Copy what can be scraped now; nothing while scraping is blind or frozen."""
        now = self._engine.now
        if now < max(self._blind_until_s, self._frozen_until_s):
            return
        self._engine.refresh()
        pods = {
            replica.name: _PodCopy(role, _gauges(replica.occupancy()), replica.server.metrics.copy())
            for role, pool in self._engine.pools.items()
            for replica in pool.exposed()
        }
        self._scrapes.append(_Scrape(now, pods, self._engine.gateway.copy()))
        while self._scrapes[0].at_s < now - KEPT_S:
            self._scrapes.popleft()

    def blind(self, until_s: float) -> None:
        """Prometheus is gone until then: it neither scrapes nor answers."""
        self._blind_until_s = until_s

    def freeze(self, until_s: float) -> None:
        """Prometheus answers but does not scrape until then."""
        self._frozen_until_s = until_s

    def read(self, scopes: Sequence[FleetScope], now: float) -> Iterable[Mapping[str, Signals]]:
        """The signals of the one fleet there is, for every scope that asks for it."""
        return ({scope.key: self._read(scope, now) for scope in scopes},)

    def _read(self, scope: FleetScope, now: float) -> Signals:
        if now < self._blind_until_s:
            return Signals.unknown(Gap.UNREACHABLE, f"blind until {self._blind_until_s:g} s")
        if scope.key != self._engine.spec.key:
            return Signals.unknown(Gap.MISSING, f"no fleet {scope.key!r} here, only {self._engine.spec.key!r}")
        visible = [scrape for scrape in self._scrapes if scrape.at_s + self.delay_s <= now]
        window = _Window([scrape for scrape in visible if now - scope.window_s < scrape.at_s], now, scope)
        return Signals(
            gauges=_gauges_at(visible, now, {pod for pods in scope.pods.values() for pod in pods}),
            roles={role: window.role_signals(role) for role in scope.pods},
            traffic=window.traffic_at_gateway() if scope.gateway else window.traffic_at_pods(next(iter(self._engine.pools))),
        )


class _Window:
    """The scrapes of one rate window, oldest first."""

    def __init__(self, scrapes: list[_Scrape], now: float, scope: FleetScope) -> None:
        self.scrapes, self._scope = scrapes, scope
        self.age_s = now - scrapes[-1].at_s if scrapes else math.inf
        self.span_s = scrapes[-1].at_s - scrapes[0].at_s if scrapes else 0.0
        self.too_few = Unknown(Gap.MISSING, f"{len(scrapes)} scrapes in the window, 2 are needed")

    def role_signals(self, role: Role) -> RoleSignals:
        """The latency that binds this role, and the work one request brings it."""
        facts = ROLE_FACTS[role]
        pods = self._pods(role)
        return RoleSignals(
            latency=self._histogram(_increase(pods, _LATENCY[facts.binding_slo])),
            tokens_per_request=self._mean(_increase(pods, _WORK[facts.work])),
            service=self._count_and_sum(_increase(pods, _SERVICE[facts.sizing])),
        )

    def traffic_at_gateway(self) -> Traffic:
        """What the gateway counted."""
        if self.span_s == 0:
            return Traffic(self.too_few, "gateway", self.too_few, self.too_few, self.too_few)
        old, new = self.scrapes[0].gateway, self.scrapes[-1].gateway
        return Traffic(
            offered_rps=Known((new.let_in - old.let_in) / self.span_s, self.age_s),
            source="gateway",
            ttft=self._histogram(new.ttft_s.since(old.ttft_s)),
            prompt_tokens=self._prompt_tokens(),
            rejected_rps=self._rejected_rps(),
        )

    def traffic_at_pods(self, entry: Role) -> Traffic:
        """What the pods of the first role tell together. Users' TTFT is in no engine's histogram."""
        pods = self._pods(entry)
        no_gateway = Unknown(Gap.MISSING, "no gateway")
        if not pods:
            return Traffic(self.too_few, "completions", no_gateway, self.too_few, self.too_few)
        arrived = sum(_held(new) + new.metrics.completed - _held(old) - old.metrics.completed for old, new in pods)
        return Traffic(
            offered_rps=Known(max(0.0, arrived / self.span_s), self.age_s),
            source="completions",
            ttft=no_gateway,
            prompt_tokens=self._prompt_tokens(),
            rejected_rps=self._rejected_rps(),
        )

    def _prompt_tokens(self) -> Reading:
        """As the metric profile asks for it: of what the last role finished, or the one before where that has no pods."""
        found = (_increase(self._pods(role), lambda metrics: metrics.prompt) for role in reversed(tuple(self._scope.pods)))
        return self._mean(next((increase for increase in found if increase is not None), None))

    def _rejected_rps(self) -> Reading:
        old, new = self.scrapes[0].gateway, self.scrapes[-1].gateway
        return Known(max(0.0, (new.unseen - old.unseen) / self.span_s), self.age_s)

    def _pods(self, role: Role) -> list[tuple[_PodCopy, _PodCopy]]:
        """First and last copy of each pod that a role has now and that was scraped at least twice."""
        ends: dict[str, tuple[_PodCopy, _PodCopy]] = {}
        asked = [name for name in self._scope.pods.get(role, ()) if name not in self._scope.moved]
        for scrape in self.scrapes:
            for name in asked:
                copy = scrape.pods.get(name)
                if copy is not None and copy.role is role:
                    ends[name] = (ends[name][0] if name in ends else copy, copy)
        return [(old, new) for old, new in ends.values() if old is not new]

    def _histogram(self, increase: Buckets | None) -> Histogram | Unknown:
        if increase is None:
            return self.too_few
        return Histogram((*increase.edges, math.inf), tuple(accumulate(increase.counts)), increase.total)

    def _count_and_sum(self, increase: Buckets | None) -> Histogram | Unknown:
        return self.too_few if increase is None else Histogram((math.inf,), (increase.samples,), increase.total)

    def _mean(self, increase: Buckets | None) -> Reading:
        if increase is None:
            return self.too_few
        if increase.samples == 0:
            return Unknown(Gap.MISSING, "no request was finished in the window")
        return Known(increase.total / increase.samples, self.age_s)


def _increase(pods: list[tuple[_PodCopy, _PodCopy]], pick: Callable[[ReplicaMetrics], Buckets]) -> Buckets | None:
    """What all these pods observed in the window; None without pods."""
    grown = [pick(new.metrics).since(pick(old.metrics)) for old, new in pods]
    return reduce(Buckets.plus, grown) if grown else None


def _held(copy: _PodCopy) -> float:
    return copy.gauges.waiting + copy.gauges.deferred + copy.gauges.running


def _gauges(occupancy: Occupancy) -> Gauges:
    """Waiting for room is what calls for replicas; waiting for KV to arrive is the link's affair (engines.md C.1)."""
    return Gauges.told(occupancy.waiting, occupancy.running, occupancy.kv_usage, 0.0, occupancy.deferred)


def _gauges_at(visible: Sequence[_Scrape], now: float, asked: Collection[str]) -> Mapping[str, Gauges] | Unknown:
    newest = visible[-1] if visible else None
    if newest is None or now - newest.at_s > LOOKBACK_S:
        return Unknown(Gap.MISSING, f"no scrape within {LOOKBACK_S:g} s")
    age_s = now - newest.at_s
    return {name: replace(copy.gauges, age_s=age_s) for name, copy in newest.pods.items() if name in asked}
