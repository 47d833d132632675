"""How much load do n replicas of a role carry within its SLO?

Not n times what one carries: waits and crowds even out over a pool, so the tenth replica carries more than the first. Two
laws turn a replica's timing (core/profile.py) and an SLO into replicas, chosen by the role's row in ROLE_FACTS:

QUEUE (prefill): one prompt at a time, so the wait decides (`WaitingLine` of core/queueing.py). Its tail is averaged over
prompt lengths, since a long prompt leaves less of the SLO for waiting: t = SLO - own prefill - KV hand-off - first step.
Lengths are lognormal with the shape's mean and cv2, at POINTS quantiles. Sizing without this wait is the best peer's
best-known failure (reference/peers.md).

BATCH (decode): the step time decides (`SharedStep`). With k tokens resident per request the batch may grow to
B* = min(where a step takes the SLO, 0.95 KV / k, max_seqs), and its mean must leave room for its spread, which is wider by
the root of 1 + cv2 where tokens bind and prompts differ.

Prompts that miss the SLO even alone use up its allowance. At four fifths of it `feasible` ends, and what waiting may cost
grows again with their share: nothing is bought for those whom nothing helps, without a jump at the edge, down to 80 % use
where no prompt can be helped. A step that is too long for one request is so for all: there the jump to 80 % stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from statistics import NormalDist, fmean

from autoscaler.core.fleet import Sizing, SloKind
from autoscaler.core.profile import ReplicaProfile
from autoscaler.core.queueing import Law, SharedStep, WaitingLine, highest

FALLBACK_UTILISATION = 0.8
MAX_UTILISATION = 0.95
KV_USABLE = 0.95
POOLING = 0.9
HOPELESS = 0.8  # the share of the allowed misses above which those that miss alone leave too few to size by
LEAST_CV2 = 0.01  # lengths differ by a tenth at least: of prompts all alike half miss at the very edge, not none or all
POINTS = 16
GRID = math.log(1.02)
_NORMAL = NormalDist()
_QUANTILES = tuple((point + 0.5) / POINTS for point in range(POINTS))
_DEVIATES = tuple(_NORMAL.inv_cdf(share) for share in _QUANTILES)


class Bound(StrEnum):
    """What limits a replica or decides a demand."""

    TTFT = "TTFT"
    TPOT = "TPOT"
    KV = "KV"
    SEQUENCES = "SEQUENCES"
    QUEUE = "QUEUE"
    FORECAST = "FORECAST"
    MEASURED = "MEASURED"


@dataclass(frozen=True, slots=True)
class Slo:
    """A promise: `quantile` (0..1) of requests see at most `threshold_s` seconds."""

    kind: SloKind
    threshold_s: float
    quantile: float


@dataclass(frozen=True, slots=True)
class Shape:
    """The mean request: whole prompt, its cache-missed part, and output, in tokens. `cv2` is the squared coefficient of
    variation of the cache-missed part, `held_tokens` what requests found in decode were seen to hold (core/resident.py), None
    while that is not known.
    """

    prompt_tokens: float
    uncached_tokens: float
    output_tokens: float
    cv2: float = 1.0
    held_tokens: float | None = None

    @property
    def resident_tokens(self) -> float:
        """KV tokens that a request found in decode holds: as seen, else reckoned. Long answers are found there more often:
        where lengths are spread exponentially, which is near what traces show, the one that is found is twice the mean, and
        half through.
        """
        return self.prompt_tokens + self.output_tokens if self.held_tokens is None else self.held_tokens

    def coarse(self) -> Shape:
        """The same to 2 %, so that noise in the means asks for no new sizing and constant load gives constant numbers."""
        prompt, uncached, output = map(_on_grid, (self.prompt_tokens, self.uncached_tokens, self.output_tokens))
        held = None if self.held_tokens is None else _on_grid(self.held_tokens)
        return replace(self, prompt_tokens=prompt, uncached_tokens=uncached, output_tokens=output, held_tokens=held)


def _on_grid(tokens: float) -> float:
    return math.exp(GRID * round(math.log(tokens) / GRID)) if tokens > 0 else tokens


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the replicas of a role carry; `tokens_per_s` and `utilisation` are those of a single one, alone in its pool.

    `max_resident`: the most requests a replica may hold at once (None: no such limit). `feasible=False`: no number of
    replicas meets the SLO for these requests; `best_percentile` (0..1) of them could see it met at the very best.
    """

    law: Law
    max_resident: float | None
    bound: Bound
    feasible: bool
    tokens_per_s: float
    utilisation: float
    best_percentile: float = 1.0

    def replicas(self, tokens_per_s: float) -> float:
        """Replicas, as a fraction on purpose, that carry this load within the SLO."""
        return self.law.replicas(tokens_per_s)

    def carried(self, replicas: float) -> float:
        """Tokens per second that so many replicas carry within the SLO."""
        return self.law.carried(replicas)


@dataclass(slots=True)
class Remembering:
    """A law that works out the replicas of each load once: of one look, which asks for the same few loads again and again."""

    law: Law
    known: dict[float, float] = field(default_factory=dict)

    def replicas(self, tokens_per_s: float) -> float:
        """As the law says."""
        found = self.known.get(tokens_per_s)
        if found is None:
            found = self.known[tokens_per_s] = self.law.replicas(tokens_per_s)
        return found

    def carried(self, replicas: float) -> float:
        """As the law says."""
        return self.law.carried(replicas)


@lru_cache(maxsize=8192)
def capacity(sizing: Sizing, profile: ReplicaProfile, slo: Slo, shape: Shape, pooling: float = POOLING) -> Capacity:
    """What replicas carry of this request shape within this SLO, by the law of the role. `pooling` (0..1): how near
    routing comes to one shared queue.
    """
    return _LAWS[sizing](profile, slo, shape, pooling)


def _queue_law(profile: ReplicaProfile, slo: Slo, shape: Shape, pooling: float) -> Capacity:
    sigma = math.sqrt(math.log(1 + max(LEAST_CV2, shape.cv2)))

    def uncached(deviate: float) -> float:
        return shape.uncached_tokens * math.exp(sigma * deviate - sigma * sigma / 2)

    def slack_s(tokens: float) -> float:
        prompt = shape.prompt_tokens * tokens / shape.uncached_tokens
        own_s = profile.prefill_time_s(tokens) + profile.transfer_time_s(prompt)
        return slo.threshold_s - own_s - profile.step_time_s(1, shape.prompt_tokens)

    helped = _NORMAL.cdf(highest(lambda deviate: slack_s(uncached(deviate - 8)) > 0, 16) - 8)
    service_s = profile.mean_prefill_time_s(shape.uncached_tokens, shape.cv2)
    scale = service_s * (1 + _cv2([profile.prefill_time_s(uncached(deviate)) for deviate in _DEVIATES])) / 2
    slacks_s = [max(0.0, slack_s(uncached(_NORMAL.inv_cdf(max(1e-12, share * helped))))) for share in _QUANTILES]
    allowed, hopeless = 1 - slo.quantile, 1 - helped
    law = WaitingLine(
        tokens=shape.uncached_tokens,
        service_s=service_s,
        decay=tuple(slack / scale for slack in slacks_s),
        helped=helped,
        late=_late(allowed, hopeless),
        most=MAX_UTILISATION - (MAX_UTILISATION - FALLBACK_UTILISATION) * hopeless,
        alone=1.0,
        pooling=pooling,
    )
    law = replace(law, alone=highest(lambda rho: rho * helped * law.outlasts(1 - rho) <= law.late, law.most))
    per_s = law.alone * shape.uncached_tokens / service_s
    return Capacity(law, None, Bound.TTFT, hopeless <= HOPELESS * allowed, per_s, law.alone, helped)


def _late(allowed: float, hopeless: float) -> float:
    """The share of prompts that waiting may make late: what is left of the allowance, then more for every hopeless one."""
    edge = HOPELESS * allowed
    left = allowed - edge
    return max(allowed - hopeless, left + (1 - left) * (hopeless - edge) / (1 - edge))


def _cv2(values: list[float]) -> float:
    mean = fmean(values)
    return fmean([value * value for value in values]) / (mean * mean) - 1


def _batch_law(profile: ReplicaProfile, slo: Slo, shape: Shape, pooling: float) -> Capacity:
    tokens = max(1.0, shape.resident_tokens)

    def step_s(requests: float) -> float:
        return profile.step_time_s(requests, requests * tokens)

    limits = {Bound.KV: KV_USABLE * profile.kv_tokens / tokens, Bound.SEQUENCES: float(profile.max_seqs)}
    reachable = step_s(1.0) <= slo.threshold_s
    feasible = reachable and limits[Bound.KV] >= 1
    if not feasible:
        limits = {bound: FALLBACK_UTILISATION * limit for bound, limit in limits.items()}
    bound = min(limits, key=limits.__getitem__)
    most = max(1.0, limits[bound])
    if feasible and step_s(most) > slo.threshold_s:
        most, bound = highest(lambda requests: step_s(requests) <= slo.threshold_s, most), Bound.TPOT
    slope_s = (step_s(most) - step_s(0.999 * most)) / (0.001 * most)
    floor_s = max(step_s(most) - slope_s * most, 0.1 * step_s(most))
    by_tokens = {Bound.TPOT: (step_s(most) - profile.step_time_s(most, 0.0)) / (slope_s * most), Bound.KV: 1.0}.get(bound, 0.0)
    uneven = math.sqrt(1 + shape.cv2 * (by_tokens * shape.prompt_tokens / tokens) ** 2)
    deviates = max(0.0, _NORMAL.inv_cdf(slo.quantile)) * uneven
    law = SharedStep(profile, tokens, most, slope_s / floor_s, deviates, pooling)
    return Capacity(law, most, bound, feasible, law.carried(1.0), law.mean(1.0) / most, float(feasible))


_LAWS: Mapping[Sizing, Callable[[ReplicaProfile, Slo, Shape, float], Capacity]] = {
    Sizing.QUEUE: _queue_law,
    Sizing.BATCH: _batch_law,
}
