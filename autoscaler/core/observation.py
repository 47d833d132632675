"""What was seen, how old is it, and may it be believed?

An `Observation` is one immutable picture of one instant: the fleet, per-pod gauges, and per-role histograms. What is
not known is a value too (`Unknown`, with the reason), never a zero and never an exception: an empty query is not
"no load" (keda#3065 took fleets to the floor at peak that way; reference/peers.md 5).

Gauges come per pod and are mapped to roles here, through the fleet's live replicas, which stays right while a pod
flips. Histograms come already summed by `le` and role (reference/engines.md C.0).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from autoscaler.core.door import Door
from autoscaler.core.fleet import Fleet, Phase, Role


class Gap(StrEnum):
    """Why something is not known."""

    MISSING = "missing"  # the query answered, but with nothing for us
    STALE = "stale"  # the newest sample is older than the policy believes
    NOT_A_NUMBER = "not_a_number"  # NaN or infinity
    UNREACHABLE = "unreachable"  # connection refused, reset, or no such host
    TIMEOUT = "timeout"  # no answer in time
    SERVER_ERROR = "server_error"  # the server said no (HTTP 4xx, 5xx)
    MALFORMED = "malformed"  # an answer nobody can read
    INCOMPLETE = "incomplete"  # the server itself warned that parts are missing
    AMBIGUOUS = "ambiguous"  # the answer cannot be told apart from another fleet's


@dataclass(frozen=True, slots=True)
class Known:
    """A number with its age in seconds."""

    value: float
    age_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Unknown:
    """No number, why, and the detail an operator needs (one line)."""

    gap: Gap
    detail: str = ""


Reading = Known | Unknown
NOT_ASKED = Unknown(Gap.MISSING, "not asked for")


@dataclass(frozen=True, slots=True)
class Histogram:
    """Cumulative counts per upper edge over one window, as Prometheus keeps them: `edges` ascending, last one +Inf.

    Counts are requests (or tokens) in the window, not per second, so `samples` can be held against a minimum. `total` is
    the sum of what was observed, None where the source keeps none.
    """

    edges: tuple[float, ...]
    counts: tuple[float, ...]
    total: float | None = None

    @property
    def samples(self) -> float:
        """Observations in the window."""
        return self.counts[-1] if self.counts else 0.0

    @property
    def mean(self) -> float | None:
        """The mean of what was observed; None without samples or without their sum."""
        return self.total / self.samples if self.total is not None and self.samples > 0 else None

    def quantile(self, q: float) -> float | None:
        """The q-quantile (0..1), linear inside a bucket as `histogram_quantile` does; None without samples.

        In the +Inf bucket the highest finite edge is returned, a lower bound (reference/engines.md C.0).
        """
        rank = q * self.samples
        if self.samples <= 0:
            return None
        lower_edge, lower_count = 0.0, 0.0
        for edge, count in zip(self.edges, self.counts, strict=True):
            if count >= rank and count > lower_count:
                if math.isinf(edge):
                    return lower_edge
                return lower_edge + (edge - lower_edge) * (rank - lower_count) / (count - lower_count)
            lower_edge, lower_count = (lower_edge if math.isinf(edge) else edge), count
        return lower_edge

    def share_within(self, threshold: float) -> tuple[float, float] | None:
        """Share of observations at or below `threshold`, as (at least, at most); None without samples.

        Both are equal when `threshold` is an edge. A TPOT SLO of 40 ms between the vLLM edges 25 and 50 ms gives the
        shares at those two edges: nothing in between can be known from buckets.
        """
        if self.samples <= 0:
            return None
        at_least = max((c for e, c in zip(self.edges, self.counts, strict=True) if e <= threshold * (1 + 1e-9)), default=0.0)
        at_most = min(
            (c for e, c in zip(self.edges, self.counts, strict=True) if e >= threshold * (1 - 1e-9)), default=self.samples
        )
        return at_least / self.samples, at_most / self.samples


@dataclass(frozen=True, slots=True)
class Gauges:
    """One pod at one scrape: requests waiting and running, KV use (0..1), and the age of that scrape. `deferred` wait too, but
    for another role's memory or for the transfer and not for this pod's own work: they are not among `waiting`.
    """

    waiting: float
    running: float
    kv_usage: float
    age_s: float
    deferred: float = 0.0

    @classmethod
    def told(cls, waiting: float, running: float, kv_usage: float, age_s: float, deferred: float = 0.0) -> Gauges:
        """What an engine tells, with those deferred whom it takes for waiting.

        A pod whose memory is full though it runs nothing stands still until another role fetches what it holds, or fills what
        it has promised, whatever name its engine has for the queue (vLLM: "capacity"). Full is over half: what waits is a
        prompt, and few need more than the other half. An engine that hangs with its memory empty is no such pod.
        """
        if waiting > 0 and running == 0 and kv_usage > 0.5:
            return cls(0.0, running, kv_usage, age_s, deferred + waiting)
        return cls(waiting, running, kv_usage, age_s, deferred)


@dataclass(frozen=True, slots=True)
class RoleSignals:
    """What one role's pods report together: engine-side latency, and the work one request brings to this role.

    `tokens_per_request` counts cache-missed prompt tokens for prefill and generated tokens for decode. `service` is how long
    the work itself takes, waiting excluded: one prompt's prefill, one decode step. It is there for its mean; a source may tell
    count and sum alone, and its edges then say nothing.
    """

    latency: Histogram | Unknown = NOT_ASKED
    tokens_per_request: Reading = NOT_ASKED
    service: Histogram | Unknown = NOT_ASKED


@dataclass(frozen=True, slots=True)
class Traffic:
    """What users send. `offered_rps` is what arrives, not what completes; `source` says how it was had.

    `prompt_tokens` is the whole prompt, cached part included: that is what occupies KV in decode. `rejected_rps` was turned
    away before it could be counted in `offered_rps`: first attempts only, less those that were let in at a later one. `held`
    requests wait in the gateway, in front of all pods; `direct_share` (0..1) of those that pass it go to decode without a prefill
    pod. `door`: what sidecars say, for people to see; None where none does.
    """

    offered_rps: Reading = NOT_ASKED
    source: str = ""
    ttft: Histogram | Unknown = NOT_ASKED
    prompt_tokens: Reading = NOT_ASKED
    rejected_rps: Reading = NOT_ASKED
    held: Reading = NOT_ASKED
    direct_share: Reading = NOT_ASKED
    door: Door | None = None


@dataclass(frozen=True, slots=True)
class Signals:
    """Everything a signal source says about one fleet at one instant."""

    gauges: Mapping[str, Gauges] | Unknown
    roles: Mapping[Role, RoleSignals] = field(default_factory=dict)
    traffic: Traffic = Traffic()

    @classmethod
    def unknown(cls, gap: Gap, detail: str) -> Signals:
        """A reading that failed as a whole."""
        gone = Unknown(gap, detail)
        return cls(gone, {role: RoleSignals(gone, gone, gone) for role in Role}, Traffic(gone, "", gone, gone, gone, gone, gone))


@dataclass(frozen=True, slots=True)
class Freshness:
    """Which readings are believed. `max_age_s`: three lost scrapes of 15 s. `grace_s`: a new pod's first scrapes."""

    max_age_s: float = 45.0
    grace_s: float = 45.0
    min_samples: int = 30


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of a pool reported freshly: the sums over `reporting` pods, out of `expected`; of `kv_usage` the mean.

    `unknown` tells why nothing or not everything is known; None when all expected pods reported.
    """

    expected: int
    reporting: int
    waiting: float
    running: float
    kv_usage: float
    age_s: float
    unknown: Unknown | None
    deferred: float = 0.0


@dataclass(frozen=True, slots=True)
class Observation:
    """One picture of one instant; `now` in seconds on the controller's clock."""

    now: float
    fleet: Fleet
    signals: Signals

    def coverage(self, role: Role, freshness: Freshness) -> Coverage:
        """Sum a role's gauges over its serving pods. A pod still within its grace may be silent without blame."""
        gauges = self.signals.gauges
        serving = self.fleet.pools[role].in_phase(Phase.SERVING)
        if isinstance(gauges, Unknown):
            return Coverage(len(serving), 0, 0.0, 0.0, 0.0, math.inf, gauges)
        fresh, garbled, stale, silent = [], [], [], []
        for replica in serving:
            gauge = gauges.get(replica.name)
            if gauge is None:
                if self.now - replica.since_s > freshness.grace_s:
                    silent.append(replica.name)
            elif not math.isfinite(gauge.waiting + gauge.running):
                garbled.append(replica.name)
            elif gauge.age_s <= freshness.max_age_s:
                fresh.append(gauge)
            else:
                stale.append(replica.name)
        return Coverage(
            expected=len(fresh) + len(garbled) + len(stale) + len(silent),
            reporting=len(fresh),
            waiting=sum(gauge.waiting for gauge in fresh),
            running=sum(gauge.running for gauge in fresh),
            kv_usage=sum(gauge.kv_usage for gauge in fresh) / len(fresh) if fresh else 0.0,
            age_s=max((gauge.age_s for gauge in fresh), default=math.inf),
            unknown=_why_partial(len(serving), len(fresh), garbled, stale, silent, freshness),
            deferred=sum(gauge.deferred for gauge in fresh),
        )


def _why_partial(
    serving: int, fresh: int, garbled: list[str], stale: list[str], silent: list[str], freshness: Freshness
) -> Unknown | None:
    if garbled:
        return Unknown(Gap.NOT_A_NUMBER, f"{len(garbled)} of {serving} pods report no number, first {min(garbled)}")
    if stale:
        return Unknown(Gap.STALE, f"{len(stale)} of {serving} pods older than {freshness.max_age_s:g} s, first {min(stale)}")
    if silent:
        return Unknown(Gap.MISSING, f"{len(silent)} of {serving} pods report nothing, first {min(silent)}")
    if not fresh:
        return Unknown(Gap.MISSING, f"none of {serving} new pods has reported yet" if serving else "no replica serves")
    return None


def believable(reading: Reading, freshness: Freshness) -> Reading:
    """The reading itself, or why it may not be used: not finite, below zero (all are counts), or older than `max_age_s`."""
    if isinstance(reading, Unknown):
        return reading
    if not math.isfinite(reading.value):
        return Unknown(Gap.NOT_A_NUMBER, f"value {reading.value}")
    if reading.value < 0:
        return Unknown(Gap.MALFORMED, f"value {reading.value:g} is below zero")
    if not reading.age_s <= freshness.max_age_s:
        return Unknown(Gap.STALE, f"{reading.age_s:.0f} s old, believed up to {freshness.max_age_s:g} s")
    return reading
