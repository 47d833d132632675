"""How much load does one replica carry within its SLO?

Two laws turn a replica's timing (core/profile.py) and an SLO into tokens per second, chosen by the role's row in ROLE_FACTS:

QUEUE (prefill): one prompt at a time, so the wait decides. With Poisson arrivals the wait of a single server has the
tail P(W > t) = rho * exp(-2 (1 - rho) t / (S (1 + c2))) (Kingman; models.md D at n = 1). The largest utilisation rho
whose tail at t = SLO - own prefill - KV hand-off stays under 1 - q is the capacity. Sizing without this wait is the
best peer's best-known failure (reference/peers.md). S is the mean over prompts, not the time of the mean prompt. Each
replica is sized as its own queue, which is what routing without a shared queue gives; pooling over replicas would allow
more. Against event simulations with a shared queue (models.md D) that is at most one replica more up to 20 requests/s,
and 24 for 21 or 8 for 5 on the largest cases.

BATCH (decode): the step time decides. With k = prompt + output/2 tokens resident per request the batch may grow to
B* = min((SLO - b0) / (b1 + b2 k), 0.95 KV / k, max_seqs), and its mean B must leave room for its own spread:
B + z sqrt(B) <= B*. Little's law makes that B / t(B) tokens per second (models.md D).

Where no size can meet the SLO, or one request outgrows the memory, the answer says so (`feasible=False`) and falls back
to 80 % of what the replica can do at all: when nothing helps, nothing is bought for it. So capacity falls as the SLO
tightens and jumps up again where it cannot be met.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist

from autoscaler.core.fleet import Sizing, SloKind
from autoscaler.core.profile import ReplicaProfile

FALLBACK_UTILISATION = 0.8
MAX_UTILISATION = 0.95
KV_USABLE = 0.95


class Bound(StrEnum):
    """What limits a replica or decides a demand."""

    TTFT = "TTFT"
    TPOT = "TPOT"
    KV = "KV"
    SEQUENCES = "SEQUENCES"
    QUEUE = "QUEUE"
    FORECAST = "FORECAST"


@dataclass(frozen=True, slots=True)
class Slo:
    """A promise: `quantile` (0..1) of requests see at most `threshold_s` seconds."""

    kind: SloKind
    threshold_s: float
    quantile: float


@dataclass(frozen=True, slots=True)
class Shape:
    """The mean request: whole prompt, its cache-missed part, and output, in tokens. `cv2` is the squared coefficient of
    variation of the cache-missed part, taken for that of its prefill time too.
    """

    prompt_tokens: float
    uncached_tokens: float
    output_tokens: float
    cv2: float = 1.0

    @property
    def resident_tokens(self) -> float:
        """KV tokens a request holds in decode, averaged over its stay."""
        return self.prompt_tokens + self.output_tokens / 2


@dataclass(frozen=True, slots=True)
class Capacity:
    """Tokens per second one replica carries, the most requests it may hold at once (None: no such limit), and what
    limits it. `feasible=False`: no number of replicas meets the SLO for this request shape.
    """

    tokens_per_s: float
    max_resident: float | None
    bound: Bound
    feasible: bool
    utilisation: float


def capacity(sizing: Sizing, profile: ReplicaProfile, slo: Slo, shape: Shape) -> Capacity:
    """What one replica carries of this request shape within this SLO, by the law of its role."""
    return _LAWS[sizing](profile, slo, shape)


def _queue_law(profile: ReplicaProfile, slo: Slo, shape: Shape) -> Capacity:
    own_s = profile.mean_prefill_time_s(shape.uncached_tokens, shape.cv2)
    first_step_s = profile.step_time_s(1, shape.prompt_tokens)
    slack_s = slo.threshold_s - own_s - profile.transfer_time_s(shape.prompt_tokens) - first_step_s
    feasible = slack_s > 0
    rho = _highest_utilisation(slack_s / (own_s * (1 + shape.cv2)), 1 - slo.quantile) if feasible else FALLBACK_UTILISATION
    return Capacity(rho * max(1.0, shape.uncached_tokens) / own_s, None, Bound.TTFT, feasible, rho)


def _highest_utilisation(slack_in_services: float, missed: float) -> float:
    """The largest rho with rho * exp(-2 (1 - rho) x) <= missed; the tail grows with rho, so bisect (1e-6)."""
    low, high = 0.0, MAX_UTILISATION
    if high * math.exp(-2 * (1 - high) * slack_in_services) <= missed:
        return high
    for _ in range(20):
        rho = (low + high) / 2
        low, high = (rho, high) if rho * math.exp(-2 * (1 - rho) * slack_in_services) <= missed else (low, rho)
    return low


def _batch_law(profile: ReplicaProfile, slo: Slo, shape: Shape) -> Capacity:
    b0, b1, b2 = profile.decode_s
    tokens = max(1.0, shape.resident_tokens)
    limits = {
        Bound.TPOT: (slo.threshold_s - b0) / (b1 + b2 * tokens),
        Bound.KV: KV_USABLE * profile.kv_tokens / tokens,
        Bound.SEQUENCES: float(profile.max_seqs),
    }
    feasible = limits[Bound.TPOT] >= 1 and limits[Bound.KV] >= 1
    if not feasible:
        limits = {bound: FALLBACK_UTILISATION * limit for bound, limit in limits.items() if bound is not Bound.TPOT}
    bound = min(limits, key=limits.__getitem__)
    most = max(1.0, limits[bound])
    mean = _mean_below(most, slo.quantile)
    return Capacity(mean / profile.step_time_s(mean, mean * tokens), most, bound, feasible, mean / most)


def _mean_below(most: float, quantile: float) -> float:
    """The mean B whose B + z sqrt(B) is `most`. At most = 64, q = .95: B = 52.1, for 52.1 + 1.645 * 7.22 = 64.0."""
    z = max(0.0, NormalDist().inv_cdf(quantile))
    return ((math.sqrt(z * z + 4 * most) - z) / 2) ** 2


_LAWS: Mapping[Sizing, Callable[[ReplicaProfile, Slo, Shape], Capacity]] = {
    Sizing.QUEUE: _queue_law,
    Sizing.BATCH: _batch_law,
}
